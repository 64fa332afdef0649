"""Designs and truths for the laws of `analysis.laws.vocabulary`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from analysis.laws.vocabulary import COMPRESSION
from tests.analysis.simulate import Example

# Tao et al. 2024, approach 3, in millions of parameters and 10^9 tokens.
PUBLISHED = {"E": 5.53278, "A1": 1.83139, "A2": 0.195842, "B": 2.12411, "alpha1": 0.446606, "alpha2": 0.670737}


def in_units(published: dict[str, float]) -> dict[str, float]:
    """The same law by single parameters and tokens."""
    return published | {
        "A1": published["A1"] * 1e6 ** published["alpha1"],
        "A2": published["A2"] * 1e6 ** published["alpha2"],
        "B": published["B"] * 1e9 ** published["alpha1"],
    }


TRUTH = in_units(PUBLISHED)

# Non-vocabulary parameters, width: the models of the paper, and smaller ones as one would train on a desk.
PAPER_MODELS = ((33.2e6, 512), (84.8e6, 768), (150.8e6, 768), (316.4e6, 1024), (631.7e6, 1536), (1129.9e6, 2048))
SMALL_MODELS = ((1e6, 128), (3e6, 192), (10e6, 256), (30e6, 512), (100e6, 768))
PAPER_VOCABULARIES = (4096, 6144, 8192, 10240, 16384, 24576, 32768, 48128, 64512, 96256)
SMALL_VOCABULARIES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


def grid(
    models: tuple[tuple[float, int], ...], vocabularies: tuple[int, ...], chars: tuple[float, ...]
) -> dict[str, Any]:
    """Every vocabulary in every model, evaluated after each number of characters."""
    rows = [(n, d, v, h) for (n, d), v, h in itertools.product(models, vocabularies, chars)]
    n_non_vocab, width, vocab_size, n_chars = np.array(rows, dtype=float).T
    return {
        "n_params_non_vocab": n_non_vocab,
        "n_params_vocab": vocab_size * width,
        "vocab_size": vocab_size,
        "n_chars": n_chars,
    }


def small_models(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    return grid(SMALL_MODELS, SMALL_VOCABULARIES, tuple(np.geomspace(1e9, 3e11, 8)))


def own_tokenisers(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """Tokenisers of 28 sizes, each measured on five texts."""
    return {"vocab_size": np.geomspace(256, 131072, 28).round().repeat(5)}


EXAMPLES: tuple[Example, ...] = (
    Example(
        law="vocabulary",
        truth=TRUTH,
        table=small_models,
        noise=0.01,
        fit={"delta": 0.01},
        tolerance={"default": 0.1, "A1": 0.3, "A2": 0.3, "B": 0.3},
    ),
    Example(law="compression", truth=COMPRESSION, table=own_tokenisers, noise=2e-3, tolerance={"default": 0.2}),
)

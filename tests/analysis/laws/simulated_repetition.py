"""Designs and truths for the laws of repetition."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.analysis.simulate import Example

# Muennighoff et al. 2023 (arXiv 2305.16264), C4: the law of one-epoch runs, and what repetition adds.
BASE = {
    "E": float(np.exp(0.6254804)),
    "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
WORTH = {"R_D": 15.387756, "R_N": 5.309743}


def _sweep(_: np.random.Generator) -> dict[str, Any]:
    """Sizes on both sides of the optimum for each amount of unique data, and few to many epochs."""
    per_token = [0.01, 0.03, 0.1, 0.3, 1.0]
    unique, epochs, ratio = np.meshgrid([1e8, 4e8, 1.6e9, 6.4e9], [1, 2, 4, 8, 16, 32, 64], per_token)
    return {
        "n_params": (ratio * unique).ravel(),
        "n_tokens": (epochs * unique).ravel(),
        "n_unique_tokens": unique.ravel(),
    }


def _pools(_: np.random.Generator) -> dict[str, Any]:
    """One pool of data in four sizes, from a part of an epoch to ten."""
    unique, epochs = np.meshgrid(np.geomspace(2e7, 5e9, 5), [0.1, 0.3, 1, 2, 3, 4, 6, 8, 10])
    return {"n_tokens": (epochs * unique).ravel(), "n_unique_tokens": unique.ravel()}


EXAMPLES = (
    Example(law="data_constrained", truth=BASE | WORTH, table=_sweep, noise=0.002),
    Example(law="data_constrained", truth=BASE | WORTH, table=_sweep, noise=0.005, fit={"fixed": BASE}),
    Example(law="quality_repetition", truth={"E": 1.8, "A": 120.0, "b": 0.25, "tau": 4.0}, table=_pools, noise=0.002),
)

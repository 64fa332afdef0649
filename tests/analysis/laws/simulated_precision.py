"""Designs and truths for the laws of `analysis.laws.precision`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tests.analysis.simulate import Example

# Sun et al. 2025, with k = 1 / gamma.
FP_TRUTH = {
    "E": 1.9061,
    "A": 69.2343,
    "B": 68973.0621,
    "alpha": 0.2368,
    "beta": 0.5162,
    "k": 1 / 11334.5197,
    "delta": 3.1926,
    "nu": 2.9543,
}

# Chen et al. 2025: k, gamma_N, gamma_D, gamma_G by which operands have four bits.
QAT_TRUTH = {
    "W4A4": {"k": 0.1582, "gamma_N": 0.2186, "gamma_D": 0.0745, "gamma_G": 0.7779},
    "W4A16": {"k": 0.2522, "gamma_N": 0.3589, "gamma_D": 0.1610, "gamma_G": 0.3533},
    "W16A4": {"k": 0.1004, "gamma_N": 0.1816, "gamma_D": 0.0331, "gamma_G": 0.9812},
}

# The three gammas are those of Kumar et al. 2024; the rest is of an ordinary size.
EFFECTIVE_TRUTH = {
    "E": 2.0,
    "A": 400.0,
    "B": 1500.0,
    "alpha": 0.35,
    "beta": 0.36,
    "gamma_w": 2.6745,
    "gamma_a": 2.2102,
    "gamma_kv": 0.9578,
}


def columns(names: str, rows: Any) -> dict[str, Any]:
    """Rows of a grid as named columns."""
    return dict(zip(names.split(), np.array(list(rows), dtype=float).T, strict=True))


def floating_point(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """Six formats, three block sizes and runs without quantisation, at four sizes and four lengths."""
    bits = [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3)]
    formats = [(e, m, block) for (e, m), block in itertools.product(bits, (32, 128, 512))] + [(8, 7, 1)] * 3
    grid = itertools.product((10e6, 41e6, 154e6, 679e6), (1e9, 4e9, 20e9, 100e9), formats)
    return columns("n_params n_tokens exponent_bits mantissa_bits block_size", ((n, d, *f) for n, d, f in grid))


def quantisation_aware(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """Two seeds of each."""
    grid = [*itertools.product((74e6, 145e6, 297e6, 595e6), (10e9, 20e9, 50e9, 100e9), (32, 64, 128, 256))]
    return columns("n_params n_tokens group_size", 2 * grid)


def few_bits(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """One operand at a time loses bits, and all of them together."""
    few = (2, 3, 4, 6, 8)
    bits = [(16, 16, 16), *((b, 16, 16) for b in few), *((16, b, 16) for b in few), *((16, 16, b) for b in few)]
    bits += [(b, b, b) for b in few[1:]]
    grid = itertools.product((10e6, 30e6, 100e6, 400e6), (3e8, 2e9, 8e9, 3e10), bits)
    return columns("n_params n_tokens weight_bits activation_bits kv_bits", ((n, d, *b) for n, d, b in grid))


EXAMPLES: tuple[Example, ...] = (
    Example(
        law="fp_precision",
        truth=FP_TRUTH,
        table=floating_point,
        noise=5e-4,
        fit={"delta": 1e-3},
        tolerance={"default": 0.1, "A": 0.1, "B": 0.3, "k": 0.3},
    ),
    Example(
        law="qat_precision",
        truth=QAT_TRUTH["W4A4"],
        table=quantisation_aware,
        noise=0.02,
        tolerance={"default": 0.1, "k": 0.4},
    ),
    Example(
        law="effective_precision",
        truth=EFFECTIVE_TRUTH,
        table=few_bits,
        noise=2e-3,
        fit={"delta": 3e-3},
        tolerance={"default": 0.1, "A": 0.3, "B": 0.3},
    ),
)

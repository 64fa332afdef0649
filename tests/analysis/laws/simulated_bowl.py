"""A sweep of learning rates at one size and length of training, two seeds each."""

from __future__ import annotations

import numpy as np

from tests.analysis.simulate import Example

TRUTH = {"L0": 2.9, "c": 0.02, "m": float(np.log(7e-3))}


def rates(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Eleven rates in steps of root 2, a little above the best one on average."""
    del rng
    return {"lr": np.repeat(1e-2 * 2.0 ** (np.arange(-5, 6) / 2), 2)}


EXAMPLES = (
    Example(
        law="lr_bowl",
        truth=TRUTH,
        table=rates,
        noise=0.002,
        fit={"delta": 0.005},
        tolerance={"default": 0.05, "c": 0.3},
    ),
)

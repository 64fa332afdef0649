"""Grids of learning rate and batch size over cells (N, D), whose loss is a bowl around a known optimum."""

from __future__ import annotations

import numpy as np

from analysis.laws.tuning import tuned
from tests.analysis.simulate import Example

EXAMPLES: tuple[Example, ...] = ()  # what is simulated here is fitted by a procedure

TRUTH = {
    "lr_factor": 8.0,
    "lr_exponent_N": -0.7,
    "lr_exponent_D": 0.22,
    "batch_factor": 0.5,
    "batch_exponent_D": 0.575,
}
SIZES = (2e6, 4e6, 8e6, 16e6, 32e6)
MULTIPLIERS = (10, 30, 100, 300)
LR_GRID = 0.009 * 2.0 ** (np.arange(-6, 7) / 2)
BATCH_GRID = 2.0 ** np.arange(11, 21)
# Nats per squared natural logarithm; a larger batch takes a larger learning rate.
CURVATURE = {"lr": 0.015, "cross": -0.012, "batch": 0.012}


def bowls(rng: np.random.Generator, *, noise: float) -> dict[str, np.ndarray]:
    """Runs of 20 cells x 13 learning rates x 10 batches, with `noise` (standard deviation) in ln loss."""
    grid = np.meshgrid(SIZES, MULTIPLIERS, LR_GRID, BATCH_GRID)
    n_params, multiplier, lr, batch = (axis.ravel() for axis in grid)
    n_tokens = n_params * multiplier
    best = tuned({"n_params": n_params, "n_tokens": n_tokens}, **TRUTH)
    u, v = np.log(lr / best["lr_opt"]), np.log(batch / best["batch_opt"])
    bowl = CURVATURE["lr"] * u**2 + CURVATURE["cross"] * u * v + CURVATURE["batch"] * v**2
    loss = 1.7 + 400 * n_params**-0.34 + 1200 * n_tokens**-0.36 + bowl
    loss = loss * np.exp(noise * rng.standard_normal(len(loss)))
    return {"n_params": n_params, "n_tokens": n_tokens, "lr": lr, "batch_tokens": batch, "loss": loss}

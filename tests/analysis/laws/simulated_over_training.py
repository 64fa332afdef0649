"""A test-bed of small models trained far past the compute-optimal number of tokens, and their downstream error."""

from __future__ import annotations

import numpy as np

from tests.analysis.simulate import Example

SIZES = (1.1e7, 2.5e7, 7.9e7, 1.5e8, 4.1e8, 1.4e9)
MULTIPLIERS = (5, 10, 20, 40, 80, 160, 320, 640)
LOSS = {"E": 1.84, "a": 212.0, "b": 367.0, "eta": 0.1364}
ERROR = {"eps": 0.857, "k": 2.206, "gamma": 0.7146}


def _models(rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG001
    n_params, multiplier = (axis.ravel() for axis in np.meshgrid(SIZES, MULTIPLIERS))
    return {"n_params": n_params, "n_tokens": n_params * multiplier}


def _checkpoints(rng: np.random.Generator) -> dict[str, np.ndarray]:  # noqa: ARG001
    """Evaluated where the loss has fallen by another 0.06 nats, from near ignorance to a good small model."""
    return {"loss": np.linspace(6.0, 2.4, 61)}


EXAMPLES = (
    Example(
        law="over_training",
        truth=LOSS,
        table=_models,
        noise=0.01,  # nats
        tolerance={"default": 0.05, "a": 0.15, "b": 0.15},
    ),
    Example(
        law="downstream",
        truth=ERROR,
        table=_checkpoints,
        noise=0.004,  # the sampling error of some 15,000 items
        tolerance={"default": 0.1, "k": 0.15, "eps": 0.03},
    ),
)

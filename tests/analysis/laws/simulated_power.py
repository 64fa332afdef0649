"""Designs for the power laws in one quantity and for Chinchilla's law."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.analysis.helpers import TRUTH
from tests.analysis.simulate import Example


def twelve_budgets(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001  # the design is fixed
    return {"n_tokens": np.repeat(np.geomspace(1e5, 1e9, 12), 2)}


def sizes_and_ratios(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """7 sizes from 1e6 to 1e8, 6 ratios D/N from 2 to 200."""
    sizes, ratios = np.meshgrid(np.geomspace(1e6, 1e8, 7), np.geomspace(2, 200, 6))
    return {"n_params": sizes.ravel(), "n_tokens": (sizes * ratios).ravel()}


EXAMPLES = (
    Example(
        law="power_law",
        truth={"E": 1.5, "A": 300.0, "alpha": 0.4},
        table=twelve_budgets,
        x="n_tokens",
        noise=0.005,
        fit={"delta": 0.01},
        tolerance={"default": 0.1, "A": 0.3},
    ),
    Example(
        law="power_law_no_offset",
        truth={"A": 30.0, "alpha": 0.07},
        table=twelve_budgets,
        x="n_tokens",
        noise=0.005,
        fit={"delta": 0.01},
    ),
    Example(
        law="chinchilla",
        truth=TRUTH,
        table=sizes_and_ratios,
        noise=0.005,
        fit={"delta": 0.01},
        tolerance={"default": 0.1, "A": 0.5, "B": 0.3},
    ),
)

"""The loss around its best learning rate, at one size and length of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.fitter.law import Law
from analysis.laws.tuning import LR
from analysis.tables.columns import Array, Columns

RATES = tuple(-14.0 + 0.5 * k for k in range(31))


def lr_bowl(columns: Columns, *, L0: Any, c: Any, m: Any) -> Array:
    """L = L0 + c (ln lr - m)². The second order of any smooth loss around its optimum; at the optimum c is .010 to
    .023 nats in the grids of Li et al. 2025 (arXiv 2503.04715), where a factor 2 in lr costs .005 to .011 nats."""
    loss: Array = L0 + c * (np.log(columns["lr"]) - m) ** 2
    return loss


def _lr_bowl_gradient(columns: Columns, *, L0: Any, c: Any, m: Any) -> tuple[Array, ...]:
    off = np.log(columns["lr"]) - m
    return np.ones_like(off + L0), off**2 + 0 * c, -2 * c * off


def _best(params: Columns) -> dict[str, Array]:
    return {"lr_opt": np.exp(params["m"])}


LAWS = (
    Law(
        name="lr_bowl",
        formula="L = L0 + c (ln lr - m)^2",
        question="the best learning rate lr_opt = e^m of one setting, and what missing it costs",
        source="quadratic around the optimum, as read off the grids of Li et al. 2025, arXiv 2503.04715",
        columns=(LR,),
        parameters=(
            Parameter("L0", "loss at the best learning rate, nats per token"),
            Parameter("c", "nats lost per squared unit of ln lr"),
            # Rates from 1e-13 to 20, with starts a factor 1.6 apart where optima have been found.
            Parameter("m", "logarithm of the best learning rate", -30.0, 3.0, starts=RATES),
        ),
        function=lr_bowl,
        gradient=_lr_bowl_gradient,
        derived=_best,
    ),
)

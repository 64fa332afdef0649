"""Loss of N parameters after D tokens, and the allocation of compute that follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitter.law import Law
from analysis.laws.power import FLOOR, coefficient, exponent
from analysis.tables.columns import Array, Column, Columns

N = Column("n_params", "parameters, by the convention chosen with --params", "parameters")
D = Column("n_tokens", "training tokens", "tokens")


def chinchilla(columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Array:
    """L = E + A N^-alpha + B D^-beta. Hoffmann et al. 2022 (arXiv 2203.15556), equation 2."""
    size = np.exp(-alpha * np.log(columns["n_params"]))
    data = np.exp(-beta * np.log(columns["n_tokens"]))
    loss: Array = E + A * size + B * data
    return loss


def _chinchilla_gradient(columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> tuple[Array, ...]:
    log_n, log_d = np.log(columns["n_params"]), np.log(columns["n_tokens"])
    size, data = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    return np.ones_like(size + E), size, data, -A * size * log_n, -B * data * log_d


def optimum(flops: Any, *, A: Any, B: Any, alpha: Any, beta: Any) -> tuple[Array, Array]:
    """N*(C) and D*(C) that minimise A N^-alpha + B D^-beta at C = 6 N D (Hoffmann et al. 2022, equation 4)."""
    G = np.exp((np.log(alpha) + np.log(A) - np.log(beta) - np.log(B)) / (alpha + beta))
    n_params = G * (flops / 6) ** (beta / (alpha + beta))
    return n_params, flops / 6 / n_params


def _allocation(params: Columns) -> dict[str, Array]:
    a = params["beta"] / (params["alpha"] + params["beta"])
    return {"a": a, "b": 1 - a}


LAWS = (
    Law(
        name="chinchilla",
        formula="L = E + A N^-alpha + B D^-beta",
        question="the loss of N parameters after D tokens (approach 3); N* grows as C^a, D* as C^b",
        source="Hoffmann et al. 2022, arXiv 2203.15556",
        columns=(N, D),
        parameters=(
            FLOOR,
            coefficient("A", "n_params", "alpha", "N"),
            coefficient("B", "n_tokens", "beta", "D"),
            exponent("alpha", "N"),
            exponent("beta", "D"),
        ),
        function=chinchilla,
        gradient=_chinchilla_gradient,
        derived=_allocation,
    ),
)

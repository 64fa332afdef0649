"""N*, D* and L* as power laws of compute: what approaches 1 and 2 draw through the optima that they find.

Shape letters: R weightings of the points (the first leaves them as they are), B places where an optimum was found.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.laws.power import FLOOR
from analysis.tables.columns import Array, Column, Columns

FLOPS = Column("flops", "training compute", "FLOPs")
PARAMETERS = (
    Parameter("k", "N* of one FLOP: coefficient of N* = k C^a"),
    Parameter("a", "exponent of N*", typical=(0.3, 0.8)),
    Parameter("k_D", "D* of one FLOP: coefficient of D* = k_D C^b"),
    Parameter("b", "exponent of D*", typical=(0.2, 0.7)),
    FLOOR,
    Parameter("A", "coefficient of L* = E + A C^-c"),
    Parameter("c", "exponent of L*", typical=(0.02, 0.6)),
)


def predict_allocation(
    columns: Columns, *, k: Any, a: Any, k_D: Any, b: Any, E: Any, A: Any, c: Any
) -> dict[str, Array]:
    """N* = k C^a, D* = k_D C^b and L* = E + A C^-c (Hoffmann et al. 2022, equation 4 and below)."""
    log_c = np.log(columns["flops"])
    return {
        "n_params_opt": np.exp(np.log(k) + a * log_c),
        "n_tokens_opt": np.exp(np.log(k_D) + b * log_c),
        "loss_opt": E + A * np.exp(-c * log_c),
    }


def fit_allocation(
    log_c_RB: Array, log_n_RB: Array, log_d_RB: Array, loss_RB: Array, weight_RB: Array
) -> tuple[dict[str, Array], list[str]]:
    """The seven constants of `predict_allocation` by weighted least squares, each (R,), and warnings.

    N* and D* are lines in logarithms. L* is fitted by relative differences; with fewer than four budgets E is 0,
    since three points always lie on the curve. What a weighting leaves undetermined is nan.

    Args:
        weight_RB: 0 where there is no minimum; what the other arrays hold there does not matter.
    """
    there = weight_RB > 0
    log_c_RB, log_n_RB, log_d_RB = (np.where(there, x, 0.0) for x in (log_c_RB, log_n_RB, log_d_RB))
    loss_RB = np.where(there, loss_RB, 1.0)
    log_k, a = _line(log_c_RB, log_n_RB, weight_RB)
    log_k_d, b = _line(log_c_RB, log_d_RB, weight_RB)
    offset = bool(there[0].sum() >= 4)
    E, A, c = _curve(log_c_RB, loss_RB, weight_RB, offset=offset)
    warnings = []
    if not offset:
        warnings.append(f"L* is a power law without a floor (E = 0): {there[0].sum()} points, and a floor takes four")
    if abs(a[0] + b[0] - 1) > 0.01:
        warnings.append(f"a + b is {a[0] + b[0]:.3f} and must be 1: flops is not 6 times n_params times n_tokens")
    return {"k": np.exp(log_k), "a": a, "k_D": np.exp(log_k_d), "b": b, "E": E, "A": A, "c": c}, warnings


def residuals_of(params: Columns, points: Columns) -> Array:
    """ln N* predicted - ln N* found, at the points as they are (B,)."""
    first = {name: values[0] for name, values in params.items()}
    return np.log(predict_allocation(points, **first)["n_params_opt"] / points["n_params_opt"])


def _line(x_RB: Array, y_RB: Array, weight_RB: Array) -> tuple[Array, Array]:
    """Intercept and slope of weighted regressions, each (R,); nan where there are not two places to tell a slope."""
    total = np.maximum(weight_RB.sum(axis=1), 1e-300)
    x, y = (weight_RB * x_RB).sum(axis=1) / total, (weight_RB * y_RB).sum(axis=1) / total
    dx = x_RB - x[:, None]
    spread = (weight_RB * dx**2).sum(axis=1)
    enough = ((weight_RB > 0).sum(axis=1) >= 2) & (spread > 1e-9 * total)
    slope = (weight_RB * dx * (y_RB - y[:, None])).sum(axis=1) / np.where(enough, spread, 1.0)
    intercept = y - slope * x
    enough &= np.abs(intercept) < 500  # its exponential must be a number
    return np.where(enough, intercept, np.nan), np.where(enough, slope, np.nan)


def _curve(log_c_RB: Array, loss_RB: Array, weight_RB: Array, *, offset: bool) -> tuple[Array, Array, Array]:
    """E, A and c of L = E + A C^-c, each (R,), E >= 0 and 0 < c < 2: for each c the other two are linear.

    The best c of a grid is refined by golden sections.
    """
    total = np.maximum(weight_RB.sum(axis=1), 1e-300)
    centre = (weight_RB * log_c_RB).sum(axis=1) / total
    x = log_c_RB - centre[:, None]
    w = weight_RB / total[:, None]
    u = 1 / loss_RB

    def solve(c_R: Array) -> tuple[Array, Array, Array]:
        """Misfit, E, and A at the centre."""
        v = np.exp(np.clip(-c_R[:, None] * x, -600, 600)) * u
        vv, uv, uu = (w * v * v).sum(axis=1), (w * u * v).sum(axis=1), (w * u * u).sum(axis=1)
        v1, u1 = (w * v).sum(axis=1), (w * u).sum(axis=1)
        determinant = vv * uu - uv**2
        solvable = offset & (determinant > 1e-14 * vv * uu)
        E = np.where(solvable, (vv * u1 - uv * v1) / np.where(solvable, determinant, 1.0), 0.0)
        E = np.maximum(E, 0.0)
        A = (v1 - E * uv) / np.where(vv > 0, vv, 1.0)
        return (w * (E[:, None] * u + A[:, None] * v - 1) ** 2).sum(axis=1), E, A

    grid = np.geomspace(0.005, 2.0, 40)
    misfit = np.stack([solve(np.full(len(x), c))[0] for c in grid])
    best = np.argmin(misfit, axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(45):
        left, right = high - golden * (high - low), low + golden * (high - low)
        lower = solve(left)[0] < solve(right)[0]
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    c = (low + high) / 2
    _, E, A = solve(c)
    enough = (weight_RB > 0).sum(axis=1) >= (3 if offset else 2)
    E, A, c = (np.where(enough, value, np.nan) for value in (E, A * np.exp(c * centre), c))
    return E, A, c

"""Two curves of loss over cost: where they cross, and how much cost one saves at equal loss. Arrays in, arrays out.

log_x = grid(1e17, 1e20)                    places from a decade below to a decade above
roots(first - second, log_x)                where two curves cross
takeover(lead_RU, log_x)                    from where on each replicate leads for good (R,)
invert(loss_RU, log_x, loss_K)              where each curve first reaches a loss (R, K)

Shape letters: R bootstrap replicates, U places on a grid of log10 x, K losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.tables.columns import Array

PER_DECADE = 100  # places of a grid; between them curves are straight to 1e-5 of a decade
BEYOND = 1.0  # decades beyond the data in which a crossing is still looked for


@dataclass(frozen=True)
class Measure:
    """A quantity with the middle 90 % of its bootstrap."""

    value: float
    ci90: tuple[float, float]


def measure(value: float, draws_R: Array) -> Measure:
    """`measure(2.0, draws_R).ci90`: a value with the middle 90 % of its draws."""
    low, high = np.quantile(draws_R, [0.05, 0.95])
    return Measure(float(value), (float(low), float(high)))


@dataclass(frozen=True)
class Crossing:
    """Where the arm that is ahead beyond the data takes the lead for good.

    Attributes:
        leader: the arm ahead at the upper end of the bracket.
        bracket: where crossings are looked for: the range of both arms and a decade beyond.
        measured: the range of both arms.
        roots: every crossing of the fitted curves in the bracket.
        where: of the last of them: inside_range, extrapolated or none.
        log10_x: of the place; the value is the median, and replicates without a crossing are counted at the
            end of the bracket that they point to.
        p_exists, p_inside: share of replicates with a crossing in the bracket, and in the measured range.
        p_censored: share counted at the lower and at the upper end.
        p_leads: name -> share of replicates in which that arm is ahead in all of the measured range.
    """

    leader: str
    bracket: tuple[float, float]
    measured: tuple[float, float]
    roots: tuple[float, ...]
    where: Literal["inside_range", "extrapolated", "none"]
    log10_x: Measure
    p_exists: float
    p_inside: float
    p_censored: tuple[float, float]
    p_leads: dict[str, float]


@dataclass(frozen=True)
class Lines:
    """Curves of loss over x with their bands: name -> `loss`, `low`, `high`, the band's ends being the middle `level`
    percent of the replicates."""

    level: int
    x: list[float]
    lines: dict[str, dict[str, list[float]]]


def thinned(log_x_U: Array) -> Any:
    """Indices of enough places of a grid to draw a smooth curve."""
    return np.unique(np.linspace(0, len(log_x_U) - 1, 121).round().astype(int))


def grid(low: float, high: float, beyond: float = BEYOND) -> Array:
    """log10 of places from a little below `low` to a little above `high` (U,)."""
    first, last = np.log10(low) - beyond, np.log10(high) + beyond
    return np.linspace(first, last, 1 + int(np.ceil((last - first) * PER_DECADE)))


def roots(difference_U: Array, log_x_U: Array) -> Array:
    """log10 of every place where the difference of two curves changes its sign.

    For curves E + A_m x^-c_m with one floor the only root is at ln x = ln(A_1 / A_0) / (c_1 - c_0).
    """
    before = np.flatnonzero(np.diff(difference_U > 0))
    left, right = difference_U[before], difference_U[before + 1]
    return log_x_U[before] + left / (left - right) * (log_x_U[before + 1] - log_x_U[before])


def takeover(lead_RU: Array, log_x_U: Array) -> Array:
    """log10 of the place from which on the lead is positive (R,), censored at the ends of the grid.

    A replicate that leads everywhere counts at the lower end, one that does not lead at the upper end counts there:
    leaving them out would make any interval far too narrow.
    """
    behind_RU = lead_RU <= 0
    last_R = len(log_x_U) - 1 - np.argmax(behind_RU[:, ::-1], axis=1)
    at_R = np.minimum(last_R, len(log_x_U) - 2)
    rows = np.arange(len(lead_RU))
    left, right = lead_RU[rows, at_R], lead_RU[rows, at_R + 1]
    step = np.where(left < right, -left / np.where(left < right, right - left, 1.0), 0.0)
    inside = log_x_U[at_R] + np.clip(step, 0.0, 1.0) * (log_x_U[at_R + 1] - log_x_U[at_R])
    place_R: Array = np.where(behind_RU[:, -1], log_x_U[-1], np.where(behind_RU.any(axis=1), inside, log_x_U[0]))
    return place_R


def invert(loss_RU: Array, log_x_U: Array, loss_K: Array) -> Array:
    """log10 of where each curve first reaches a loss (R, K), censored at the ends of the grid."""
    falling_RU = np.minimum.accumulate(loss_RU, axis=1)
    return np.array([np.interp(-loss_K, -falling, log_x_U) for falling in falling_RU])


def stretches(inside_U: Array, log_x_U: Array) -> list[tuple[float, float]]:
    """The ranges of x in which a condition holds."""
    padded = np.concatenate([[False], inside_U, [False]]).astype(int)
    begins, ends = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1) - 1
    return [(float(10 ** log_x_U[a]), float(10 ** log_x_U[b])) for a, b in zip(begins, ends, strict=True)]

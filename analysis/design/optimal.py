"""Which runs tell most about a quantity within a budget: optimal design by exchange. Arrays in, counts out.

A design says how often each candidate is run. Its information about the constants is sum_m count_m J_m J_m', with J_m
the derivatives of ln loss by the constants in units of the noise, and the covariance of a fit is the inverse. Since J
depends on constants that are not known yet, what is minimised is the mean over draws of them (Chaloner and Larntz
1989, "Optimal Bayesian design applied to logistic regression experiments").

search(aim, limits)                        counts (M,): how many runs of each candidate
relax(aim, limits, counts)[1]              what no design within the limits can go below

Shape letters: K draws of the constants, M candidates, P constants, Q quantities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.tables.columns import Array
from train.timetable.makespan import makespan

Counts = NDArray[np.int64]

# The design that is best for one quantity alone can leave others undetermined (all runs at one size tell beta), and
# no fit of the whole law can read it. So a little of the D criterion is added (a compound design, Cook and Wong 1994).
VOLUME_WEIGHT = 0.05

# Of what one run tells on average; keeps the covariance of a design that is still too small finite.
_RIDGE = 1e-10
_SHORTLIST = 12  # candidates that an exchange tries to bring in, by gain and by gain for its price
_RELAXED_STEPS = 60


@dataclass(frozen=True)
class Aim:
    """What the design is to make small: the mean over draws of the logarithm of a variance.

    Attributes:
        J_KMP: what one run of a candidate tells: derivatives of ln loss, over the noise.
        G_KPQ: gradients of the quantities whose variances are summed; one is the c criterion, each constant in units
            of its size the A criterion; both with `volume_weight` of the next. None: the P-th root of the
            covariance's determinant, the D criterion.
        known_KPP: information that is there already.
        volume_weight: how much of the D criterion is added to another.
    """

    J_KMP: Array
    G_KPQ: Array | None
    known_KPP: Array
    volume_weight: float = VOLUME_WEIGHT

    def covariance(self, count_M: Array | Counts) -> Array:
        """Of the constants (K, P, P)."""
        M_KPP = self.known_KPP + (self.J_KMP * np.asarray(count_M)[:, None]).swapaxes(1, 2) @ self.J_KMP
        unit_KP = np.sqrt(np.maximum((self.J_KMP**2).mean(1), np.finfo(float).tiny))
        scaled = M_KPP / (unit_KP[:, :, None] * unit_KP[:, None, :]) + _RIDGE * np.eye(M_KPP.shape[1])
        C_KPP: Array = np.linalg.inv(scaled) / (unit_KP[:, :, None] * unit_KP[:, None, :])
        return C_KPP

    def value(self, count_M: Array | Counts) -> float:
        """The criterion; smaller by 2 ln 2 is half the standard deviation."""
        C_KPP = self.covariance(count_M)
        volume = float(np.linalg.slogdet(C_KPP)[1].mean() / C_KPP.shape[1])
        if self.G_KPQ is None:
            return volume
        return float(np.log(self._variance(C_KPP)).mean() + self.volume_weight * volume)

    def change(self, count_M: Array | Counts, sign: int) -> Array:
        """By how much the criterion falls with one run more (sign 1) or rises with one run less (-1) of each
        candidate (M,), by the rank-one update of the inverse."""
        C_KPP = self.covariance(count_M)
        U_KMP = self.J_KMP @ C_KPP
        rest_KM = np.maximum(1 + sign * (U_KMP * self.J_KMP).sum(2), 1e-12)
        volume_M: Array = sign * np.log(rest_KM).mean(0) / C_KPP.shape[1]
        if self.G_KPQ is None:
            return volume_M
        moved_KM = ((U_KMP @ self.G_KPQ) ** 2).sum(2) / rest_KM / self._variance(C_KPP)[:, None]
        variance_M: Array = -sign * np.log(np.maximum(1 - sign * moved_KM, 1e-12)).mean(0)
        return variance_M + self.volume_weight * volume_M

    def slope(self, count_M: Array) -> Array:
        """Minus the derivative of the criterion by each count, taken as a real number (M,)."""
        C_KPP = self.covariance(count_M)
        U_KMP = self.J_KMP @ C_KPP
        volume_M: Array = (U_KMP * self.J_KMP).sum(2).mean(0) / C_KPP.shape[1]
        if self.G_KPQ is None:
            return volume_M
        variance_M: Array = (((U_KMP @ self.G_KPQ) ** 2).sum(2) / self._variance(C_KPP)[:, None]).mean(0)
        return variance_M + self.volume_weight * volume_M

    def _variance(self, C_KPP: Array) -> Array:
        assert self.G_KPQ is not None
        variance_K: Array = ((C_KPP @ self.G_KPQ) * self.G_KPQ).sum((1, 2))
        return variance_K


@dataclass(frozen=True)
class Limits:
    """What a design may take.

    Attributes:
        costs_M: of one run of each candidate.
        budget: what the runs that follow one another may cost together.
        slots: runs at a time; every slot has the budget.
        most_runs: in all; `most_seeds`: of one candidate.
    """

    costs_M: Array
    budget: float
    slots: int = 1
    most_runs: int = 60
    most_seeds: int = 3

    @property
    def total(self) -> float:
        """What all runs may cost together."""
        return self.slots * self.budget

    @property
    def prices(self) -> Array:
        """What a run of each candidate takes of the budget, plus what it takes of the number of runs (M,)."""
        prices_M: Array = self.costs_M / self.total + 1 / self.most_runs
        return prices_M

    def allow(self, count_M: Counts) -> bool:
        """Whether the runs fit in, started most expensive first."""
        if count_M.sum() > self.most_runs or count_M.max() > self.most_seeds:
            return False
        total, largest = float(count_M @ self.costs_M), float(self.costs_M[count_M > 0].max(initial=0.0))
        if total > self.total or largest > self.budget:
            return False
        if total / self.slots + (1 - 1 / self.slots) * largest <= self.budget:  # enough in any order (Graham 1966)
            return True
        return self.makespan(count_M) <= self.budget

    def makespan(self, count_M: Counts) -> float:
        """What the runs of the fullest slot cost together, the most expensive being started first."""
        return makespan(np.repeat(self.costs_M, count_M).tolist(), self.slots)


def search(aim: Aim, limits: Limits, starts: Sequence[Counts] = ()) -> Counts:
    """`search(aim, limits)`: the best design reached from nothing, from the rounded optimum of real counts, and
    from each of `starts`, which
    it is never worse than (Fedorov 1972, exchange)."""
    empty = np.zeros(len(limits.costs_M), dtype=np.int64)
    # The D criterion's design determines every constant, as one that begins with a single quantity may not.
    first = fill(dataclasses.replace(aim, G_KPQ=None), limits, empty)
    relaxed_M, _ = relax(aim, limits, first)
    ends = [improve(aim, limits, start) for start in (first, *_rounded(limits, relaxed_M), *starts)]
    return min(ends, key=aim.value)


def fill(aim: Aim, limits: Limits, count_M: Counts) -> Counts:
    """Add the run that tells most for its price, until none fits in."""
    count_M = count_M.copy()
    while True:
        rate_M = aim.change(count_M, 1) / limits.prices
        best = _first_allowed(limits, count_M, np.argsort(-rate_M, kind="stable"))
        if best is None:
            return count_M
        count_M[best] += 1


def improve(aim: Aim, limits: Limits, count_M: Counts) -> Counts:
    """Exchange runs for others as long as the criterion falls."""
    best_M, value = count_M, aim.value(count_M)
    while True:
        trials = [fill(aim, limits, best_M), *_replaced(aim, limits, best_M), *_brought_in(aim, limits, best_M)]
        values = [aim.value(trial) for trial in trials]
        least = int(np.argmin(values))
        if values[least] > value - 1e-9:
            return best_M
        best_M, value = trials[least], values[least]


def _replaced(aim: Aim, limits: Limits, count_M: Counts) -> list[Counts]:
    """Each run of the design replaced by the best that fits in instead."""
    trials = []
    for m in np.flatnonzero(count_M):
        trial = count_M.copy()
        trial[m] -= 1
        order = np.argsort(-aim.change(trial, 1), kind="stable")
        best = _first_allowed(limits, trial, order[order != m])
        if best is not None:
            trial[best] += 1
            trials.append(trial)
    return trials


def _brought_in(aim: Aim, limits: Limits, count_M: Counts) -> list[Counts]:
    """Each of the most telling candidates brought in, those that tell least for their price making room."""
    gains_M = aim.change(count_M, 1)
    order, by_rate = np.argsort(-gains_M, kind="stable"), np.argsort(-gains_M / limits.prices, kind="stable")
    trials = []
    for m in dict.fromkeys([*order[:_SHORTLIST].tolist(), *by_rate[:_SHORTLIST].tolist()]):
        trial = count_M.copy()
        trial[m] += 1
        while not limits.allow(trial):
            rate_M = np.where(trial > 0, aim.change(trial, -1) / limits.prices, np.inf)
            rate_M[m] = np.inf if trial[m] <= limits.most_seeds else -np.inf
            least = int(np.argmin(rate_M))
            if np.isinf(rate_M[least]):
                break
            trial[least] -= 1
        if limits.allow(trial):
            trials.append(fill(aim, limits, trial))
    return trials


def _first_allowed(limits: Limits, count_M: Counts, order: NDArray[np.intp]) -> int | None:
    for m in order:
        count_M[m] += 1
        allowed = limits.allow(count_M)
        count_M[m] -= 1
        if allowed:
            return int(m)
    return None


def relax(aim: Aim, limits: Limits, start_M: Counts) -> tuple[Array, float]:
    """Real counts near the optimum, and a value of the criterion that no design within the limits can go below.

    Real counts, limited in what they cost together, in their sum and each of them, contain every design, and the
    criterion is convex in them: the tangent at any of them bounds it from below (Frank and Wolfe 1956).
    """
    count_M = start_M.astype(float)
    bound = -np.inf
    for _ in range(_RELAXED_STEPS):
        slope_M = aim.slope(count_M)
        value = aim.value(count_M)
        corner_M = _corner(slope_M, limits)
        gap = float(slope_M @ (corner_M - count_M))
        bound = max(bound, value - gap)
        if gap < 1e-4:
            break
        steps = 2.0 ** -np.arange(13)
        values = [aim.value(count_M + step * (corner_M - count_M)) for step in steps]
        if min(values) >= value:
            break
        count_M = count_M + steps[int(np.argmin(values))] * (corner_M - count_M)
    return count_M, bound


def _corner(slope_M: Array, limits: Limits) -> Array:
    """The counts within the limits that a linear criterion would take."""
    from scipy.optimize import linprog  # takes a while to import

    most_M = np.where(limits.costs_M > limits.budget, 0, limits.most_seeds)
    A = np.stack([limits.costs_M / limits.total, np.full(len(slope_M), 1 / limits.most_runs)])
    best = linprog(-slope_M / slope_M.max(), A_ub=A, b_ub=[1.0, 1.0], bounds=np.stack([0 * most_M, most_M], axis=1))
    return np.asarray(best.x)


def _rounded(limits: Limits, relaxed_M: Array) -> list[Counts]:
    """Whole counts near the real ones, if they are allowed: the largest remainders are rounded up first."""
    count_M = np.floor(relaxed_M).astype(np.int64)
    if not limits.allow(count_M):
        return []
    for m in np.argsort(-(relaxed_M - count_M), kind="stable"):
        if relaxed_M[m] > count_M[m]:
            count_M[m] += 1
            if not limits.allow(count_M):
                count_M[m] -= 1
    return [count_M]

"""The difference of two arms over pairs of runs: interval, smallest detectable effect, seeds that are missing.

    units = units_of(pairs)                    ->  the measurements that count as independent
    difference(units, margin=0.01)             ->  mean of B - A, interval, verdict, smallest detectable difference
    plan_looks(have=3, most_new=7)             ->  [0, 2, 4, 5, 7], the seeds added until each look
    pocock_level(3, [0, 2, 4, 5, 7])           ->  the level of each, so that all together err at `LEVEL`

The statistic is the mean of B - A over the pairs, with Student's t. How many measurements that are, `units_of` decides:
pairs of one seed share the draws of weights and batches, so they count once where they can be averaged.

A test that is repeated while seeds are added errs more often than it says. `pocock_level` gives the level at which each
of several looks may be judged so that all of them together err at the level asked for (Pocock 1977, Biometrika 64,
191-199); the intervals at this level are the repeated confidence intervals of Jennison and Turnbull (1989, J. R.
Stat. Soc. B 51, 305-361), which hold at all looks at once.

Shape letters: U units (independent measurements), P cells, S seeds, C blocks, R simulated experiments, K looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.claims.student import LEVEL, reach
from analysis.difference.pairs import Pairs
from analysis.fitter.resample import Codes, codes
from analysis.tables.columns import Array
from conf.command_line import counted

POWER = 0.8
MOST_SEEDS = 10_000  # beyond it, a count of missing seeds says no more

Better = Literal["A", "B", "equal", "undecided"]


# --- what is measured ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """Measurements of B - A that are taken as independent, in blocks that may have different means."""

    a_U: Array
    b_U: Array
    block_U: Codes
    choice: str
    """What a unit is, and why."""

    @property
    def counts(self) -> Codes:
        """Units of each block (C,)."""
        return np.bincount(self.block_U)

    @property
    def df(self) -> int:
        return len(self.block_U) - len(self.counts)


def units_of(pairs: Pairs, *, whole_seeds: bool = False) -> Units:
    """One cell: a unit is a seed. Several cells: a seed that has all of them, averaged over them, if there are two such
    seeds; others are left out, since pairs of one seed hang together. Without two, a unit is a pair, and each cell is
    a block with its own mean.

    Args:
        whole_seeds: seeds with all cells even if there are fewer than two.
    """
    cells, seeds = pairs.cells, pairs.seeds
    whole = [seed for seed in seeds if sum(pair.seed == seed for pair in pairs.pairs) == len(cells)]
    if not (whole_seeds or len(cells) == 1 or len(whole) >= 2):
        a_U, b_U = np.array([pair.values for pair in pairs.pairs]).T
        choice = (
            f"mean over pairs, Student's t on the spread within each of {len(cells)} cells: no two seeds have all "
            "cells; pairs of one seed count as independent"
        )
        return Units(a_U, b_U, codes([cells.index(pair.cell) for pair in pairs.pairs]), choice)
    # Pairs are sorted by cell, then seed.
    values_PS = np.array([pair.values for pair in pairs.pairs if pair.seed in whole]).reshape(len(cells), len(whole), 2)
    a_U, b_U = values_PS.mean(axis=0).T
    choice = "Student's t over seeds: there is one cell"
    if len(cells) > 1:
        left_out = len(seeds) - len(whole)
        choice = f"mean over {len(cells)} cells within each seed, then Student's t over seeds: " + (
            f"{counted(len(whole), 'seed')} with all cells; {left_out} without are left out"
            if left_out
            else "every seed has all cells, and its runs share their draws"
        )
    return Units(a_U, b_U, np.zeros(len(whole), dtype=np.int64), choice)


def _variance(values_U: Array, units: Units) -> float:
    """Within the blocks, pooled."""
    means_C = np.bincount(units.block_U, weights=values_U) / units.counts
    return float(((values_U - means_C[units.block_U]) ** 2).sum() / units.df)


# --- what is said of it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """B - A, and what so many units can say about it. None stands for what one unit in a block leaves open."""

    n_units: int
    n_blocks: int
    mean: float
    percent: float | None
    """Of the mean of A."""
    level: float
    """Two-sided, of this one look."""
    interval: tuple[float, float] | None
    """At confidence 1 - level."""
    variance_a: float | None
    variance_b: float | None
    variance_difference: float | None
    detectable: float | None
    """Smallest true difference that a test at `level` finds with probability `POWER`."""
    effect: float
    """The difference that `missing_seeds` speaks of: the margin if there is one, else the one observed."""
    missing_seeds: int | None
    """More seeds, of every cell, for `POWER` at `effect`; None for more than `MOST_SEEDS`."""
    margin: float | None
    verdict: Better

    @property
    def gain(self) -> float | None:
        """How many times more runs it would take without pairs: the sum of variances over that of the difference."""
        if self.variance_a is None or self.variance_b is None or not self.variance_difference:
            return None
        return (self.variance_a + self.variance_b) / self.variance_difference


def difference(units: Units, *, level: float = LEVEL, margin: float | None = None) -> Difference:
    """Estimate and judge B - A.

    Args:
        level: two-sided level of the interval; of one look, if there are several.
        margin: differences up to it count as none; the verdict is then `equal` if the whole interval lies within.
    """
    d_U = units.b_U - units.a_U
    n, mean, mean_a = len(d_U), float(d_U.mean()), float(units.a_U.mean())
    interval = interval_of(units, level=level)
    detectable = missing = None
    variances: tuple[float | None, float | None, float | None] = (None, None, None)
    effect = abs(mean) if margin is None else margin
    if units.df:
        variances = _variance(units.a_U, units), _variance(units.b_U, units), _variance(d_U, units)
        sd = math.sqrt(variances[2] or 0.0)
        detectable = detectable_effect(sd / math.sqrt(n), units.df, level=level)
        missing = missing_seeds(units, sd, effect, level=level)
    return Difference(
        n_units=n,
        n_blocks=len(units.counts),
        mean=mean,
        percent=100 * mean / abs(mean_a) if mean_a else None,
        level=level,
        interval=interval,
        variance_a=variances[0],
        variance_b=variances[1],
        variance_difference=variances[2],
        detectable=detectable,
        effect=effect,
        missing_seeds=missing,
        margin=margin,
        verdict=judge(interval, margin),
    )


def interval_of(units: Units, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Student's t interval of the mean of B - A, with the pooled variance within blocks; None without spread."""
    if not units.df:
        return None
    d_U = units.b_U - units.a_U
    half = reach(units.df, level) * math.sqrt(_variance(d_U, units) / len(d_U))
    return float(d_U.mean()) - half, float(d_U.mean()) + half


def judge(interval: tuple[float, float] | None, margin: float | None) -> Better:
    """What an interval of B - A decides; lower is better."""
    if interval is None:
        return "undecided"
    low, high = interval
    if low > 0:
        return "A"
    if high < 0:
        return "B"
    return "equal" if margin is not None and -margin <= low and high <= margin else "undecided"


# --- power -----------------------------------------------------------------------------------------------


def power(effect: float, se: float, df: int, *, level: float = LEVEL) -> float:
    """Probability that a two-sided t test at `level` rejects: the tails of the noncentral t (Cohen 1988, ch. 2).

    These are integrated from its definition, a normal over an independent root of chi-squared, since scipy's own has no
    answer for some large arguments.

    Args:
        effect: true difference, in the units of `se`, the standard error of its estimate.
    """
    from scipy.special import chdtri, ndtr  # costly to import

    if se == 0:
        return 1.0 if effect else level
    shift = abs(effect) / se
    # The estimated standard error in units of the true one, at Gauss-Legendre nodes of its probability.
    se_N = np.sqrt(chdtri(df, (1 - _NODES) / 2) / df)
    bound_N = reach(df, level) * se_N
    return float((ndtr(shift - bound_N) + ndtr(-shift - bound_N)) @ _WEIGHTS / 2)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


def detectable_effect(se: float, df: int, *, level: float = LEVEL) -> float:
    """The true difference with power `POWER`, in the units of `se`."""
    from scipy.optimize import brentq

    # Student's t has no heavier tail than at one degree of freedom, where 1.3 times the bound is enough.
    most = 2.0 * reach(df, level) + 2.0
    return se * float(brentq(lambda shift: power(shift, 1.0, df, level=level) - POWER, 0.0, most))


def missing_seeds(units: Units, sd: float, effect: float, *, level: float = LEVEL) -> int | None:
    """More seeds, of every cell, until a true difference of `effect` is found with power `POWER` if the standard
    deviation of a unit stays at `sd`; None if they are more than `MOST_SEEDS`."""
    blocks, have = len(units.counts), len(units.block_U)

    def enough(more: int) -> bool:
        n = have + blocks * more
        return power(effect, sd / math.sqrt(n), n - blocks, level=level) >= POWER

    if enough(0):
        return 0
    if not enough(MOST_SEEDS):
        return None
    low, high = 0, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# --- several looks ---------------------------------------------------------------------------------------


def pocock_level(have: int, new_seeds_K: Sequence[int], *, level: float = LEVEL, draws: int = 50_000) -> float:
    """The two-sided level of each look at which all looks together err with probability `level`.

    Without a true difference, Student's t at the looks has a distribution without unknowns. It is simulated: where the
    smallest p-value of an experiment falls below the answer in a share `level` of them, the answer is Pocock's bound,
    here exact for t and for looks that are not equally spaced. Stopping earlier than planned errs less.

    Args:
        have: units in one block before any seed is added.
        new_seeds_K: seeds added until each look, ascending; each adds one unit.
    """
    from scipy.special import stdtr

    if len(new_seeds_K) == 1:
        return level
    rng = np.random.default_rng(0)
    n = 0
    sum_R, squares_R, smallest_R = np.zeros(draws), np.zeros(draws), np.ones(draws)
    for new in new_seeds_K:
        z_RN = rng.standard_normal((draws, have + new - n))
        sum_R += z_RN.sum(axis=1)
        squares_R += (z_RN**2).sum(axis=1)
        n = have + new
        t_R = sum_R / n / np.sqrt((squares_R - sum_R**2 / n) / (n - 1) / n)
        smallest_R = np.minimum(smallest_R, 2 * stdtr(n - 1, -np.abs(t_R)))
    return float(np.quantile(smallest_R, level))


def plan_looks(have: int, most_new: int, *, looks: int = 5) -> list[int]:
    """How many seeds are added to those at hand until each look, evenly from the first that can say something.

    Five looks have nearly all that more would gain (Jennison and Turnbull 2000, Group Sequential Methods, ch. 2).
    The first has two degrees of freedom where the budget allows: with one, the bound is tens of standard errors.
    """
    first = min(max(0, 3 - have), most_new)
    spaced = np.unique(np.linspace(first, most_new, looks).round().astype(int))
    return [int(new) for new in spaced]

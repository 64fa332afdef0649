"""What runs say about a claim: a value for each seed and the runs behind them, or an estimate made in another way.

    by_seed(table, "loss", arm="pre")              a Sample: seed -> mean over the rows of that arm
    arms_apart(table, "loss", "pre", "peri")       seed -> pre minus peri
    slopes(table, "logit", "size")                 seed -> slope against log10 of size
    by_seed(...) - by_seed(...)                    of the seeds that both have
    Measured(estimate=0.3, interval=(0.1, 0.5), n_seeds=3, n_runs=9)    of a fit or a bootstrap

Tables are tidy, with a column `seed`. A row counts as one run; as so many where there is a column `n_runs`; rows of one
`run_id` count once. `Sample.behind` says it otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.student import reach
from conf.command_line import counted


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number and what it rests on, or why there is none.

    Attributes:
        estimate: the number; None where it could not be estimated.
        interval: its 95 % interval. An end is infinite where the estimate is only a bound.
        n_seeds: seeds per setting behind it.
        n_runs: runs behind it.
        reason: why there is no estimate.
        note: what a reader of the statistic must know besides.

    Raises:
        ValueError: neither an estimate with its interval nor a reason, or both; or an interval that is upside down.
    """

    estimate: float | None = None
    interval: tuple[float, float] | None = None
    n_seeds: int
    n_runs: int
    reason: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if (self.interval is None) != (self.estimate is None) or (self.interval is None) != (self.reason is not None):
            raise ValueError("a claim has an estimate with its interval, or else a reason why not")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"the interval {self.interval} is upside down or not a number")

    def measured(self) -> Measured:
        """Itself, as `Sample.measured`."""
        return self


@dataclass(frozen=True)
class Sample:
    """One value for each seed, and the number of runs behind them.

    Attributes:
        values: seed -> value.
        n_runs: the runs behind them.
        bounds: for each value None, or "at least" or "at most" where the truth lies beyond it. The interval has no end
            on that side (the one on the other side holds, since each truth lies further from it than its value); of
            seeds that are bounded on both sides there is no estimate.
        resolution: as in `over_seeds`.
        lacking: why a seed has no value; asked for only where values are too few.
    """

    values: Mapping[Any, float]
    n_runs: int
    bounds: Sequence[str | None] = ()
    resolution: float = 0.0
    lacking: str | None = None

    @classmethod
    def of(cls, values: Sequence[float], runs: Sized | int, *, bounds: Sequence[str | None] = ()) -> Sample:
        """Values in their order, one for each seed."""
        return cls(dict(enumerate(values)), _count(runs), bounds)

    def __add__(self, other: Sample) -> Sample:
        """The sum for each seed that both have."""
        return self._paired(other, lambda value, by: value + by)

    def __sub__(self, other: Sample) -> Sample:
        """The difference for each seed that both have; runs of a seed share the order of their data."""
        return self._paired(other, lambda value, by: value - by)

    def __truediv__(self, other: Sample) -> Sample:
        """The ratio for each seed that both have and whose divisor is above 0."""
        positive = {seed: by for seed, by in other.values.items() if by > 0}
        return self._paired(replace(other, values=positive), lambda value, by: value / by)

    def __mul__(self, factor: float) -> Sample:
        return replace(self, values={seed: value * factor for seed, value in self.values.items()})

    def _paired(self, other: Sample, combine: Callable[[float, float], float]) -> Sample:
        both = [seed for seed in self.values if seed in other.values]
        values = {seed: combine(self.values[seed], other.values[seed]) for seed in both}
        return Sample(values, self.n_runs + other.n_runs)

    def behind(self, runs: Sized | int) -> Sample:
        """The same values with these runs behind them: a table with a row for each, or their number."""
        return replace(self, n_runs=_count(runs))

    def or_say(self, reason: str | None) -> Sample:
        """The same values; where they are too few, this is why."""
        return replace(self, lacking=reason)

    def unless(self, reason: str | None) -> Sample:
        """The same values, or none at all where there is a reason against them."""
        return self if reason is None else replace(self, values={}, bounds=(), lacking=reason)

    def in_steps(self, resolution: float) -> Sample:
        """The same values, which come in steps of `resolution`, such as a share of few runs."""
        return replace(self, resolution=resolution)

    def measured(self) -> Measured:
        """Mean and interval over the seeds; a reason where there are fewer than two, or one is no number."""
        values = list(self.values.values())
        sides = Counter(bound for bound in self.bounds if bound is not None)
        told = ", ".join(f"{side} that in {n} of {counted(len(values), 'seed')}" for side, n in sorted(sides.items()))
        behind: dict[str, Any] = {"n_seeds": len(values), "n_runs": self.n_runs}
        if len(sides) > 1:
            return Measured(reason=f"only bounded: {told}", **behind)
        if len(values) >= 2 and np.isfinite(values).all():
            mean, (lowest, highest) = over_seeds(values, resolution=self.resolution)
            interval = -math.inf if "at most" in sides else lowest, math.inf if "at least" in sides else highest
            return Measured(estimate=mean, interval=interval, note=f" ({told})" if sides else "", **behind)
        if self.lacking is not None:
            return Measured(reason=self.lacking, **behind)
        if len(values) < 2:
            return Measured(reason=f"{counted(len(values), 'seed')}; an interval needs at least 2", **behind)
        numbers = ", ".join(f"{value:g}" for value in values)
        return Measured(reason=f"a seed's value is no number: {numbers}", **behind)


def over_seeds(values: Sequence[float], *, resolution: float = 0.0) -> tuple[float, tuple[float, float]]:
    """Mean and Student's 95 % interval of independent values, one for each seed.

    Args:
        resolution: the step of values that come in steps, such as a share of few runs. The interval reaches at least
            half of it to each side: seeds that agree say no more than that.

    Raises:
        ValueError: fewer than two values, which tell no spread, or one that is no number.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"{values!r} gives no interval; at least two finite values are needed")
    half = reach(len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    half = max(half, resolution / 2)
    mean = float(x.mean())
    return mean, (mean - half, mean + half)


# --- from tables -----------------------------------------------------------------------------------------


def by_seed(table: pl.DataFrame, value: str, **where: Any) -> Sample:
    """The value of each seed, averaged over the rows that agree with `where`.

    Seeds that lack one of the rows that another seed has, or whose value is null there, are left out; their runs count.
    """
    rows = table
    for name, wanted in where.items():
        rows = rows.filter(pl.col(name) == wanted)
    means = rows.group_by("seed", maintain_order=True).agg(
        pl.col(value).mean(), pl.len().alias("n"), pl.col(value).null_count().alias("missing")
    )
    whole = means.filter((pl.col("n") == pl.col("n").max()) & (pl.col("missing") == 0))
    return Sample(dict(sorted(zip(whole["seed"], whole[value], strict=True))), count_runs(rows))


def arms_apart(table: pl.DataFrame, value: str, arm: str, other: str, **where: Any) -> Sample:
    """For each seed the value of one arm minus that of another, averaged as in `by_seed`."""
    return by_seed(table, value, arm=arm, **where) - by_seed(table, value, arm=other, **where)


def slopes(
    table: pl.DataFrame,
    value: str,
    against: str = "size",
    *,
    log_value: bool = False,
    log_against: bool = True,
    **where: Any,
) -> Sample:
    """For each seed the slope of a value against a setting, or of log10 of either; seeds that lack a setting that
    another one has are left out, and so is everything if there is one setting."""
    for name, wanted in where.items():
        table = table.filter(pl.col(name) == wanted)
    slope_of = {}
    n_settings = table[against].n_unique()
    for (seed,), rows in table.drop_nulls(value).group_by("seed", maintain_order=True):
        if len(rows) == n_settings > 1:
            x, y = rows[against].to_numpy(), rows[value].to_numpy()
            x, y = np.log10(x) if log_against else x, np.log10(y) if log_value else y
            slope_of[seed] = float(np.polyfit(x, y, 1)[0])
    return Sample(slope_of, count_runs(table))


def count_runs(rows: pl.DataFrame) -> int:
    """The runs behind the rows of a table: the sum of `n_runs`, the number of different `run_id`, or that of rows."""
    if "n_runs" in rows.columns:
        return int(rows["n_runs"].sum())
    return rows["run_id"].n_unique() if "run_id" in rows.columns else len(rows)


def _count(runs: Sized | int) -> int:
    return runs if isinstance(runs, int) else len(runs)

"""Loss curves and their learning rates: which row was measured when, under which schedule.

    trajectories(points)                     ->  for each `curve` its rows, their steps, and the rate at every step
    trajectories(Curves(points, schedules))  ->  the same where the points are too sparse to tell the rates
    at_peak(lr_T)                            ->  the schedule as if its warm-up had been at the peak

Shape letters: N rows of a table, T steps of a curve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.columns import Array, Column, FitError, read_column, read_labels

CURVE = Column("curve", "which curve the row is of", "name", "any")
STEP = Column("step", "optimiser steps done, the first one counted as 1", "steps")
LR = Column("lr", "learning rate of that step", "1", "non-negative")

MOST_STEPS = 10_000_000  # a column of tokens in place of steps would fill the memory


@dataclass(frozen=True)
class Curves:
    """Points of curves with their full schedules, which logged points are too sparse to tell.

    It reads like the table of its points.

    Attributes:
        points: a table with `curve`, `step` and what else was measured.
        schedules: a table with `curve`, `step`, `lr`; None where the points hold `lr` themselves.
    """

    points: Any
    schedules: Any | None = None

    @property
    def columns(self) -> list[str]:
        return list(self.points.columns) if hasattr(self.points, "columns") else list(self.points)

    def __getitem__(self, name: str) -> Any:
        return self.points[name]


@dataclass(frozen=True)
class Trajectory:
    """The learning rate of one curve, and where it was measured.

    Attributes:
        curve: its name.
        rows: indices of its rows in the table of points (n,).
        steps: their steps, counted from 1, growing (n,).
        lr_T: the learning rate of the steps 1 … T, T being the last step measured.
    """

    curve: str
    rows: NDArray[np.int64]
    steps: NDArray[np.int64]
    lr_T: Array


def trajectories(table: Any) -> list[Trajectory]:
    """The curves of a table with the learning rate at every step.

    Between the rows that tell it the rate is a straight line; before the first of them it is as in that row. A
    sparsely logged curve therefore needs its full schedule: see `Curves`.

    Args:
        table: with `curve`, `step` and `lr`, in any order of rows; or `Curves` with schedules, where `lr` is read
            from these.

    Raises:
        FitError: a column is missing; a step is no whole number from 1 on, stands twice in a curve, or lies outside
            of its schedule; a learning rate is negative, or zero from the first step to the first point.
    """
    schedules = table.schedules if isinstance(table, Curves) and table.schedules is not None else table
    told = {curve: (steps, lr) for curve, _, steps, lr in _by_curve(schedules, "schedules", lr=True)}
    read = []
    for curve, rows, steps, _ in _by_curve(table, "data", lr=False):
        if curve not in told:
            raise FitError(f"curve: {curve!r} of row {rows[0] + 1} has no schedule; there are: {', '.join(told)}")
        known, lr = told[curve]
        if not known[0] <= steps[0] <= steps[-1] <= known[-1]:
            at = 0 if steps[0] < known[0] else len(steps) - 1
            raise FitError(
                f"step: {steps[at]} in row {rows[at] + 1} lies outside of the schedule of curve {curve!r}; "
                f"allowed: {known[0]} to {known[-1]}"
            )
        lr_T = np.interp(np.arange(1, steps[-1] + 1), known, lr)
        if not lr_T[: steps[0]].any():
            raise FitError(
                f"lr: of curve {curve!r} is 0 at every step up to row {rows[0] + 1}; allowed: one above 0 before a loss"
            )
        read.append(Trajectory(curve, rows, steps, lr_T))
    return read


def _by_curve(table: Any, what: str, *, lr: bool) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64], Array]]:
    """Name, rows, steps and (if asked for) learning rates of each curve, in the order of steps."""
    names = read_labels(table, CURVE.name)
    steps_N = read_column(table, Column(STEP.name, "", "", "any"))  # so that the line below can name the curve
    bad = (steps_N < 1) | (steps_N % 1 != 0) | (steps_N > MOST_STEPS)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise FitError(
            f"step: {steps_N[row]:g} in row {row + 1} of the {what} (curve {str(names[row])!r}) is not allowed; "
            f"allowed: whole numbers from 1 to {MOST_STEPS:.0e} (leave rows out with --where)"
        )
    lr_N = read_column(table, LR) if lr else steps_N
    for curve in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == curve)
        rows = rows[np.argsort(steps_N[rows], kind="stable")]
        steps = steps_N[rows].astype(np.int64)
        twice = np.flatnonzero(np.diff(steps) == 0)
        if len(twice):
            first, second = sorted(rows[twice[0] : twice[0] + 2] + 1)
            raise FitError(
                f"step: {steps[twice[0]]} stands twice in curve {curve!r} of the {what}, in rows {first} and {second}; "
                "allowed: once (two runs are two curves)"
            )
        yield curve, rows, steps, lr_N[rows]


def at_peak(lr_T: Array) -> Array:
    """The schedule as if its warm-up had been at the peak: steps before the top of the first rise take its value."""
    falls = np.flatnonzero(np.diff(lr_T) < -1e-9 * lr_T[:-1])
    rise_T = lr_T[: falls[0] + 1] if len(falls) else lr_T
    top = int(np.argmax(rise_T >= rise_T.max() * (1 - 1e-9)))
    return np.concatenate([np.full(top, lr_T[top]), lr_T[top:]])

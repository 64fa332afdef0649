"""Runs that are surprised now and then: where their loss spikes, and where a second moment is out of date.

Steps count updates done, from 1; a row holds the loss of a step's batch before its update. A shifted step is one whose
batch has its tokens mirrored (`data.shift_every`): its loss is high whatever the optimiser does, so it neither is nor
hides a spike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.stability.autopsy import STALE
from analysis.stability.signals import REACH
from analysis.tables.columns import Array
from analysis.tables.runs import read_curves
from analysis.tables.select import with_loss
from analysis.tables.shifts import Mask, Steps, shifted_steps
from train.record.spikes import LEAST_WINDOW, find_spikes

# Wortsman et al. 2023, arXiv 2304.13013: spikes come 1 to 8 steps after the RMS of g / sqrt(v) was above 2.3.
BEFORE = 20  # steps


@dataclass(frozen=True)
class Course:
    """One run by steps (N,).

    Attributes:
        step, loss, shifted: of every step; the training loss in nats per token.
        staleness: the largest of the token table and the matrices of the first block; None where it was not measured.
        tokens_staleness: of the token table alone.
        spikes: the steps at which spikes begin.
    """

    arm: str
    beta2: float
    seed: int
    final_loss: float
    step: Steps
    loss: Array
    shifted: Mask
    staleness: Array | None
    tokens_staleness: Array | None
    spikes: Steps

    @property
    def events(self) -> Steps:
        """The steps at which staleness rises above `STALE`; none where it was not measured."""
        if self.staleness is None:
            return np.empty(0, dtype=np.int64)
        stale = self.staleness > STALE
        rises = np.flatnonzero(stale & ~np.concatenate([[False], stale[:-1]]))
        return np.array(self.step[rises], dtype=np.int64)

    @property
    def preceded(self) -> int:
        """Spikes with an event 1 to `REACH` steps before them."""
        return int(follows(self.spikes, self.events).sum())

    @property
    def preceded_by_chance(self) -> float:
        """How many would be if each spike had begun at any step at which one can."""
        can = self.step[~self.shifted][LEAST_WINDOW:]
        return len(self.spikes) * float(follows(can, self.events).mean()) if len(can) else 0.0

    @property
    def bump(self) -> float | None:
        """The mean loss of the `REACH` steps after each shift minus that of the `BEFORE` steps before it, in nats; None
        where no shift has both."""
        change = np.diff(np.concatenate([[False], self.shifted, [False]]).astype(int))
        rises = []
        for start, end in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True):
            before, after = self.loss[max(0, start - BEFORE) : start], self.loss[end : end + REACH]
            if len(before) == BEFORE and len(after) == REACH:
                rises.append(float(after.mean() - before.mean()))
        return float(np.mean(rises)) if rises else None


def follows(steps: Steps, events: Steps) -> Mask:
    """Which of the steps have an event 1 to `REACH` steps before them."""
    gap = steps[:, None] - events[None, :]
    return np.array(((gap >= 1) & (gap <= REACH)).any(1), dtype=np.bool_)


def lags(courses: Sequence[Course], reach: int) -> tuple[Steps, Array]:
    """Steps from an event to a spike, of all pairs at most `reach` apart, and how many pairs chance would give at each
    lag from -reach to reach: as many as if each spike had begun at any step at which one can."""
    found, expected = [], np.zeros(2 * reach + 1)
    for course in courses:
        gap = (course.spikes[:, None] - course.events[None, :]).ravel()
        found.append(gap[abs(gap) <= reach])
        can = course.step[~course.shifted][LEAST_WINDOW:]
        anywhere = (can[:, None] - course.events[None, :]).ravel()
        anywhere = anywhere[abs(anywhere) <= reach]
        expected += len(course.spikes) / max(1, len(can)) * np.bincount(anywhere + reach, minlength=2 * reach + 1)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64), expected


def read_courses(runs: pl.DataFrame, arm: pl.Expr) -> list[Course]:
    """The course of each run of a table (`analysis.tables.runs.read_runs`) that ended by itself."""
    runs = with_loss(runs, "capped_loss").with_columns(arm.alias("arm"))
    curves = read_curves([Path(folder) for folder in runs["folder"]]).filter(pl.col("train_loss").is_not_null())
    by_run = {str(key[0]): rows for key, rows in curves.sort("step").group_by("curve")}
    return [_course(run, by_run[run["run_id"]]) for run in runs.iter_rows(named=True) if run["run_id"] in by_run]


def _course(run: dict[str, Any], rows: pl.DataFrame) -> Course:
    step, loss = rows["step"].to_numpy(), rows["train_loss"].to_numpy()
    shifted = shifted_steps(run, step)
    names = [name for name in rows.columns if re.fullmatch(r"(tokens|block0/\w+)/staleness", name)]
    measured = rows.select(names).drop_nulls().height == len(rows) > 0 and "tokens/staleness" in names
    # Positions and not steps: the detector takes what it sees for consecutive.
    spikes = step[~shifted][np.array(find_spikes(enumerate(loss[~shifted].tolist())), dtype=np.int64)]
    return Course(
        arm=run["arm"],
        beta2=run["optim.beta2"],
        seed=run["seed"],
        final_loss=run["capped_loss"],
        step=step,
        loss=loss,
        shifted=shifted,
        staleness=rows.select(pl.max_horizontal(names)).to_series().to_numpy() if measured else None,
        tokens_staleness=rows["tokens/staleness"].to_numpy() if measured else None,
        spikes=spikes,
    )

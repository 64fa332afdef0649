"""What figures share whose numbers come from laws fitted to all of a study's runs at once."""

from __future__ import annotations

import polars as pl
from rich.console import Console

from analysis.claims.sample import Measured
from analysis.tables import select
from conf.command_line import counted

Estimate = tuple[float, tuple[float, float]]
"""A value and its 95 % interval."""


def finished(runs: pl.DataFrame, console: Console) -> pl.DataFrame:
    """`analysis.tables.select.with_loss`, which says what it leaves out."""
    done = select.with_loss(runs)
    if len(done) < len(runs):
        console.print(f"{counted(len(runs) - len(done), 'run')} of {len(runs)} left out: not finished")
    return done


def measured(estimate: Estimate | None, runs: pl.DataFrame, reason: str | None) -> Measured:
    """An estimate that rests on these runs, or the reason why there is none."""
    value, interval = estimate or (None, None)
    n_seeds = runs["seed"].n_unique() if len(runs) else 0
    reason = None if estimate else reason
    return Measured(estimate=value, interval=interval, n_seeds=n_seeds, n_runs=len(runs), reason=reason)

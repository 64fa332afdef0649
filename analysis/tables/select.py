"""Which runs of a table count: those whose loss counts, those that are annealed, those that are held out.

with_loss(runs)                 ->  the runs that finished and have a `loss`
with_loss(runs, "capped_loss")  ->  besides them the runs that diverged, which count at their loss at initialisation
annealed(runs)                  ->  true or false for each row, null where the table does not tell
hold_out_largest(runs)          ->  the others, and the runs of the largest model at its most tokens
"""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.tables.csv import numbers, reads_as

FINISHED = pl.col("state") == "finished"
"""Of a table of runs those whose last loss is that of their end; a run that diverged, failed or is running has none."""

ENDLESS = ("constant", "inverse_sqrt")
"""The shapes of a schedule that have no floor, and end wherever the run does."""

ANNEALED = 0.1


def with_loss(runs: pl.DataFrame, loss: str = "loss") -> pl.DataFrame:
    """`with_loss(runs)`: the runs whose loss counts, as they finished and have one.

    Args:
        loss: the column. `capped_loss` (`analysis.tables.runs.capped_loss`) counts a run that diverged too.
    """
    has_one = pl.col(loss).is_not_null()
    return runs.filter(has_one if loss == "capped_loss" else FINISHED & has_one)


def annealed(table: pl.DataFrame) -> pl.Series:
    """`annealed(runs)`: whether the learning rate of each row comes down to a tenth of its peak or less (N,); null
    where the table does not tell.

    That the rate falls is not enough. A loss at a rate lies above the loss after a decay by an amount that grows with
    the rate, so that the last loss of a cosine to 0.3 of its peak is not what its tokens could reach. A tenth is the
    highest floor in common use: the cosine of Hoffmann et al. 2022 (arXiv 2203.15556) ends there.

    Args:
        table: with `lr_final`, the rate at the point, and `lr`, the peak; or with the settings `schedule.shape`,
            `schedule.floor` and `schedule.floor_is`, and `lr` where the floor is an absolute rate. A shape of `ENDLESS`
            is never annealed.
    """
    lr, floor = numbers(table, "lr"), numbers(table, "schedule.floor")
    if "lr_final" in table.columns:
        peak, final = lr, numbers(table, "lr_final")
    else:
        peak = np.where(reads_as(table, "schedule.floor_is", ("absolute",)), lr, 1.0)
        final = np.where(reads_as(table, "schedule.shape", ENDLESS), peak, floor)
    known = np.isfinite(peak) & np.isfinite(final)
    answers = zip(final <= ANNEALED * peak, known, strict=True)
    return pl.Series("annealed", [bool(low) if told else None for low, told in answers], dtype=pl.Boolean)


def hold_out_largest(runs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(the others, the runs of the largest model at its most tokens). Replicates by seed are held out together.

    The tokens are those that were planned, with what a grown run inherits: a run that broke must not cede its place to
    a shorter one.
    """
    planned = pl.col("n_tokens_planned")
    largest = pl.col("n_params") == pl.col("n_params").max()
    held = largest & (planned == planned.filter(largest).max())
    return runs.filter(~held), runs.filter(held)

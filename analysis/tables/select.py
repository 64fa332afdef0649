"""Named filters of the table of runs; each returns the rows it keeps."""

from __future__ import annotations

import polars as pl


def finished(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that ended by themselves and have a loss: not diverged, failed or running."""
    return runs.filter((pl.col("state") == "finished") & pl.col("loss").is_not_null())


def hold_out_largest(runs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(the others, the runs of the largest model at its most tokens). Replicates by seed are held out together.

    The tokens are those that were planned, with what a grown run inherits: a run that broke must not hand its place to
    a shorter one.
    """
    planned = pl.col("n_tokens_planned")
    largest = pl.col("n_params") == pl.col("n_params").max()
    held = largest & (planned == planned.filter(largest).max())
    return runs.filter(~held), runs.filter(held)

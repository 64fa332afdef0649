"""Training curves of runs, as laws of curves read them: the loss at each step, and the learning rate up to there.

    curves_of_runs(folders)  ->  points, schedules, and the ids of the runs that have no curve

Such a law speaks of one model trained from its first step on. A run that continues another one
(`analysis.tables.lineage`) with its optimiser's moments (`grow.optimizer=carry`) is the run from scratch under the same
schedule, and is therefore read as the whole of its chain: the rows and rates of the trunk up to where it was left, then
its own, with steps counted on. A run that grew out of another model, whose schedule restarted, or that changed what
decides about an update, has no such curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from analysis.tables.csv import TableError
from analysis.tables.lineage import FROM_SCRATCH, courses, trace, with_bases


def curves_of_runs(
    folders: Sequence[Path], *, params: str = "total"
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[str, ...]]:
    """The curves of runs, and which runs have none.

    Args:
        folders: run folders, each once; the runs that they continue are looked for where the trainer does.
        params: which count becomes `n_params`; one of `analysis.tables.runs.CONVENTIONS`.

    Returns:
        points: the rows where the validation loss was measured: `curve` (the folder's name), `step`, `lr`, `loss`,
            `n_params`, `n_tokens`, `flops`, `batch_tokens`, `measured_by` (the id of the run that made the row:
            branches of one trunk share its rows), and the run's `state` and settings.
        schedules: `curve`, `step`, `lr` of every logged step.
        left_out: ids of the runs that grew out of another model, had their learning rate or moments restarted, their
            weights altered, or a setting of the update changed (`analysis.tables.lineage.UPDATES`).

    Raises:
        RecordError, TableError: a folder without a readable record, a base that is not there, or no run with a curve
            that measured something.
    """
    runs = with_bases(folders, params=params).unique("run_id", keep="first", maintain_order=True)
    asked = runs.filter(pl.col("folder").is_in([str(folder) for folder in folders]))
    traced = trace(runs)
    single = set(traced.filter(FROM_SCRATCH & pl.col("unbroken"))["run_id"])
    left_out = tuple(run for run in asked["run_id"] if run not in single)
    whole = asked.filter(~pl.col("run_id").is_in(left_out))
    if whole.is_empty():
        raise TableError(
            "no run has a curve from its first step on: each grew out of another model, or its schedule or moments "
            "restarted; allowed: runs from scratch, or that continue one with grow.schedule=continue and "
            "grow.optimizer=carry"
        )
    course = courses(traced, whole["run_id"])
    if "val_loss" not in course.columns:
        raise TableError("none of the runs has measured a validation loss")

    name = pl.Series("curve", [Path(folder).name for folder in whole["folder"]], dtype=pl.String)
    rows = (
        course.drop("step")
        .rename({"course_step": "step"})
        .join(whole.select("run_id", name), on="run_id", how="left", maintain_order="left")
    )
    of_the_row = {"loss", "lr", "n_tokens", *course.columns} - {"run_id"}
    of_the_run = whole.select(pl.exclude(of_the_row))
    points = (
        rows.filter(pl.col("val_loss").is_not_null() & (pl.col("step") > 0))
        .select(
            "curve", "step", "lr", pl.col("val_loss").alias("loss"), pl.col("tokens").alias("n_tokens"), "flops",
            pl.col("part").alias("measured_by"), "run_id",
        )
        .join(of_the_run, on="run_id", how="left", maintain_order="left")
    )  # fmt: skip
    schedules = rows.filter(pl.col("lr").is_not_null()).select("curve", "step", "lr")
    return points, schedules, left_out

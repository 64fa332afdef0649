"""Runs that grow out of others: how each came to be, and its whole course.

    with_bases(folders)             ->  the table of runs, and below them all that they have grown out of
    trace(runs)                     ->  with `chain`, `growth`, `annealed`, …: what each has grown out of
    with_growth(runs)               ->  the table with `grown.*`, which tells grown arms apart
    courses(traced, traced["run_id"])  ->  the metrics of each run and of all before it, steps counted on
    find_base(folder, study, base, step)  ->  the folder of the run that the one in `folder` starts from

A table of runs (`analysis.tables.runs.read_runs`) holds bases and trunks beside the runs that a study is about. A run
*continues* the one that it starts from where its model and weights are the same and its learning rate goes on
(`grow.schedule=continue`), as a decay does that branches off a trunk. Otherwise it *grows*; another model always does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import polars as pl

from analysis.tables.csv import TableError
from analysis.tables.runs import read_curves, read_runs
from analysis.tables.select import FINISHED, annealed
from conf.schema import paths
from train.record.lineage import base_folder, runs_dir_of

SIZE = ("model.depth", "model.width")
GROWING = paths("size")
"""Settings that give a model more weights."""


UPDATES = paths("update", "size", "proportion", "validation")
"""Settings that decide about an update, but for its learning rate's schedule, and what its loss is measured on."""


FROM_SCRATCH = pl.col("growth").is_null()
ENDED = pl.col("annealed") & pl.col("unbroken") & FINISHED
"""Of traced runs those whose last loss stands for the whole of their course."""


def with_bases(folders: Sequence[Path], *, params: str = "total") -> pl.DataFrame:
    """The table of runs (`analysis.tables.runs.read_runs`) and, after them, of all that they have grown out of.

    Raises:
        RecordError, TableError: a folder without a readable record, or a base that is not there.
    """
    read = [read_runs(folders, params=params)]
    known = set(read[0]["run_id"])
    while True:
        bases: dict[str, Path] = {}
        for run in read[-1].iter_rows(named=True):
            base = run["grow.base"]
            if base is not None and base not in known and base not in bases:
                bases[base] = find_base(Path(run["folder"]), run["study"], base, run["grow.step"])
        if not bases:
            return pl.concat(read, how="diagonal_relaxed")
        known |= bases.keys()
        read.append(read_runs(list(bases.values()), params=params))


def find_base(folder: Path, study: str, base: str, step: int) -> Path:
    """The folder of the run that the run in `folder` starts from, where the trainer looks for it.

    Raises:
        TableError: there is none.
    """
    runs_dir = runs_dir_of(folder, study)
    lies_at = base_folder(base, step, beside=[folder.parent, folder.resolve().parent], below=runs_dir)
    if lies_at is None:
        raise TableError(f"grow.base: {base}, which {folder} starts from, is no run under {runs_dir}")
    return lies_at


def with_growth(runs: pl.DataFrame) -> pl.DataFrame:
    """The table with what tells grown arms apart, wherever the decay of a run branched off.

    New columns: `grown.*`, the settings `grow.*` of the run's last growth, null from scratch; `model_grew`, whether any
    growth in its chain changed the model or its weights; and of `trace` `annealed` and `base_*`.

    Args:
        runs: with all that they have grown out of (`with_bases`).
    """
    traced = trace(runs)
    grown = [
        pl.col(name).alias(name.replace("grow.", "grown."))
        for name in runs.columns
        if name.startswith("grow.") and name != "grow.base"
    ]
    columns = ("annealed", "model_grew", "base_depth", "base_width", "base_tokens", "base_flops")
    return runs.join(traced.select("run_id", *grown, *columns), on="run_id", how="left", maintain_order="left")


def trace(runs: pl.DataFrame) -> pl.DataFrame:
    """The table of runs with what each has grown out of; runs that failed or diverged stay.

    New columns:

    - `chain`: ids of the runs from the first base to the run itself, and `left_at`: the step of each of them that the
      next one starts from, null for the last.
    - `annealed`: whether the run ends with a decay (`analysis.tables.select.annealed`).
    - `model_grew`: whether a growth in the chain changed the model or its weights.
    - `unbroken`: whether every run since the last growth goes on with the moments and the settings (`UPDATES`) of the
      one before it, so that they are one run.
    - `growth`: id of the run that last grew, itself or one before it, and `base_depth`, `base_width` of what it grew
      out of; null from scratch.
    - `base_steps`, `base_tokens`, `base_flops`: what had been spent before that growth; 0 from scratch, null where a
      run that broke does not say.
    - `grow.*` are the settings of that growth, not those with which a branch continues its trunk; null from scratch.

    Raises:
        TableError: a run starts from one that the table lacks.
    """
    by_id = {row["run_id"]: row for row in runs.iter_rows(named=True)}
    low_at_end = dict(zip(runs["run_id"], annealed(runs), strict=True))
    settings = [name for name in runs.columns if name.startswith("grow.")]
    rows = []
    for run in by_id.values():
        links = _links(run, by_id)
        growths = [(base, link) for base, link in pairwise(links) if not _continues(link, base)]
        base, growth = growths[-1] if growths else (None, None)
        since = links if growth is None else links[links.index(growth) :]
        grown_by = dict.fromkeys(settings) if growth is None else {name: growth[name] for name in settings}
        rows.append(
            run
            | grown_by
            | {
                "chain": [link["run_id"] for link in links],
                "left_at": [*(link["grow.step"] for link in links[1:]), None],
                "annealed": low_at_end[run["run_id"]],
                "model_grew": any(_alters(link, base) for base, link in pairwise(links)),
                "unbroken": all(_goes_on(link, base) for base, link in pairwise(since)),
                "growth": growth and growth["run_id"],
                "base_steps": 0 if growth is None else growth.get("n_steps_inherited"),
                "base_tokens": 0 if growth is None else growth.get("n_tokens_inherited"),
                "base_flops": 0 if growth is None else growth.get("flops_inherited"),
                "base_depth": base and base["model.depth"],
                "base_width": base and base["model.width"],
            }
        )
    return pl.DataFrame(
        rows, infer_schema_length=None, schema_overrides={"left_at": pl.List(pl.Int64), "growth": pl.String}
    )


def _links(run: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs that a run has grown out of, the first one first, and itself."""
    base = run["grow.base"]
    if base is None:
        return [run]
    if base not in by_id:
        raise TableError(f"grow.base: {base}, which {run['run_id']} starts from, is no run of the table")
    return [*_links(by_id[base], by_id), run]


def _continues(run: dict[str, Any], base: dict[str, Any]) -> bool:
    return run["grow.schedule"] == "continue" and not _alters(run, base)


def _goes_on(run: dict[str, Any], base: dict[str, Any]) -> bool:
    return run.get("grow.optimizer") == "carry" and all(run.get(name) == base.get(name) for name in UPDATES)


def _alters(run: dict[str, Any], base: dict[str, Any]) -> bool:
    altered = run.get("grow.noise") or "learn" in (run["grow.depth"], run.get("grow.width"))
    return bool(altered) or any(run[name] != base[name] for name in GROWING)


def courses(traced: pl.DataFrame, run_ids: pl.Series) -> pl.DataFrame:
    """The whole course of runs: the rows of metrics of all that each grew out of, up to where it was left, and its own.

    Returns:
        `run_id` (whose course it is), `part` (the run that made the row), `since_growth` (whether the weights had their
        last growth behind them; all of a course from scratch has), `course_step` (steps since the first run began), and
        the metrics, `flops` and `tokens` being those of the whole course, `step` that of the part.
    """
    chosen = traced.filter(pl.col("run_id").is_in(run_ids.implode()))
    folder_of = dict(zip(traced["run_id"], traced["folder"], strict=True))
    growth_of = dict(zip(traced["run_id"], traced["growth"], strict=True))
    parts = sorted({part for chain in chosen["chain"] for part in chain})
    metrics = read_curves([Path(folder_of[part]) for part in parts])
    by_folder = {str(key[0]): rows for key, rows in metrics.group_by("curve", maintain_order=True)}
    none = metrics.clear()  # of a run that has only begun
    by_part = {part: by_folder.get(Path(folder_of[part]).name, none) for part in parts}
    parted = []
    for run_id, chain, left_at in chosen.select("run_id", "chain", "left_at").iter_rows():
        begun_at = accumulate(left_at[:-1], initial=0)
        for k, (part, left, begun) in enumerate(zip(chain, left_at, begun_at, strict=True)):
            rows = by_part[part] if left is None else by_part[part].filter(pl.col("step") <= left)
            if k > 0 and growth_of[part] != part:  # it continues from weights that were measured
                rows = rows.filter(pl.col("step") > 0)
            since = pl.lit(growth_of[part] == growth_of[run_id]).alias("since_growth")
            names = pl.lit(run_id).alias("run_id"), pl.lit(part).alias("part")
            parted.append(
                rows.select(*names, since, (pl.col("step") + begun).alias("course_step"), pl.exclude("curve"))
            )
    return pl.concat(parted, how="diagonal")

"""What each block of each run measured, as tidy tables; blocks count from 1, as in the papers.

Every table has the columns `arm`, `size`, `lr`, `seed` and `run_id` of a sweep (`analysis.stability.lr_sweep`), so that
`analysis.claims.sample` takes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.stability.signals import find_events
from analysis.tables.columns import Array
from analysis.tables.csv import TableError
from train.record.metrics_file import read_metrics
from train.record.run import read_run

KEYS = ("arm", "size", "lr", "seed", "run_id")


@dataclass(frozen=True)
class Rows:
    """The metrics of one run: its keys in a sweep, its record, and the rows of its files."""

    keys: Mapping[str, Any]
    record: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def read_rows(sweep: pl.DataFrame) -> list[Rows]:
    """The metrics of the runs of a sweep, in its order; read them once for all that is asked of them."""
    return [
        Rows({key: run[key] for key in KEYS}, read_run(Path(run["folder"])) or {}, read_metrics(Path(run["folder"])))
        for run in sweep.iter_rows(named=True)
    ]


def by_block(runs: Sequence[Rows], metric: str) -> pl.DataFrame:
    """`block{l}/metric` of every run as rows: the keys, `step`, `block` and `value`.

    Steps at which a block lacks it, as where a variance was no number any more, are left out.

    Raises:
        TableError: no run measured it.
    """
    rows = []
    for run in runs:
        for row in run.metrics:
            values = _numbered(row, rf"block(\d+)/{metric}")
            named = {**row, **dict.fromkeys(row.get("non_finite", []))}
            depth = 1 + max((layer for (layer,) in _numbered(named, rf"block(\d+)/{metric}")), default=-1)
            if len(values) == depth:
                at = {**run.keys, "step": row["step"]}
                rows += [at | {"block": layer + 1, "value": value} for (layer,), value in values.items()]
    return _table(rows, f"block{{l}}/{metric}")


def angles(runs: Sequence[Rows]) -> pl.DataFrame:
    """`angle/{l}/{n}` of every run as rows: the keys, `block`, `ahead` (n) and `value`, in units of pi.

    Raises:
        TableError: no run measured it (`eval.layers`).
    """
    rows = [
        {**run.keys, "block": layer + 1, "ahead": ahead, "value": value}
        for run in runs
        for row in run.metrics
        for (layer, ahead), value in _numbered(row, r"angle/(\d+)/(\d+)").items()
    ]
    return _table(rows, "angle/{l}/{n}")


def at_start(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of each run's first probe, before any update."""
    return table.filter(pl.col("step") == pl.col("step").min().over("run_id"))


def at_end(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of each run's last probe, which of a diverged run is the last before it broke."""
    return table.filter(pl.col("step") == pl.col("step").max().over("run_id"))


def over_blocks(table: pl.DataFrame, statistic: Callable[[Array], float], name: str) -> pl.DataFrame:
    """One number for each run and step: a statistic of its values in the order of the blocks (L,)."""
    rows = []
    for key, part in table.sort("block").group_by(*KEYS, "step", maintain_order=True):
        found = statistic(part["value"].to_numpy())
        rows.append(dict(zip((*KEYS, "step"), key, strict=True)) | {name: found})
    return pl.DataFrame(rows, infer_schema_length=None)


def tilt(values: Array) -> float:
    """Decades by which the values rise from the first block to the last, on the line through their logarithms."""
    return float(np.polyfit(np.linspace(0, 1, len(values)), np.log10(values), 1)[0])


def unevenness(values: Array) -> float:
    """Standard deviation of log10 over the blocks: 0 where all are alike."""
    return float(np.log10(values).std())


def broke(sweep: pl.DataFrame, runs: Sequence[Rows]) -> pl.DataFrame:
    """The sweep with `broke`: 1 where a run diverged or its training loss rose out of its noise, else 0.

    What counts as a rise is said in `analysis.stability.signals`.
    """
    rose = [bool(find_events(run.record, run.metrics)) for run in runs]
    return sweep.with_columns(pl.Series("broke", rose, dtype=pl.Float64))


# --- reading ---------------------------------------------------------------------------------------------


def _numbered(row: Mapping[str, Any], pattern: str) -> dict[tuple[int, ...], Any]:
    """The metrics of a row whose name matches, by the numbers in it."""
    matches = ((re.fullmatch(pattern, name), value) for name, value in row.items())
    return {tuple(int(number) for number in match.groups()): value for match, value in matches if match}


def _table(rows: list[dict[str, Any]], metric: str) -> pl.DataFrame:
    if not rows:
        raise TableError(f"none of the runs measured {metric}")
    return pl.DataFrame(rows, infer_schema_length=None)

"""What each block of each run measured, as tidy tables; blocks count from 1, as in the papers.

Every table has the columns `arm`, `size`, `lr`, `seed` and `run_id` of a sweep (`analysis.stability.lr_sweep`), so that
its `by_seed` and `differences` take them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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


def by_block(sweep: pl.DataFrame, metric: str) -> pl.DataFrame:
    """`block{l}/metric` of every run as rows: the keys, `step`, `block` and `value`.

    Steps at which a block lacks it, as where a variance was no number any more, are left out.

    Raises:
        TableError: no run measured it.
    """
    rows = []
    for run, row in _rows(sweep):
        values = _numbered(row, rf"block(\d+)/{metric}")
        depth = 1 + max((layer for (layer,) in _numbered(row | _missing(row), rf"block(\d+)/{metric}")), default=-1)
        if len(values) == depth:
            rows += [run | {"step": row["step"], "block": layer + 1, "value": x} for (layer,), x in values.items()]
    return _table(rows, f"block{{l}}/{metric}")


def angles(sweep: pl.DataFrame) -> pl.DataFrame:
    """`angle/{l}/{n}` of every run as rows: the keys, `block`, `ahead` (n) and `value`, in units of pi.

    Raises:
        TableError: no run measured it (`eval.layers`).
    """
    rows = []
    for run, row in _rows(sweep):
        for (layer, ahead), value in _numbered(row, r"angle/(\d+)/(\d+)").items():
            rows.append(run | {"block": layer + 1, "ahead": ahead, "value": value})
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


def broke(sweep: pl.DataFrame) -> pl.DataFrame:
    """The sweep with `broke`: 1 where a run diverged or its training loss rose out of its noise, else 0.

    What counts as a rise is said in `analysis.stability.signals`.
    """
    found = [bool(find_events(read_run(Path(f)) or {}, read_metrics(Path(f)))) for f in sweep["folder"]]
    return sweep.with_columns(pl.Series("broke", found, dtype=pl.Float64))


# --- reading ---------------------------------------------------------------------------------------------


def _rows(sweep: pl.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for run in sweep.iter_rows(named=True):
        for row in read_metrics(Path(run["folder"])):
            yield {key: run[key] for key in KEYS}, row


def _numbered(row: dict[str, Any], pattern: str) -> dict[tuple[int, ...], Any]:
    """The metrics of a row whose name matches, by the numbers in it."""
    matches = ((re.fullmatch(pattern, name), value) for name, value in row.items())
    return {tuple(int(number) for number in match.groups()): value for match, value in matches if match}


def _missing(row: dict[str, Any]) -> dict[str, None]:
    """The metrics of a row that were no number."""
    return dict.fromkeys(row.get("non_finite", []))


def _table(rows: list[dict[str, Any]], metric: str) -> pl.DataFrame:
    if not rows:
        raise TableError(f"none of the runs measured {metric}")
    return pl.DataFrame(rows, infer_schema_length=None)

"""The rows that a run measures, a JSON object a line.

MetricsWriter(folder, after_step=200)     appends to `metrics.jsonl`, behind the rows up to step 200
read_metrics(folder)                      [{'step': 0, 'tokens': 0, …}, …]: without a last line that a kill cut off
read_metrics(folder, FLIGHT)              the same of what the flight recorder wrote
write_parquet(folder)                     the same rows as `metrics.parquet`, and what both files are
read_metrics_table(folder)                a table of the rows, from the parquet where it is what the run left
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.record.files import write_bytes
from train.record.run import RecordError, read_run

if TYPE_CHECKING:
    import polars as pl  # which a run needs at its end only

METRICS = "metrics.jsonl"
PARQUET = "metrics.parquet"
FLIGHT = "flight.jsonl"


class MetricsWriter:
    """Appends rows to `metrics.jsonl`; after `append` a row outlives the process, after `sync` a power cut."""

    def __init__(self, folder: Path, *, after_step: int, name: str = METRICS) -> None:
        """Keep the rows up to `after_step`, which a resumed run has already measured, and drop later ones."""
        self.path = folder / name
        kept = [row for row in read_metrics(folder, name) if row["step"] <= after_step]
        write_bytes(self.path, b"".join(metrics_line(row) for row in kept))
        self._file = self.path.open("ab")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row, as `metrics_line` renders it."""
        self._file.write(metrics_line(row))
        self._file.flush()

    def sync(self) -> None:
        """Wait until the rows are on disk, so that no checkpoint is ahead of them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def metrics_line(row: Mapping[str, Any]) -> bytes:
    """One row of a file of metrics. Non-finite values are named under `non_finite` instead, since JSON has no NaN."""
    broken = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    clean = {name: value for name, value in row.items() if name not in broken}
    return (json.dumps(clean | ({"non_finite": broken} if broken else {}), allow_nan=False) + "\n").encode()


def read_metrics(folder: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` in order, none if there is no such file; a last line cut off by a kill is left out.

    Raises:
        RecordError: a line before the last one is damaged.
    """
    path = folder / name
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or cut off
        try:
            row = json.loads(line)
        except ValueError:  # no JSON, or not even UTF-8
            row = None
        if not isinstance(row, dict):
            raise RecordError(f"{path}: line {number} is damaged")
        rows.append(row)
    return rows


def write_parquet(folder: Path) -> dict[str, str]:
    """Write `metrics.parquet`, the same rows as `metrics.jsonl`; a missing value is null.

    Returns:
        the SHA-256 of both files by their names, which the record keeps as `metrics_sha256`.
    """
    _parse_table(folder).write_parquet(folder / PARQUET)
    return {name: _sha256(folder / name) for name in (METRICS, PARQUET)}


def read_metrics_table(folder: Path) -> pl.DataFrame:
    """The rows of `read_metrics` as a table, a column for each name; a missing value is null.

    They are read from `metrics.parquet` where the run's record says that both files are what the run left, byte for
    byte. Anything else, such as a file that was written to since, damaged or copied from another run, or a run that
    has not ended, is read from `metrics.jsonl`.

    Raises:
        RecordError: the record cannot be read, or a line of `metrics.jsonl` before the last one is damaged.
    """
    import polars as pl

    recorded = (read_run(folder) or {}).get("metrics_sha256", {})
    if recorded and all((folder / name).is_file() and _sha256(folder / name) == sha for name, sha in recorded.items()):
        return pl.read_parquet(folder / PARQUET)
    return _parse_table(folder)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parse_table(folder: Path) -> pl.DataFrame:
    import polars as pl

    rows = read_metrics(folder)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, strict=False)

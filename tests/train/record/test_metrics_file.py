"""Metrics as a table: the same from either file, and never from a parquet file that is behind."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from train.record.metrics_file import METRICS, PARQUET, MetricsWriter, metrics_line, read_metrics_table, write_parquet

ROWS = (
    {"step": 0, "val_loss": 5.5},
    {"step": 1, "lr": 1e-3, "train_loss": 5.25, "tokens": 64},
    {"step": 2, "lr": 2e-3, "train_loss": float("nan"), "tokens": 128, "val_loss": 3},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = MetricsWriter(tmp_path, after_step=0)
    for row in ROWS:
        writer.append(row)
    writer.close()
    return tmp_path


def newer(path: Path, than: Path, seconds: float) -> None:
    when = than.stat().st_mtime + seconds
    os.utime(path, (when, when))


def test_both_files_give_the_same_table(folder: Path) -> None:
    parsed = read_metrics_table(folder)
    write_parquet(folder)
    assert_frame_equal(read_metrics_table(folder), parsed)
    assert parsed["val_loss"].to_list() == [5.5, None, 3.0]
    assert parsed["non_finite"].to_list() == [None, None, ["train_loss"]]


def test_the_parquet_is_what_is_read(folder: Path) -> None:
    """The control of the tests below: a parquet of as many rows, and not older, is taken at its word."""
    pl.DataFrame({"step": [7, 8, 9]}).write_parquet(folder / PARQUET)
    assert read_metrics_table(folder)["step"].to_list() == [7, 8, 9]


@pytest.mark.parametrize("what", ["older", "shorter", "damaged", "empty", "gone"])
def test_a_parquet_that_is_behind_does_not_win(folder: Path, what: str) -> None:
    other = pl.DataFrame({"step": [7, 8] if what == "shorter" else [7, 8, 9]})
    other.write_parquet(folder / PARQUET)
    if what == "older":
        newer(folder / METRICS, folder / PARQUET, 1)
    if what in ("damaged", "empty"):
        content = (folder / PARQUET).read_bytes()
        (folder / PARQUET).write_bytes(b"" if what == "empty" else content[: len(content) // 2])
    if what == "gone":
        (folder / PARQUET).unlink()
    assert read_metrics_table(folder)["step"].to_list() == [0, 1, 2]


def test_rows_that_a_resumed_run_adds_are_read(folder: Path) -> None:
    write_parquet(folder)
    with (folder / METRICS).open("ab") as file:
        file.write(metrics_line({"step": 3, "lr": 1e-3}))
    newer(folder / PARQUET, folder / METRICS, 1)  # as after a copy that kept no times
    assert read_metrics_table(folder)["step"].to_list() == [0, 1, 2, 3]


def test_a_folder_without_metrics_has_an_empty_table(tmp_path: Path) -> None:
    assert read_metrics_table(tmp_path).is_empty()

"""Metrics as a table: the same from either file, and never from a parquet that is not what the run left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from train.record.metrics_file import METRICS, PARQUET, MetricsWriter, metrics_line, read_metrics_table, write_parquet
from train.record.run import RecordError, write_run

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


def end(folder: Path) -> None:
    """As a run does."""
    record = {"run_id": "x", "state": "finished", "val_loss": 3.0, "val_loss_se": 0.1, "seconds": 1.0}
    write_run(folder, record | {"metrics_sha256": write_parquet(folder)})


def test_both_files_give_the_same_table(folder: Path) -> None:
    parsed = read_metrics_table(folder)
    end(folder)
    assert_frame_equal(read_metrics_table(folder), parsed)
    assert parsed["val_loss"].to_list() == [5.5, None, 3.0]
    assert parsed["non_finite"].to_list() == [None, None, ["train_loss"]]


def test_the_parquet_is_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the tests below."""
    end(folder)
    monkeypatch.setattr(pl, "read_parquet", lambda path: f"read {path.name}")
    assert read_metrics_table(folder) == f"read {PARQUET}"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: pl.DataFrame({"step": [7, 8, 9]}).write_parquet(path),
        Path.unlink,
    ],
    ids=["a flipped bit", "cut", "empty", "of another run", "gone"],
)
def test_a_parquet_that_is_not_what_the_run_left_does_not_win(folder: Path, damage: Callable[[Path], object]) -> None:
    end(folder)
    damage(folder / PARQUET)
    assert read_metrics_table(folder)["step"].to_list() == [0, 1, 2]


def test_a_parquet_that_no_record_speaks_of_does_not_win(folder: Path) -> None:
    pl.DataFrame({"step": [7, 8, 9]}).write_parquet(folder / PARQUET)
    assert read_metrics_table(folder)["step"].to_list() == [0, 1, 2]


def test_rows_that_were_added_since_are_read(folder: Path) -> None:
    end(folder)
    with (folder / METRICS).open("ab") as file:
        file.write(metrics_line({"step": 3, "lr": 1e-3}))
    assert read_metrics_table(folder)["step"].to_list() == [0, 1, 2, 3]


def test_damaged_rows_are_named_though_the_parquet_is_whole(folder: Path) -> None:
    end(folder)
    lines = (folder / METRICS).read_bytes().split(b"\n")
    (folder / METRICS).write_bytes(b"\n".join([lines[0][:-4], *lines[1:]]))
    with pytest.raises(RecordError, match="line 1 is damaged"):
        read_metrics_table(folder)


def test_a_folder_without_metrics_has_an_empty_table(tmp_path: Path) -> None:
    assert read_metrics_table(tmp_path).is_empty()

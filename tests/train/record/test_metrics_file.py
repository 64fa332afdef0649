"""Metrics as a table: the same from either file, and never from a parquet that is not what the run left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from train.record.metrics_file import (
    FLIGHT,
    METRICS,
    PARQUET,
    MetricsWriter,
    metrics_line,
    read_metrics,
    read_metrics_table,
    write_parquet,
)
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


# --- any rows ---------------------------------------------------------------------------------------------

NUMBERS = st.floats() | st.integers(-(2**53), 2**53)
ANY_ROWS = st.lists(
    st.dictionaries(st.sampled_from(["lr", "train_loss", "val_loss", "block0/key_rms"]), NUMBERS, max_size=4),
    max_size=6,
).map(lambda rows: [{"step": step, **row} for step, row in enumerate(rows)])


def finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if math.isfinite(value)}


@settings(max_examples=25, deadline=None)
@given(rows=ANY_ROWS)
def test_numbers_read_back_and_what_is_none_is_named(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / METRICS).write_bytes(b"".join(map(metrics_line, rows)))
    read = read_metrics(folder)
    assert len(read) == len(rows)
    for row, written in zip(read, rows, strict=True):
        broken = row.pop("non_finite", [])
        assert row == finite(written)
        assert set(broken) == set(written) - set(finite(written))
        assert b"NaN" not in metrics_line(written)
    end(folder)
    table = read_metrics_table(folder)
    assert len(table) == len(rows)
    for name in set(table.columns) - {"non_finite"}:
        assert table[name].to_list() == [row.get(name) for row in read]


def test_a_resumed_writer_keeps_what_was_measured_by_its_step(folder: Path) -> None:
    for after_step, kept in ((1, [0, 1]), (0, [0]), (-1, [])):
        MetricsWriter(folder, after_step=after_step).close()
        assert [row["step"] for row in read_metrics(folder)] == kept


def test_a_writer_keeps_a_row_as_it_was_written(folder: Path) -> None:
    before = (folder / METRICS).read_bytes()
    writer = MetricsWriter(folder, after_step=2)
    writer.sync()
    writer.close()
    assert (folder / METRICS).read_bytes() == before
    assert b"non_finite" in before


def test_a_row_is_there_before_the_writer_is_closed(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, after_step=0, name=FLIGHT)
    writer.append({"step": 1})
    assert read_metrics(tmp_path, FLIGHT) == [{"step": 1}]
    assert read_metrics(tmp_path) == []
    writer.close()


@pytest.mark.parametrize("cut", range(1, len(metrics_line(ROWS[1])) + 1))
def test_a_last_line_that_a_kill_cut_off_is_left_out_and_written_over(folder: Path, cut: int) -> None:
    """Wherever it was cut; resuming leaves nothing of it."""
    whole = b"".join(map(metrics_line, ROWS[:1])) + metrics_line(ROWS[1])
    (folder / METRICS).write_bytes(whole[:-cut])
    assert [row["step"] for row in read_metrics(folder)] == [0]
    writer = MetricsWriter(folder, after_step=5)
    writer.append(ROWS[1])
    writer.close()
    assert (folder / METRICS).read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"\xff{}\n", b"3\n", b"\n", b"{\n", b'{"step": 1\n', b"step\n", b'{"step": 1} {"step": 2}\n']
)
def test_a_damaged_line_within_is_told_by_its_number(folder: Path, damage: bytes) -> None:
    lines = [*map(metrics_line, ROWS)]
    (folder / METRICS).write_bytes(lines[0] + damage + lines[2])
    for read in (read_metrics, read_metrics_table):
        with pytest.raises(RecordError, match=r"metrics\.jsonl: line 2 is damaged$"):
            read(folder)

"""Run folders and CSV files become one tidy table, or one clear line."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis.tables import select
from analysis.tables.csv import TableError, load_csv, numbers, rename, where
from analysis.tables.run_curves import curves_of_runs
from analysis.tables.runs import capped_loss, read_curves, read_runs, runs_matching, runs_of_study
from conf.compose import to_config, to_yaml
from conf.schema import UserError
from tests.analysis.helpers import write_ladder
from train.record.metrics_file import metrics_line, write_parquet
from train.record.run import RecordError, read_run, write_run
from train.timetable.cost import run_cost


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_ladder(tmp_path_factory.mktemp("runs"), widths=(32, 64), ratios=(10, 20), steps=20)


def test_a_row_holds_the_record_and_the_settings(folders: list[Path]) -> None:
    table = read_runs(folders)
    assert len(table) == 4
    row = table.row(0, named=True)
    record = read_run(folders[0])
    assert record is not None
    assert row["folder"] == str(folders[0])
    assert row["model.width"] == 32
    assert row["optim.lr"] == row["lr"] == 3e-3
    assert row["val_loss"] == row["loss"] == record["val_loss"]
    assert row["n_params"] == row["n_params_total"] == record["n_params_total"]
    assert row["batch_tokens"] == record["tokens_per_step"]
    assert row["state"] == "finished"
    assert "hardware" not in table.columns  # objects are not cells


def test_the_convention_chooses_the_parameters(folders: list[Path]) -> None:
    table = read_runs(folders, params="non_embedding")
    assert table["n_params"].to_list() == table["n_params_non_embedding"].to_list()
    assert table["n_params"].to_list() != table["n_params_total"].to_list()
    with pytest.raises(TableError, match="allowed: total, non_embedding"):
        read_runs(folders, params="all")


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path, widths=(32,), ratios=(10, 20), steps=10, state="diverged", diverged_at_step=3)
    record = read_run(folders[0])
    assert record is not None
    write_run(folders[0], {name: value for name, value in record.items() if not name.startswith("val_loss")})
    table = read_runs(folders)
    assert table["loss"].to_list()[0] is None
    assert table["diverged_at_step"].to_list() == [3, None]
    assert select.with_loss(table)["folder"].to_list() == [str(folders[1])]


def test_curves_are_long_and_hold_what_a_step_measured(folders: list[Path]) -> None:
    curves = read_curves(folders[:2])
    assert len(curves) == 40
    assert curves["curve"].unique(maintain_order=True).to_list() == [folder.name for folder in folders[:2]]
    assert curves["val_loss"].null_count() == 20
    assert curves["train_loss"].null_count() == 0


def test_points_of_curves_come_with_their_whole_schedules(folders: list[Path]) -> None:
    points, schedules, left_out = curves_of_runs(folders)
    assert left_out == ()
    metrics = read_curves(folders)
    assert len(points) == 40  # half of the steps measured a validation loss
    assert len(schedules) == 80
    assert schedules.columns == ["curve", "step", "lr"]
    first = points.row(0, named=True)
    record = read_run(folders[0])
    assert record is not None
    measured = metrics.filter((pl.col("curve") == folders[0].name) & (pl.col("step") == first["step"]))
    assert first["curve"] == folders[0].name
    assert (first["loss"], first["n_tokens"], first["flops"], first["lr"]) == tuple(
        measured.row(0, named=True)[name] for name in ("val_loss", "tokens", "flops", "lr")
    )
    assert first["n_params"] == record["n_params_total"]
    assert (first["state"], first["model.width"]) == ("finished", 32)
    # of the step, not of the end of the run
    assert first["n_tokens"] < record["n_tokens"]
    by_other, _, _ = curves_of_runs(folders, params="non_embedding")
    assert by_other["n_params"][0] == record["n_params_non_embedding"]


def test_runs_are_found_below_a_glob(folders: list[Path]) -> None:
    study = folders[0].parent
    assert runs_matching([str(study)]) == sorted(folders)
    assert runs_matching([str(study / "*")]) == sorted(folders)
    with pytest.raises(TableError, match="no run folder"):
        runs_matching([str(study / "nothing*")])


def test_a_study_with_open_runs_makes_no_table(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path, widths=(32,), ratios=(10, 20), steps=10)
    assert runs_of_study(tmp_path, "demo/ladder", "cpu") == folders
    write_run(folders[0], {**(read_run(folders[0]) or {}), "state": "running"})
    with pytest.raises(TableError, match="1 of 2 runs have not ended"):
        runs_of_study(tmp_path, "demo/ladder", "cpu")
    with pytest.raises(RecordError, match="no such study"):
        runs_of_study(tmp_path, "demo/ladder", "gpu")


@pytest.mark.parametrize(("state", "loss", "at_init", "value"), [
    ("finished", 2.0, 5.5, 2.0),
    ("finished", 6.0, 5.5, 5.5),
    ("finished", 5.5, 5.5, 5.5),
    ("finished", float("inf"), 5.5, 5.5),
    ("diverged", None, 5.5, 5.5),
    ("diverged", 2.0, 5.5, 5.5),  # what it had on its way
    ("finished", None, 5.5, None),
    ("finished", 2.0, None, None),
    ("diverged", None, None, None),
    ("failed", 2.0, 5.5, None),
    ("running", 2.0, 5.5, None),
])  # fmt: skip
def test_a_run_counts_with_at_most_its_loss_at_initialisation(
    state: str, loss: float | None, at_init: float | None, value: float | None
) -> None:
    assert capped_loss(state, loss, at_init) == value


@pytest.mark.parametrize(("depth", "learns"), [("stack", False), ("learn", True)])
def test_the_tokens_planned_are_those_that_a_plan_prices(tmp_path: Path, depth: str, learns: bool) -> None:
    """Also of a run whose base's map is learnt before its first step."""
    model = {"width": 32, "depth": 2}
    base = to_config({"study": "s", "model": model, "train": {"duration": "50steps"}})
    grow = {"base": "f" * 16, "step": 30, "depth": depth} | ({"learn_steps": 7} if learns else {})
    config = to_config({"study": "s", "model": model | {"depth": 4}, "train": {"duration": "20steps"}, "grow": grow})
    cost = run_cost(config, 257, base=run_cost(base, 257))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(config))
    begun = {"run_id": "run", "state": "running", "n_steps": cost.n_steps, "tokens_per_step": cost.tokens_per_step}
    for inherited in ({"n_tokens_inherited": cost.inherited.tokens}, {"n_steps_inherited": cost.inherited.steps}):
        write_run(folder, begun | inherited)
        assert read_runs([folder])["n_tokens_planned"].to_list() == [cost.spent(cost.n_steps).tokens]
    assert cost.spent(cost.n_steps).tokens == (30 + 20 + 7 * learns) * cost.tokens_per_step
    write_run(folder, {"run_id": "run", "state": "running"})
    assert read_runs([folder])["n_tokens_planned"].to_list() == [None]


def test_metrics_of_runs_read_the_same_from_either_file(folders: list[Path], tmp_path: Path) -> None:
    """Of which some have been closed with a parquet file; objects are no columns."""
    parsed = read_curves(folders)
    copies = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders]
    with (copies[1] / "metrics.jsonl").open("ab") as file:
        file.write(metrics_line({"step": 99, "train_loss": math.nan, "grad_norm": 1}))
    mixed = read_curves(copies)
    for folder in copies[:3]:
        write_parquet(folder)
    assert_frame_equal(read_curves(copies), mixed)
    assert mixed.columns == [*parsed.columns, "grad_norm"]
    assert len(mixed) == len(parsed) + 1
    with pytest.raises(TableError, match="row of metrics"):
        read_curves([tmp_path])


# --- files and filters -----------------------------------------------------------------------------------

TABLE = pl.DataFrame({"n": [1, 2, 3], "used_in_fit": [1, 0, 1], "model.width": [32, 64, 64], "arm": ["a", "b", "b"]})


@pytest.mark.parametrize(("condition", "kept"), [
    ("used_in_fit == 1", [1, 3]),
    ("used_in_fit = 1", [1, 3]),
    ("n >= 2 and n <= 2", [2]),
    ("n != 2", [1, 3]),
    ("model.width == 64", [2, 3]),
    ('"model.width" > 32 AND used_in_fit == 0', [2]),
    ("arm = 'b'", [2, 3]),
    ("arm == 'a'", [1]),
])  # fmt: skip
def test_filters(condition: str, kept: list[int]) -> None:
    assert where(TABLE, condition)["n"].to_list() == kept


@pytest.mark.parametrize("condition", ["nothing == 1", "n ==", "n > 9", "arm > 3", "n + 1", "; drop"])
def test_a_filter_that_cannot_work_is_one_line(condition: str) -> None:
    with pytest.raises(TableError, match="--where") as caught:
        where(TABLE, condition)
    assert "\n" not in str(caught.value)


def test_numbers_are_read_where_there_are_any() -> None:
    table = pl.DataFrame({"a": [1, None], "b": ["2.5", "low"], "c": [[1], [2]]})
    assert numbers(table, "a")[0] == 1
    assert numbers(table, "b")[0] == 2.5
    for missing in (numbers(table, "a")[1:], numbers(table, "b")[1:], numbers(table, "c"), numbers(table, "d")):
        assert np.isnan(missing).all()


def test_columns_are_renamed() -> None:
    renamed = rename(TABLE, {"loss": "n", "used_in_fit": "n"})
    assert renamed["loss"].to_list() == renamed["used_in_fit"].to_list() == renamed["n"].to_list() == [1, 2, 3]
    with pytest.raises(TableError, match="no column m; there are: n, used_in_fit"):
        rename(TABLE, {"loss": "m"})


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"),
    (b"", "empty"),
    (b"loss,n_params\n", "no rows"),
    (b"\xff\xfe\x00bad", r"not a CSV|no rows"),
])  # fmt: skip
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "points.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError, match=f"(?i){message}") as caught:
        load_csv(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_without_a_record_is_one_line(tmp_path: Path, folders: list[Path]) -> None:
    with pytest.raises(TableError, match="lacks run"):
        read_runs([tmp_path])
    (tmp_path / "run.json").write_bytes((folders[0] / "run.json").read_bytes())
    with pytest.raises(TableError, match="lacks config"):
        read_runs([tmp_path])
    (tmp_path / "config.yaml").write_text("model: {widht: 3}\n")
    with pytest.raises(UserError, match="widht"):
        read_runs([tmp_path])

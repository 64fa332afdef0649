"""The options that commands share: what they read, what they leave out, and what they refuse before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis.__main__ import COMMANDS, main
from analysis.commands import options as commands
from analysis.commands.options import UsageError, add_schedules, add_table, check_files, read_table, run_folders
from analysis.tables.csv import TableError
from analysis.tables.curves import Curves
from conf.command_line import Parser
from conf.schema import UserError
from tests.analysis.helpers import write_ladder


def read(*arguments: str, sources: tuple[str, ...] = ("data", "runs"), **how: bool) -> Any:
    parser = Parser(prog="test")
    add_table(parser, sources)
    add_schedules(parser)
    return read_table(parser.parse_args(arguments), **how)


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("points.csv")
    path.write_text("n,bpb,optim.lr\n1,4.0,0.1\n2,3.0,0.2\n3,2.0,0.3\n")
    return path


@pytest.fixture
def ladder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of a study, of which the first one failed."""
    monkeypatch.chdir(tmp_path)
    write_ladder(Path("runs"), widths=(16, 24), ratios=(5,), steps=10, state="failed", error="no memory", val_loss=None)
    return Path("runs")


# --- tables ----------------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_is(points: Path) -> None:
    table = read("--data", str(points))
    assert table.columns == ["n", "bpb", "optim.lr"]
    assert len(table) == 3


def test_filters_know_the_old_names_and_the_new(points: Path) -> None:
    for condition in ("bpb < 3.5", "loss < 3.5"):
        table = read("--data", str(points), "--map", "loss=bpb", "--where", condition)
        assert table["loss"].to_list() == [3.0, 2.0]
    with pytest.raises(TableError, match=r"--where 'loss < 3.5'"):
        read("--data", str(points), "--where", "loss < 3.5")


def test_several_filters_hold_together(points: Path) -> None:
    table = read("--data", str(points), "--where", "n > 1", "--where", "optim.lr < 0.25")
    assert table["n"].to_list() == [2]
    with pytest.raises(TableError, match="leaves none of 2 rows"):
        read("--data", str(points), "--where", "n > 1", "--where", "n < 2")


def test_a_name_is_given_to_one_column(points: Path) -> None:
    with pytest.raises(UsageError, match="--map loss: given 2 times; allowed: one column for each name"):
        read("--data", str(points), "--map", "loss=bpb", "--map", "loss=n")
    twice = read("--data", str(points), "--map", "loss=bpb", "--map", "x=bpb")
    assert twice["loss"].to_list() == twice["x"].to_list()


def test_a_schedule_makes_curves_of_points(points: Path) -> None:
    Path("schedules.csv").write_text("curve,step,lr\na,1,0.1\n")
    curves = read("--data", str(points), "--schedules", "schedules.csv", "--where", "n == 1")
    assert isinstance(curves, Curves)
    assert (curves["n"].to_list(), curves.schedules["curve"].to_list()) == ([1], ["a"])
    assert not isinstance(read("--data", str(points)), Curves)


@pytest.mark.parametrize(("arguments", "sources", "message"), [
    ((), ("data", "runs"), "one of the arguments --data --runs --study is required"),
    ((), ("data",), "--data is required"),
    (("--data", "a.csv", "--study", "b"), ("data", "runs"), "--study: not allowed with argument --data"),
    (("--data", "a.csv"), ("runs",), "required"),
    (("--study", "b"), ("data",), "--data is required"),
    (("--study", "b", "--profile", "huge"), ("runs",), "invalid choice: 'huge'"),
    (("--study", "b", "--params", "some"), ("runs",), "invalid choice: 'some'"),
    (("--data", "a.csv", "--map", "loss"), ("data",), "'loss' is not NAME=COLUMN"),
    (("--data", "a.csv", "--map", "loss="), ("data",), "'loss=' is not NAME=COLUMN"),
])  # fmt: skip
def test_what_does_not_name_one_table_is_refused(arguments: tuple[str, ...], sources: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(*arguments, sources=sources)
    assert message in str(caught.value)
    assert str(caught.value).endswith("see `test --help`")


# --- runs ------------------------------------------------------------------------------------------------


def test_runs_without_a_loss_are_left_out_where_a_loss_is_asked_for(
    ladder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(read("--runs", f"{ladder}/*")) == 2
    assert capsys.readouterr().err == ""
    assert len(read("--runs", f"{ladder}/*", with_loss=True)) == 1
    assert capsys.readouterr().err == "1 run of 2 left out: diverged, failed or unfinished, no loss\n"


def test_where_no_run_has_a_loss_there_is_no_table(tmp_path: Path) -> None:
    write_ladder(tmp_path, widths=(16,), ratios=(5,), steps=10, state="failed", error="no memory", val_loss=None)
    with pytest.raises(UsageError, match="none of 1 run has a loss: diverged, failed or unfinished"):
        read("--runs", str(tmp_path), with_loss=True)
    assert len(read("--runs", str(tmp_path))) == 1


def test_the_loss_that_counts_is_the_one_that_is_mapped(ladder: Path) -> None:
    """The first run has no loss, but both have a size."""
    mapped = read("--runs", f"{ladder}/*", "--map", "loss=val_loss_se", with_loss=True)
    assert mapped["loss"].to_list() == [0.02]  # a run that failed does not count either way
    assert len(read("--runs", f"{ladder}/*", "--map", "n=n_params", with_loss=True)) == 1


def test_the_convention_says_what_n_params_counts(ladder: Path) -> None:
    total, blocks = (
        read("--runs", f"{ladder}/*", "--params", params)["n_params"].to_list() for params in ("total", "non_embedding")
    )
    assert all(few < many for few, many in zip(blocks, total, strict=True))


def test_a_study_or_globs_name_folders(ladder: Path) -> None:
    def folders(*arguments: str) -> list[Path]:
        parser = Parser(prog="test")
        add_table(parser, ("runs",))
        return run_folders(parser.parse_args(arguments))

    study = ("--study", "demo/ladder", "--runs-dir", str(ladder))
    assert sorted(folders(*study)) == sorted(folders("--runs", f"{ladder}/demo/*"))
    with pytest.raises(TableError, match="no run folder"):
        folders("--runs", f"{ladder}/nothing/*")
    with pytest.raises(UserError, match="no such study has been run"):
        folders(*study, "--profile", "smoke")


# --- files -----------------------------------------------------------------------------------------------


def test_files_are_checked_before_the_work(tmp_path: Path) -> None:
    check_files(None)
    check_files(tmp_path / "new.json", tmp_path / "new.png")
    for path in (tmp_path / "no" / "new.json", tmp_path / "no" / "deep" / "new.json"):
        with pytest.raises(UsageError, match="there is no folder"):
            check_files(path)
        with pytest.raises(UsageError, match="there is no folder"):
            check_files(None, path.with_suffix(".png"))
    with pytest.raises(UsageError, match="is a folder; allowed: the name of a file"):
        check_files(tmp_path)
    with pytest.raises(UserError, match=r"--out .*new\.json: not a picture"):
        check_files(None, tmp_path / "new.json", option="--out")
    assert list(tmp_path.iterdir()) == []


# --- every command ---------------------------------------------------------------------------------------

LEAST = {
    "fit": ["chinchilla", "--data", "points.csv"],
    "compare": ["power_law", "--by", "arm", "--x", "n", "--data", "points.csv"],
    "plan": ["--for", "alpha", "--budget", "1e13flops"],
    "autopsy": ["run"],
    "difference": ["a", "b"],
    "growth": ["--runs", "none"],
    "predict": ["--fit", "fit.json", "--data", "points.csv"],
    "table": ["--runs", "none"],
}
DRAWING = ("fit", "compare", "plan", "difference", "growth")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_every_module_of_commands_is_a_command() -> None:
    modules = {path.stem for path in Path(commands.__file__).parent.glob("*.py")}
    assert modules - {"__init__", "options"} == set(COMMANDS)
    assert set(LEAST) == set(COMMANDS) - {"laws", "claims", "figure"}  # which take no --out


@pytest.mark.parametrize("command", LEAST)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    command: str, points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of the runs or fits that the arguments name is there."""
    for out, message in (("no/where.png", "no/where.png: there is no folder no"), (".", ".: is a folder")):
        assert message in refused([command, *LEAST[command], "--out", out], capsys)
    assert [path.name for path in points.absolute().parent.iterdir()] == ["points.csv"]


@pytest.mark.parametrize("command", DRAWING)
def test_a_picture_of_an_unknown_format_is_refused_by_every_command_that_draws(
    command: str, points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert points.exists()
    out = ["--out", "new.json"]
    assert "--plot new.gif: not a picture; allowed: a name that ends in .png, .svg, .pdf" in refused(
        [command, *LEAST[command], *out, "--plot", "new.gif"], capsys
    )


def test_an_autopsy_is_a_picture(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out points.csv: not a picture" in refused(["autopsy", "run", "--out", str(points)], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_one_line(command: str, points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert points.exists()
    least = {"figure": ["demo/ladder"], "plan": [*LEAST["plan"], "--out", "plan.json"], "predict": [
        *LEAST["predict"], "--out", "p.csv"]}.get(command, LEAST.get(command, []))  # fmt: skip
    assert "unrecognized arguments: --colour" in refused([command, *least, "--colour"], capsys)


def test_an_unknown_command_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(["fitt"], capsys)
    assert "invalid choice: 'fitt'" in told
    assert all(command in told for command in COMMANDS)


@pytest.mark.parametrize(("command", "option"), [
    ("difference", ["--until", "-1"]),
    ("difference", ["--until", "inf"]),
    ("difference", ["--max-minutes", "5"]),
    ("difference", ["--jobs", "2"]),
    ("difference", ["--until", "0.1", "--jobs", "0"]),
    ("difference", ["--until", "0.1", "--max-minutes", "-1"]),
    ("difference", ["--until", "0.1", "--max-minutes", "nan"]),
    ("compare", ["--floors", "separate"]),
    ("compare", ["--reference", "A"]),
    ("compare", ["--at", "1e20"]),
    ("fit", ["--schedules", "points.csv"]),
])  # fmt: skip
def test_options_that_do_not_fit_together_are_refused_with_what_is_allowed(
    command: str, option: list[str], points: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    least = ["power_law", "frontier", "--data", str(points)] if command == "compare" else LEAST[command]
    told = refused([command, *least, *option], capsys)
    assert option[0] in told or option[-2] in told
    assert "allowed: " in told


def test_laws_are_listed_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws", "chinchilla", "isoflop"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("chinchilla: ")
    assert "\nisoflop: " in told
    assert told.count("  source ") == 2
    assert "did you mean chinchilla?" in refused(["laws", "chinchila"], capsys)


def test_a_table_is_written_as_it_is_shown(ladder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "--runs", f"{ladder}/*"]) == 0
    shown = capsys.readouterr().out
    assert main(["table", "--runs", f"{ladder}/*", "--out", "runs.csv"]) == 0
    assert capsys.readouterr().out == "2 runs are in runs.csv\n"
    assert Path("runs.csv").read_text() == shown
    assert pl.read_csv("runs.csv")["state"].to_list() == ["failed", "finished"]

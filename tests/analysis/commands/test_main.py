"""The command line: what a user types, what comes back, and one line for every mistake."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import COMMANDS, main
from analysis.laws.registry import LAWS
from tests.analysis.helpers import TRUTH, chinchilla_points, write_ladder


@pytest.fixture
def points(tmp_path: Path) -> Path:
    columns = chinchilla_points(noise=0.002)
    path = tmp_path / "points.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["n_params", "n_tokens", "my_loss", "good"])
        writer.writerows([n, d, loss, 1] for n, d, loss in zip(*columns.values(), strict=True))
        writer.writerow([1e6, 1e7, 99.0, 0])
    return path


def _fit(points: Path, *more: str) -> int:
    return main(["fit", "chinchilla", "--data", str(points), "--bootstrap", "30", *more])


def test_fit_and_predict(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot, predicted = tmp_path / "fit.json", tmp_path / "fit.png", tmp_path / "predicted.csv"
    options = ("--map", "loss=my_loss", "--where", "good == 1", "--delta", "0.01")
    assert _fit(points, *options, "--out", str(out), "--plot", str(plot)) == 0
    shown = capsys.readouterr().out
    assert "L = E + A N^-alpha + B D^-beta" in shown
    assert "95% interval" in shown
    found = json.loads(out.read_text())
    assert found["law"] == "chinchilla"
    assert found["n"] == 42
    assert found["params"]["alpha"]["value"] == pytest.approx(TRUTH["alpha"], abs=0.02)
    assert plot.read_bytes().startswith(b"\x89PNG")

    assert main(["predict", "--fit", str(out), "--data", str(points), "--out", str(predicted)]) == 0
    with predicted.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 43
    assert float(rows[0]["predicted"]) == pytest.approx(float(rows[0]["my_loss"]), rel=0.02)
    assert float(rows[0]["pi_lo95"]) < float(rows[0]["lo95"]) < float(rows[0]["hi95"]) < float(rows[0]["pi_hi95"])


def test_the_filter_matters(points: Path, tmp_path: Path) -> None:
    with_all = tmp_path / "all.json"
    assert _fit(points, "--map", "loss=my_loss", "--out", str(with_all)) == 0
    assert json.loads(with_all.read_text())["n"] == 43


def test_every_law_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws"]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # a terminal breaks long lines
    for law in LAWS.values():
        assert " ".join(law.formula.split()) in shown
        assert " ".join(law.source.split()) in shown
        for option in law.choices:
            assert f"option {option.name}: " in shown


def test_fit_and_table_read_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ladder(tmp_path / "runs", steps=10, state="failed", error="it broke", val_loss=None)
    out, table = tmp_path / "fit.json", tmp_path / "runs.csv"
    pattern = str(tmp_path / "runs/demo/*")
    assert main(["fit", "chinchilla", "--runs", pattern, "--bootstrap", "0", "--out", str(out)]) == 0
    assert "1 run of 15 left out: diverged, failed or unfinished, no loss" in capsys.readouterr().err
    total = json.loads(out.read_text())
    assert total["n"] == 14
    options = ["--params", "non_embedding", "--out", str(out)]
    assert main(["fit", "power_law", "--x", "n_params", "--runs", pattern, "--bootstrap", "0", *options]) == 0
    assert json.loads(out.read_text())["ranges"]["x"][0] < total["ranges"]["n_params"][0]
    assert main(["table", "--runs", pattern, "--out", str(table)]) == 0
    assert len(table.read_text().splitlines()) == 16


MISTAKES = {
    "unknown law": (["fit", "chinchila", "--data", "POINTS"], "allowed: power_law"),
    "missing file": (["fit", "chinchilla", "--data", "nothing.csv"], "nothing.csv: No such file"),
    "a folder": (["fit", "chinchilla", "--data", "."], ".: Is a directory"),
    "missing column": (["fit", "chinchilla", "--data", "POINTS"], "loss: no such column"),
    "wrong name": (["fit", "chinchilla", "--data", "POINTS", "--map", "loss=los"], "no column los"),
    "no rows left": (["fit", "chinchilla", "--data", "POINTS", "--where", "good == 7"], "leaves none of 43 rows"),
    "no such column": (["fit", "chinchilla", "--data", "POINTS", "--where", "bad == 7"], "bad"),
    "no variable": (["fit", "power_law", "--data", "POINTS"], "say with --x"),
    "no runs": (["fit", "chinchilla", "--runs", "nothing/*"], "no run folder"),
    "constant": (["fit", "power_law", "--data", "POINTS", "--x", "n_params", "--map", "loss=my_loss",
                  "--where", "n_params < 1.1e6 and good == 1"], "in every row"),
    "no folder": (["fit", "chinchilla", "--data", "POINTS", "--out", "no/where.json"], "there is no folder no"),
    "not a picture": (["fit", "chinchilla", "--data", "POINTS", "--plot", "fit.doc"], "allowed: a name that ends in"),
    "not a fit": (["predict", "--fit", "POINTS", "--data", "POINTS", "--out", "x.csv"], "points.csv"),
    "unknown study": (["figure", "demo/lader", "--profile", "cpu"], "did you mean demo/ladder"),
    "study not run": (["figure", "demo/ladder", "--profile", "cpu", "--runs-dir", "none"], "python -m sweeps run"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    name: str, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[name]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([str(points) if argument == "POINTS" else argument for argument in arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("cell", "message"), [
    ("", "is missing or not a number"),
    ("nan", "is missing or not a number"),
    ("low", "row 3 is 'low'"),
    ("0", "allowed: positive numbers"),
    ("-2", "allowed: positive numbers"),
])  # fmt: skip
def test_a_bad_cell_is_named_and_keeps_the_old_fit(
    cell: str, message: str, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fit.json"
    assert _fit(points, "--map", "loss=my_loss", "--out", str(out)) == 0
    before = out.read_bytes()
    lines = points.read_text().splitlines()
    fields = lines[3].split(",")
    lines[3] = ",".join([*fields[:2], cell, fields[3]])
    points.write_text("\n".join(lines))
    capsys.readouterr()
    assert _fit(points, "--map", "loss=my_loss", "--out", str(out)) == 2
    assert message in capsys.readouterr().err
    assert out.read_bytes() == before


def test_predicting_outside_of_the_law_is_one_line(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fit.json"
    assert _fit(points, "--map", "loss=my_loss", "--out", str(out)) == 0
    other = tmp_path / "other.csv"
    other.write_text("n_params\n1e6\n")
    assert main(["predict", "--fit", str(out), "--data", str(other), "--out", str(tmp_path / "p.csv")]) == 2
    assert "n_tokens: no such column" in capsys.readouterr().err


def test_neither_torch_nor_pictures_are_imported_for_a_fit(points: Path) -> None:
    program = (
        "import sys; from analysis.__main__ import main; "
        f"points = ['--data', {str(points)!r}, '--map', 'loss=my_loss']; "
        "assert main(['fit', 'chinchilla', *points, '--bootstrap', '0']) == 0; "
        "import analysis.tables.runs; "
        "print(sorted({'torch', 'matplotlib', 'scipy', 'hydra', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "['numpy']"


def test_the_figures_need_no_torch() -> None:
    found = "print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    program = f"import sys, analysis.figures.demo.ladder, analysis.fits.plot; {found}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


def test_help_answers_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], *([name] for name in COMMANDS)):
        with pytest.raises(SystemExit) as left:
            main([*command, "--help"])
        assert left.value.code == 0
    assert np.char.count(capsys.readouterr().out, "usage: python -m analysis") == 1 + len(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["fit", "chinchilla"],
        ["fit", "chinchila", "--data", "points.csv"],
        ["fit", "chinchilla", "--data", "points.csv", "--bootstrap", "many"],
        ["fit", "chinchilla", "--data", "points.csv", "--bootstrap", "2"],
        ["fit", "chinchilla", "--data", "points.csv", "--map", "loss"],
        ["fit", "chinchilla", "--data", "points.csv", "--map", "loss=loss", "--map", "loss=n_params"],
        ["figure", "demo/ladder", "--profile", "huge"],
        ["figure", "demo/lader"],
        ["fit", "chinchilla", "--study", "demo/ladder"],
    ],
)
def test_a_bad_command_line_is_one_line(arguments, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(chinchilla_points()).write_csv("points.csv")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"params": {}},
        {"columns": {"n_params": "n_params"}},
        {"n": 5},
        {"bootstrap": {}},
        {"residuals": []},
        {"law": "power_law"},
    ],
)
def test_a_damaged_fit_is_one_line(damage, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(chinchilla_points()).write_csv("points.csv")
    assert main(["fit", "chinchilla", "--data", "points.csv", "--bootstrap", "20", "--out", "fit.json"]) == 0
    predict = ["predict", "--fit", "fit.json", "--data", "points.csv", "--out", "out.csv"]
    assert main(predict) == 0
    assert main(["predict", "--fit", "fit.json", "--data", "out.csv", "--out", "twice.csv"]) == 2  # has `predicted`
    found = json.loads(Path("fit.json").read_text())
    Path("fit.json").write_text(json.dumps(found | damage))
    capsys.readouterr()
    assert main(predict) == 2
    err = capsys.readouterr().err
    assert "not a fit" in err
    assert err.count("\n") == 1


def test_a_study_names_its_runs(tmp_path, monkeypatch) -> None:
    """The manifest's runs and no others, whatever else lies in the folder."""
    monkeypatch.chdir(tmp_path)
    write_ladder(tmp_path / "runs", widths=(16, 24), ratios=(5,), steps=10)
    write_ladder(tmp_path / "runs", steps=10)
    fit = ["fit", "chinchilla", "--bootstrap", "0", "--out", "fit.json"]
    assert main([*fit, "--study", "demo/ladder"]) == 0
    assert json.loads(Path("fit.json").read_text())["n"] == 15
    assert main([*fit, "--runs", "runs/demo/ladder/*"]) == 0
    assert json.loads(Path("fit.json").read_text())["n"] == 17

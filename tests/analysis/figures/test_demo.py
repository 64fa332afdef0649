"""The ladder's figures: from records to pictures, numbers and verdicts, also where the runs are too few."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.figures.demo.ladder import smooth_over_flops, standardised_deviation
from analysis.tables.csv import TableError
from tests.analysis.helpers import write_ladder
from train.record.run import read_run, write_run


def draw(tmp_path: Path, profile: str) -> tuple[int, Path]:
    options = ["--runs-dir", str(tmp_path / "runs"), "--results-dir", str(tmp_path / "results")]
    status = main(["figure", "demo/ladder", "--profile", profile, *options])
    return status, tmp_path / "results/demo/ladder" / profile


def test_a_ladder_that_follows_a_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ladder(tmp_path / "runs", steps=30)
    status, out = draw(tmp_path, "cpu")
    assert status == 0
    assert {path.name for path in out.iterdir()} == {
        "claims.json", "fit.json", "curves.csv", "curves.png", "curves.svg", "law.csv", "law.png", "law.svg",
    }  # fmt: skip
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert [claim["verdict"] for claim in claims] == ["reproduced", "reproduced"]
    assert claims[0]["n_runs"] == 15
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "parameters after",
        "not in the fit",
        "predicted loss",
        "measured",
        "error",
        "figures, numbers and claims are in",
    ):
        assert words in shown
    table = pl.read_csv(out / "law.csv")
    assert table["kind"].value_counts().sort("kind")["count"].to_list()[:2] == [14, 1]
    assert json.loads((out / "fit.json").read_text())["n"] == 14

    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".png", ".svg", ".csv")}
    draw(tmp_path, "cpu")
    assert {name: (out / name).read_bytes() for name in before} == before


def test_a_held_out_run_off_the_law_is_a_finding(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path / "runs", steps=10)
    record = read_run(folders[-1])
    assert record is not None
    write_run(folders[-1], record | {"val_loss": record["val_loss"] * 1.15})
    status, out = draw(tmp_path, "cpu")
    assert status == 0
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert [claim["verdict"] for claim in claims] == ["not reproduced", "not reproduced"]


@pytest.mark.parametrize(
    ("widths", "ratios"), [((32, 64), (10, 20)), ((32,), (10,)), ((32,), tuple(range(10, 90, 10)))]
)
def test_too_few_runs_are_drawn_and_judged_inconclusive(
    tmp_path: Path, widths: tuple[int, ...], ratios: tuple[int, ...]
) -> None:
    write_ladder(tmp_path / "runs", widths=widths, ratios=ratios, steps=10, profile="smoke")
    status, out = draw(tmp_path, "smoke")
    assert status == 0
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert [claim["verdict"] for claim in claims] == ["inconclusive", "inconclusive"]
    assert "cannot determine the 5 constants" in claims[0]["reason"]
    assert (out / "law.png").exists()
    assert (out / "curves.svg").exists()


def test_a_run_that_broke_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ladder(tmp_path / "runs", steps=10, state="diverged", diverged_at_step=4)
    status, out = draw(tmp_path, "cpu")
    assert status == 0
    assert "1 run of 15 left out" in capsys.readouterr().out
    assert json.loads((out / "fit.json").read_text())["n"] == 13


def test_a_held_out_run_that_broke_is_not_replaced(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path / "runs", steps=10)
    record = read_run(folders[-1])
    assert record is not None
    write_run(folders[-1], record | {"state": "diverged", "diverged_at_step": 4, "n_tokens": 1000})
    status, out = draw(tmp_path, "cpu")
    assert status == 0
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert [claim["verdict"] for claim in claims] == ["inconclusive", "inconclusive"]
    assert "held-out run has not finished" in claims[0]["reason"]
    assert not (out / "fit.json").exists()


def test_nothing_of_an_earlier_drawing_stays(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path / "runs", steps=10)
    _, out = draw(tmp_path, "cpu")
    assert (out / "fit.json").exists()
    for folder in folders:
        record = read_run(folder)
        assert record is not None
        write_run(folder, record | {"state": "failed", "error": "none left"})
    draw(tmp_path, "cpu")
    assert [path.name for path in out.iterdir()] == ["claims.json"]


def test_a_drawing_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ladder(tmp_path / "runs", steps=10)
    _, out = draw(tmp_path, "cpu")
    before = {path: path.read_bytes() for path in out.iterdir()}

    def broken(_: pl.DataFrame, out: Path) -> None:
        (out / "law.png").write_bytes(b"half of it")
        raise TableError("none of 15 runs")

    monkeypatch.setattr("analysis.figures.find.find_figure", lambda _: broken)
    status, out = draw(tmp_path, "cpu")
    assert status == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_smoothing_keeps_means() -> None:
    rows = pl.DataFrame({"flops": [0.0, 1.05e6, 1.06e6, 1e8, 1e9], "train_loss": [9.0, 5.0, 3.0, 2.0, None]})
    smooth = smooth_over_flops(rows)
    assert smooth["train_loss"].to_list() == [4.0, 2.0]
    assert smooth["flops"][1] == pytest.approx(1e8)


def test_a_deviation_is_measured_in_predictive_standard_deviations() -> None:
    prediction = {"pi_lo95": 0.98, "pi_hi95": 1 / 0.98}
    at_the_edge, interval = standardised_deviation(0.98, prediction, degrees_of_freedom=9)
    assert at_the_edge == pytest.approx(-1.96, abs=1e-3)
    assert interval[0] < at_the_edge < interval[1]
    assert standardised_deviation(1.0, prediction, degrees_of_freedom=9)[0] == pytest.approx(0, abs=1e-12)
    many = standardised_deviation(0.98, prediction, degrees_of_freedom=10_000)[1]
    assert many[1] - many[0] < 0.1 * (interval[1] - interval[0])

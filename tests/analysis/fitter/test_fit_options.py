"""Every option of `python -m analysis fit` as it is typed: it changes what it says, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import main
from tests.analysis.helpers import chinchilla_points, write_ladder
from tests.analysis.laws.simulated_annealing import EXAMPLES


def run(*arguments: str) -> dict:
    """A fit that must succeed, as its JSON, which must have no nan."""
    assert main(["fit", *arguments, "--bootstrap", "20", "--out", "fit.json"]) == 0
    return json.loads(Path("fit.json").read_text(), parse_constant=lambda text: pytest.fail(f"{text} in fit.json"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with points.csv (with standard errors and two arms), curves.csv and budgets.csv."""
    monkeypatch.chdir(tmp_path)
    points = pl.DataFrame(chinchilla_points(noise=0.005))
    points.with_columns(se=0.005 * pl.col("loss"), run=pl.int_range(42) % 14).write_csv("points.csv")
    both = [points.with_columns(arm=pl.lit("a/b")), points.with_columns(pl.col("loss") * 1.3, arm=pl.lit("c"))]
    pl.concat(both).write_csv("arms.csv")
    example = next(one for one in EXAMPLES if one.law == "lr_annealing")
    pl.DataFrame(example.draw(np.random.default_rng(0))).write_csv("curves.csv")
    flops = np.repeat(np.geomspace(1e17, 1e20, 5), 7)
    n = np.tile(np.geomspace(0.4, 2.5, 7), 5) * (flops / 120) ** 0.5
    loss = 1.82 + 480 * n**-0.348 + 2100 * (flops / 6 / n) ** -0.366
    pl.DataFrame({"n_params": n, "flops": flops, "loss": loss}).write_csv("budgets.csv")


def test_a_constant_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    held = run("chinchilla", "--data", "points.csv", "--fix", "E=1.7", "--fix", "beta=0.37")
    assert held["fixed"] == {"E": 1.7, "beta": 0.37}
    assert held["params"]["E"] == {"value": 1.7, "std": None, "ci95": None}
    assert held["params"]["alpha"]["std"] > 0
    assert "held" in capsys.readouterr().out
    assert run("chinchilla", "--data", "points.csv")["params"]["E"]["value"] != 1.7


def test_an_option_makes_another_law() -> None:
    usual = run("lr_annealing", "--data", "curves.csv")
    other = run("lr_annealing", "--data", "curves.csv", "--set", "decay=0.9")
    assert (usual["options"]["decay"], other["options"]["decay"]) == (0.999, 0.9)
    assert other["params"]["C"]["value"] > 2 * usual["params"]["C"]["value"]  # of an area that is a hundredth


def test_weights_clusters_and_objectives_have_a_say() -> None:
    plain = run("chinchilla", "--data", "points.csv", "--objective", "lsq")
    weighted = run("chinchilla", "--data", "points.csv", "--objective", "lsq", "--se", "se")
    assert plain["params"]["E"]["value"] != pytest.approx(weighted["params"]["E"]["value"], rel=1e-6)
    assert run("chinchilla", "--data", "points.csv", "--cluster", "run")["bootstrap"]["unit"] == "runs"
    assert plain["objective"]["name"] == "lsq"
    assert set(plain["standard_errors"]) == {"sandwich", "classical"}


def test_profiles_are_traced(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("chinchilla", "--data", "points.csv", "--profile-of", "alpha", "E")
    assert set(found["profiles"]) == {"alpha", "E"}
    assert "profile of alpha: 95% interval 0.3" in capsys.readouterr().out


@pytest.mark.parametrize(("rule", "words"), [
    ("largest", "held out (the most expensive point): fitted to 41 points"),
    ("0.3", "fitted to 29 points"),
    ("n_params > 5e7", "held out (n_params > 5e7): fitted to 36 points"),
    (None, "held out (the most expensive fifth): fitted to 34 points"),
    ("none", ""),
])  # fmt: skip
def test_points_are_held_out(rule: str | None, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("chinchilla", "--data", "points.csv", *(["--holdout", rule] if rule else []))
    shown = " ".join(capsys.readouterr().out.split())
    assert words in shown
    assert ("held out" in shown) == (rule != "none")
    assert (found["holdout"] is None) == (rule == "none")


def test_findings_are_told_and_left_out_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("points.csv").read_text()
    Path("twice.csv").write_text(text + text.splitlines()[4] + "\n")
    assert run("chinchilla", "--data", "twice.csv", "--plot", "kept.png")["n"] == 43
    kept = " ".join(capsys.readouterr().out.split())
    assert "duplicate: 1 row repeats an earlier one (row 43); kept: --exclude duplicate leaves it out" in kept
    assert run("chinchilla", "--data", "twice.csv", "--exclude", "duplicate", "--plot", "out.png")["n"] == 42
    assert "(row 43); left out" in " ".join(capsys.readouterr().out.split())
    assert Path("kept.png").read_bytes() != Path("out.png").read_bytes()
    run("chinchilla", "--data", "points.csv")
    assert "duplicate" not in capsys.readouterr().out


def test_each_group_has_a_fit_a_picture_and_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("chinchilla", "--data", "arms.csv", "--group", "arm", "--plot", "fit.png")
    assert (found["group"], set(found["fits"])) == ("arm", {"a/b", "c"})
    assert Path("fit-a_b.png").exists()
    assert Path("fit-c.png").exists()
    predict = ["predict", "--fit", "fit.json", "--out", "out.csv", "--data"]
    assert main([*predict, "arms.csv"]) == 0
    table = pl.read_csv("out.csv")
    assert (table["predicted"] / table["loss"] - 1).abs().max() < 0.03
    pl.read_csv("arms.csv").with_columns(arm=pl.lit("d")).write_csv("new.csv")
    capsys.readouterr()
    assert main([*predict, "new.csv"]) == 2
    assert capsys.readouterr().err == "error: arm: d has no fit; there are: a/b, c\n"


def test_a_group_that_cannot_be_fitted_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.read_csv("arms.csv")
    table.filter((pl.col("arm") == "c") | (pl.col("n_params") < 1.1e6)).head(45).write_csv("few.csv")
    assert main(["fit", "chinchilla", "--data", "few.csv", "--group", "arm"]) == 2
    assert capsys.readouterr().err.startswith("error: arm = a/b: n_params: is 1e+06 in every row")


def test_a_procedure_fits_draws_and_predicts() -> None:
    found = run("isoflop", "--data", "budgets.csv", "--plot", "fit.svg")
    assert found["params"]["a"]["value"] == pytest.approx(0.366 / 0.714, abs=0.03)
    assert found["points"]["flops"] == pytest.approx(np.geomspace(1e17, 1e20, 5).tolist())
    assert "FLOPs" in Path("fit.svg").read_text()
    Path("new.csv").write_text("flops\n1e21\n1e22\n")
    assert main(["predict", "--fit", "fit.json", "--data", "new.csv", "--out", "out.csv"]) == 0
    table = pl.read_csv("out.csv")
    assert (table["n_params_opt_lo95"] <= table["n_params_opt"]).all()
    assert 6 * table["n_params_opt"][0] * table["n_tokens_opt"][0] == pytest.approx(1e21, rel=0.05)
    assert run("isoflop", "--data", "budgets.csv", "--set", "method=akima")["options"]["method"] == "akima"


def test_sparse_curves_are_read_with_their_full_schedules() -> None:
    full = pl.read_csv("curves.csv")
    full.select("curve", "step", "lr").write_csv("schedules.csv")
    sparse = full.filter(pl.int_range(pl.len()) % 7 == 6)
    sparse.drop("lr").write_csv("sparse.csv")
    sparse.write_csv("sparse_lr.csv")
    data = ["lr_annealing", "--data"]
    from_all, told, untold = (
        run(*data, *more)["params"]["C"]["value"]
        for more in (["curves.csv"], ["sparse.csv", "--schedules", "schedules.csv"], ["sparse_lr.csv"])
    )
    assert told == pytest.approx(from_all, rel=0.03)
    assert untold != pytest.approx(told, rel=1e-6)  # between its points a sparse curve tells only a straight line

    full.filter(pl.col("curve") == "wsd").select("curve", "step", "lr").write_csv("new.csv")
    run(*data, "curves.csv", "--holdout", "curve = 'wsd'", "--plot", "fit.png")
    assert main(["predict", "--fit", "fit.json", "--data", "new.csv", "--out", "out.csv"]) == 0
    measured = full.filter(pl.col("curve") == "wsd")["loss"]
    assert (pl.read_csv("out.csv")["predicted"] / measured - 1).abs().max() < 0.01


def test_curves_are_read_from_runs() -> None:
    folders = write_ladder(Path("runs"), widths=(32,), ratios=(10, 40), steps=50)
    found = run("lr_annealing", "--runs", "runs/demo/*")
    assert found["n"] == 20  # ten measured losses of each of two runs
    assert found["bootstrap"]["unit"] == "blocks of consecutive points of each curve"
    one = run("lr_annealing", "--runs", "runs/demo/*", "--where", f"curve = '{folders[0].name}'")
    assert one["n"] == 10


POINTS_FIT = ["fit", "chinchilla", "--data", "points.csv"]
WRONG_OPTIONS = {
    "unknown option": (["fit", "bnsl", "--data", "points.csv", "--x", "n_tokens", "--set", "cracks=2"],
                       "bnsl: has no option cracks; there are: breaks"),
    "option of a law without": ([*POINTS_FIT, "--set", "breaks=2"], "has no option breaks; there are: none"),
    "no such constant": ([*POINTS_FIT, "--fix", "gamma=1"], "there are: E, A, B, alpha, beta"),
    "outside of its range": ([*POINTS_FIT, "--fix", "alpha=9"], "allowed: 0 to 4"),
    "negative": ([*POINTS_FIT, "--fix", "E=-1"], "allowed: positive numbers"),
    "not a number": ([*POINTS_FIT, "--fix", "E=low"], "not NAME=NUMBER"),
    "nothing free": (["fit", "power_law_no_offset", "--data", "points.csv", "--x", "n_tokens",
                      "--fix", "A=1", "--fix", "alpha=1"], "leave at least one free"),
    "unknown profile": ([*POINTS_FIT, "--profile-of", "gamma"], "not a constant that is fitted; allowed: E, A"),
    "no standard errors": ([*POINTS_FIT, "--se", "nothing"], "nothing: no such column"),
    "few clusters": (["fit", "chinchilla", "--data", "arms.csv", "--cluster", "arm"],
                     "has 2 values; allowed: at least 8"),
    "unknown objective": ([*POINTS_FIT, "--objective", "l2"], "invalid choice: 'l2'"),
    "unknown finding": ([*POINTS_FIT, "--exclude", "ugly"], "invalid choice: 'ugly'"),
    "no group": ([*POINTS_FIT, "--group", "arm"], "arm: no such column"),
    "no rule": ([*POINTS_FIT, "--holdout", "biggest"], "--holdout 'biggest'"),
    "all held out": ([*POINTS_FIT, "--holdout", "n_params > 0"], "holds out every point"),
    "too much held out": ([*POINTS_FIT, "--holdout", "0.9"], "4 points cannot determine 5 parameters"),
    "a fixed step": (["fit", "isoflop", "--data", "budgets.csv", "--fix", "a=0.5"], "which take no --fix"),
    "an objective of steps": (["fit", "isoflop", "--data", "budgets.csv", "--objective", "lsq"], "take no --objective"),
    "a step held out": (["fit", "isoflop", "--data", "budgets.csv", "--holdout", "largest"],
                        "predicts no single points"),
    "no schedule": (["fit", "lr_annealing", "--data", "curves.csv", "--schedules", "budgets.csv"],
                    "curve: no such column"),
    "no curves": (["fit", "lr_annealing", "--data", "points.csv"], "curve: no such column"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_a_wrong_option_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = WRONG_OPTIONS[name]
    assert main([*arguments, "--bootstrap", "20"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown


HEAD = "n_params,n_tokens,loss\n"
BAD_FILES = {
    "empty": ("", "the file is empty"),
    "no rows": (HEAD, "the table has no rows"),
    "one point": (HEAD + "1e6,1e7,3.1\n", "1 point cannot determine 5 parameters"),
    "constant N": (
        HEAD + "".join(f"1e6,{k}e7,{4 - 0.1 * k}\n" for k in range(1, 9)),
        "n_params: is 1e+06 in every row",
    ),
    "missing column": ("n_params,loss\n1e6,3\n2e6,2.9\n", "n_tokens: no such column"),
    "strings": (HEAD + "1e6,1e7,good\n" * 7, "loss: not a column of numbers; row 1 is 'good'"),
    "nan": (HEAD + "1e6,1e7,nan\n" * 7, "loss: nan in row 1 is missing or not a number"),
    "infinite": (HEAD + "1e6,1e7,inf\n" * 7, "loss: inf in row 1 is not allowed"),
    "negative": (HEAD + "1e6,1e7,-3\n" * 7, "loss: -3 in row 1 is not allowed; allowed: positive numbers"),
    "zero": (HEAD + "1e6,1e7,0\n" * 7, "loss: 0 in row 1 is not allowed; allowed: positive numbers"),
    "ragged": (HEAD + "1e6,1e7,3,4,5\n", "not a CSV table"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("law", ["chinchilla", "over_training"])
def test_a_bad_file_is_one_line(name: str, law: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, message = BAD_FILES[name]
    if law == "over_training":
        message = message.replace("5 parameters", "4 parameters")
        if name == "constant N":  # which it reads as C and M, so that these may do
            return
    Path("points.csv").write_text(content)
    assert main(["fit", law, "--data", "points.csv"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert message in shown

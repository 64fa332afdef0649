"""The planner: designs keep to their limits, beat full grids, and promise intervals that simulated fits confirm."""

from __future__ import annotations

import dataclasses
import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import main
from analysis.commands.plan import Allowance, _rate
from analysis.design.candidates import Setting, columns_of, grid_of_rates, grid_of_sizes, widths_of_sizes
from analysis.design.optimal import Aim, Limits, relax
from analysis.design.planner import Design, Planner, quantity
from analysis.design.prior import assumed_prior, single_formula
from analysis.laws.chinchilla import chinchilla
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from conf.compose import compose
from conf.vocab import vocab_size
from sweeps.cells.grid import overrides
from tests.analysis.helpers import fit, write_ladder
from train.timetable.cost import run_cost


@cache
def setting() -> Setting:
    base = compose(["model.depth=2"])
    return Setting(base, {"model.depth": 2}, vocab_size(base.data))


@cache
def planner(noise: float = 0.005) -> Planner:
    law = single_formula(find_law("chinchilla"))
    candidates = grid_of_sizes(setting(), (16, 32, 64, 96), 8, (5.0, 200.0), np.inf)
    return Planner(law, assumed_prior(law, columns_of(candidates), noise, seed=0), candidates)


def limits(budget: float = 3e13, **more: int) -> Limits:
    return Limits(np.array([c.flops for c in planner().candidates]), budget, **more)


@cache
def plan(asked: str, budget: float = 3e13, criterion: str = "c", **more: int) -> Design:
    law = planner().law
    names = [quantity(law, name) for name in ("alpha", "beta")]
    return planner().design(limits(budget, **more), quantity(law, asked), criterion, names)


def aim(asked: str = "alpha", criterion: str = "c") -> Aim:
    gradients = planner()._gradients(quantity(planner().law, asked), criterion)
    return Aim(planner().J_KMP, gradients, planner().known_KPP)


# --- designs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["c", "a", "d"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_update_of_a_run_is_the_criterion_worked_out_anew(criterion: str, sign: int) -> None:
    target = aim(criterion=criterion)
    counts = np.full(len(planner().candidates), 2)
    change = target.change(counts, sign)
    for m in (0, 7, 20):
        moved = counts.copy()
        moved[m] += sign
        assert change[m] == pytest.approx(sign * (target.value(counts) - target.value(moved)), rel=1e-4)
    # the slope is the change of an ever smaller part of a run, and not that of a whole one
    part = counts.astype(float)
    part[7] += 1e-4
    assert target.slope(counts.astype(float))[7] == pytest.approx(
        (target.value(counts) - target.value(part)) / 1e-4, rel=1e-2
    )


@pytest.mark.parametrize("more", [{}, {"slots": 2}, {"most_runs": 12}, {"most_seeds": 1}])
def test_a_plan_keeps_to_its_limits(more: dict[str, int]) -> None:
    within = limits(**more)
    found = plan("alpha", **more).counts
    assert within.allow(found)
    assert within.makespan(found) <= within.budget
    assert found.sum() <= within.most_runs
    assert found.max() <= within.most_seeds
    assert not limits(0.5 * within.makespan(found), **more).allow(found)


def test_runs_that_fit_together_but_not_side_by_side_are_refused() -> None:
    three = Limits(np.array([2.0]), 3.0, slots=2)
    assert three.allow(np.array([2]))
    assert not three.allow(np.array([3]))  # 6 of 6 in all, and yet one lane would hold 4


def test_a_larger_budget_promises_a_narrower_interval() -> None:
    spreads = [plan("alpha", budget).expected["alpha"].sd for budget in (3e12, 1e13, 3e13)]
    assert all(b < 0.95 * a for a, b in itertools.pairwise(spreads))


def test_each_constant_has_its_own_cells() -> None:
    """Large sizes tell alpha, long training tells beta; each plan is best for what it is for."""
    for_alpha, for_beta = plan("alpha"), plan("beta")
    columns = columns_of(planner().candidates)
    ratio = columns["n_tokens"] / columns["n_params"]
    largest = [columns["n_params"][p.counts > 0].max() for p in (for_alpha, for_beta)]
    longest = [(p.counts * columns["flops"])[ratio > 100].sum() for p in (for_alpha, for_beta)]
    assert largest[0] > largest[1]
    assert longest[0] < longest[1]
    for name, own, other in (("alpha", for_alpha, for_beta), ("beta", for_beta, for_alpha)):
        assert own.expected[name].sd < other.expected[name].sd


@pytest.mark.parametrize("budget", [3e12, 1e13, 1e14])
@pytest.mark.parametrize("asked", ["alpha", "n_params_opt@1e18"])
def test_no_full_grid_within_the_budget_is_better(asked: str, budget: float) -> None:
    found = plan(asked, budget)
    assert found.grid is not None
    assert limits(budget).allow(found.grid)
    value, of_grid = aim(asked).value(found.counts), aim(asked).value(found.grid)
    assert value < of_grid - 0.1  # and by more than 5 % in standard deviation


def test_little_is_left_to_gain() -> None:
    """No design can pass the bound, and the one found comes near it; a full grid does not."""
    for asked in ("alpha", "beta"):
        found = plan(asked)
        assert 0.95 < found.bound <= 1.0
        assert found.grid is not None
        _, bound = relax(aim(asked), limits(), found.counts)
        assert np.exp((bound - aim(asked).value(found.grid)) / 2) < 0.8


@pytest.mark.parametrize("asked", ["alpha", "beta", "B"])
def test_few_runs_determine_every_constant(asked: str) -> None:
    """The best fifteen runs for beta alone are at two sizes, from which no fit of the law comes."""
    found = plan(asked, 1e12)
    sizes = {c.columns["n_params"] for c, count in zip(planner().candidates, found.counts, strict=True) if count}
    assert len(sizes) >= 3


def test_the_criteria_differ() -> None:
    for criterion in ("a", "d"):
        own = plan("alpha", criterion=criterion)
        target = aim(criterion=criterion)
        assert target.value(own.counts) < target.value(plan("alpha").counts)
        assert own.expected["alpha"].sd > plan("alpha").expected["alpha"].sd


def simulated_sd(counts: np.ndarray, asked: str) -> float:
    """Of 100 fits by least squares to outcomes of the runs."""
    columns = columns_of(planner().candidates)
    runs = {name: np.repeat(columns[name], counts) for name in ("n_params", "n_tokens")}
    prior = planner().prior
    starts = np.array([list(prior.values.values())])
    rng = np.random.default_rng(1)
    found = []
    for _ in range(100):
        loss = chinchilla(runs, **prior.values) * np.exp(prior.noise * rng.standard_normal(counts.sum()))
        result = fit("chinchilla", runs | {"loss": loss}, objective="lsq_log", bootstrap=0, starts=starts)
        found.append(result.values[asked])
    return float(np.std(found, ddof=1))


def test_the_promise_is_what_fits_to_simulated_runs_scatter() -> None:
    expected, found = plan("alpha").expected["alpha"].sd, simulated_sd(plan("alpha").counts, "alpha")
    assert found == pytest.approx(expected, rel=0.25)
    # half of the budget promises more, and scatters more than this plan may
    half = plan("alpha", 0.5e13)
    assert half.expected["alpha"].sd > 1.25 * expected
    assert simulated_sd(half.counts, "alpha") > 1.25 * expected


def test_a_held_constant_narrows_the_others_and_is_no_question() -> None:
    law, prior = planner().law, planner().prior
    held = Planner(law, dataclasses.replace(prior, fixed={"E": prior.values["E"]}), planner().candidates)
    known_floor = held.design(limits(), quantity(law, "alpha"))
    assert known_floor.expected["alpha"].sd < 0.9 * plan("alpha").expected["alpha"].sd
    with pytest.raises(FitError, match="the fit holds it"):
        held.design(limits(), quantity(law, "E"))


def test_sizes_choose_widths_within_the_range() -> None:
    widths = widths_of_sizes(setting(), (3e4, 1e6), 8)
    counts = [setting().n_params(setting().model(width, 8)) for width in widths]
    assert min(counts) >= 3e4
    assert max(counts) <= 1e6
    assert max(counts) / min(counts) > 15
    with pytest.raises(FitError, match="no width"):
        widths_of_sizes(setting(), (1e3, 2e3), 8)


def test_the_best_rate_is_told_from_both_sides() -> None:
    law = single_formula(find_law("lr_bowl"))
    candidates = grid_of_rates(setting(), 32, 8, 20.0, (1e-3, 1.6e-2))
    prior = assumed_prior(law, columns_of(candidates), 0.005, seed=0)
    within = Limits(np.array([c.flops for c in candidates]), 16.5 * candidates[0].flops)
    bowl = Planner(law, prior, candidates)
    found = bowl.design(within, quantity(law, "lr_opt"))
    assert found.counts.sum() == 16
    lr = columns_of(candidates)["lr"]
    assert lr[found.counts > 0].min() < 2e-3
    assert lr[found.counts > 0].max() > 8e-3
    assert found.by_grid is not None
    assert found.expected["lr_opt"].sd < found.by_grid["lr_opt"].sd
    # four runs cannot pin a parabola down, whatever its derivatives promise; sixteen can
    few = dataclasses.replace(within, budget=4.5 * candidates[0].flops)
    asked = quantity(law, "lr_opt")
    assert bowl.design(few, asked, simulations=40).expected["lr_opt"].optimistic
    assert not bowl.design(within, asked, simulations=40).expected["lr_opt"].optimistic


# --- the command -----------------------------------------------------------------------------------------

SMALL = ["--widths", "16,32,64", "--depth", "2", "--set", "data.context=32", "--simulations", "0"]


def command(out: Path, *more: str) -> int:
    return main(["plan", "--out", str(out), *SMALL, *more])


def test_the_cells_are_runs_that_cost_what_the_plan_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "alpha.json", tmp_path / "alpha.png"
    options = ["--for", "alpha", "--budget", "10min", "--rate", "1e10", "--jobs", "2", "--set", "param=mup"]
    assert command(out, *options, "--max-tokens", "5e6", "--max-runs", "15", "--plot", str(picture)) == 0
    shown = capsys.readouterr().out
    assert "95% interval expected" in shown
    assert f"sweeps run --cells {out}" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(out.read_text())
    assert found["study"] == "planned/alpha"
    costs = []
    for cell in found["cells"]:
        config = compose(overrides(cell))
        costs.append(run_cost(config, vocab_size(config.data)))
        assert (config.param.name, config.data.context, config.model.head_dim) == ("mup", 32, 8)
    assert sum(cost.flops for cost in costs) == pytest.approx(found["flops"])
    assert found["flops"] <= 2 * 600 * 1e10
    assert 100 < found["seconds"] <= 600
    assert max(cost.n_tokens for cost in costs) <= 5.1e6
    assert len({json.dumps(cell) for cell in found["cells"]}) == len(found["cells"])
    low, high = found["expected"]["alpha"]["ci95"]
    assert low < found["expected"]["alpha"]["value"] < high


def test_a_plan_for_the_rate_and_one_for_all(tmp_path: Path) -> None:
    out, picture = tmp_path / "lr.json", tmp_path / "lr.svg"
    more = ["--widths", "32", "--for", "lr", "--budget", "4e12flops", "--lr", "1e-3..1e-2", "--plot", str(picture)]
    assert command(out, *more) == 0
    cells = json.loads(out.read_text())["cells"]
    assert {cell["model.width"] for cell in cells} == {32}
    assert min(cell["optim.lr"] for cell in cells) >= 1e-3
    assert max(cell["optim.lr"] for cell in cells) <= 1e-2
    assert len({cell["optim.lr"] for cell in cells}) > 2
    assert picture.stat().st_size > 1000
    assert command(tmp_path / "all.json", "--criterion", "d", "--budget", "1e13flops") == 0
    assert json.loads((tmp_path / "all.json").read_text())["for"] is None


def test_a_rate_is_of_what_the_runs_themselves_computed() -> None:
    """A grown run's FLOPs are those of its bases too, its seconds are not."""
    runs = pl.DataFrame({"flops": [100, 300], "seconds": [1.0, 1.0]})
    assert _rate(runs) == 200
    assert _rate(runs.with_columns(flops_own=pl.Series([None, 200]))) == 150


def test_measured_runs_are_the_prior_the_noise_and_the_rate(tmp_path: Path) -> None:
    folders = write_ladder(tmp_path / "runs", steps=10, noise=0.003)
    flops = sum(json.loads((folder / "run.json").read_text())["flops"] for folder in folders)
    ask = ["--for", "beta", "--budget", "1s", "--runs", str(tmp_path / "runs/demo/ladder/*")]
    assert command(tmp_path / "a.json", *ask) == 0
    alone = json.loads((tmp_path / "a.json").read_text())
    assert alone["rate"] == pytest.approx(flops / len(folders))
    assert 0.001 < alone["noise"] < 0.006
    assert "15 points" in alone["prior"]["basis"]
    assert command(tmp_path / "b.json", *ask, "--besides") == 0
    besides = json.loads((tmp_path / "b.json").read_text())
    assert besides["n_known"] == 15
    assert besides["expected"]["beta"]["sd"] < alone["expected"]["beta"]["sd"]
    assert min(cell["seed"] for cell in besides["cells"]) == 1  # seed 0 was measured

    fitted = tmp_path / "fit.json"
    runs = str(tmp_path / "runs/demo/ladder/*")
    assert (
        main(["fit", "chinchilla", "--runs", runs, "--delta", "0.01", "--bootstrap", "50", "--out", str(fitted)]) == 0
    )
    assert command(tmp_path / "c.json", "--for", "beta", "--budget", "1e13flops", "--fit", str(fitted)) == 0
    of_fit = json.loads((tmp_path / "c.json").read_text())
    assert of_fit["prior"]["values"] == pytest.approx(alone["prior"]["values"], rel=1e-6)


def test_budgets_carry_units() -> None:
    assert Allowance.parse("2h") == (7200.0, None)
    assert Allowance.parse("30min") == (1800.0, None)
    assert Allowance.parse("1e17flops") == (None, 1e17)
    for bad in ("2", "h", "-2h", "0h", "2 h", "2hours", "1e999h", "1e17"):
        with pytest.raises(FitError, match="allowed: such as 2h"):
            Allowance.parse(bad)


FLOPS = ["--budget", "1e13flops"]
MISTAKES = {
    "no unit": (["--for", "alpha", "--budget", "2"], "allowed: such as 2h"),
    "no rate": (["--for", "alpha", "--budget", "2h"], "needs a speed"),
    "bad rate": (["--for", "alpha", "--budget", "2h", "--rate", "-1"], "a positive number"),
    "jobs of FLOPs": (["--for", "alpha", *FLOPS, "--jobs", "2"], "--jobs: does nothing"),
    "too little": (["--for", "alpha", "--budget", "1e9flops"], "do not determine"),
    "no question": (FLOPS, "--for: is needed"),
    "no such constant": (["--for", "alfa", *FLOPS], "did you mean alpha?"),
    "bad compute": (["--for", "n_params_opt@much", *FLOPS], "allowed: FLOPs"),
    "negative compute": (["--for", "n_params_opt@-1", *FLOPS], "allowed: FLOPs"),
    "no such optimum": (["--for", "alpha@1e18", *FLOPS], "has no target compute"),
    "no such law": (["--law", "chinchila", "--for", "alpha", *FLOPS], "did you mean chinchilla?"),
    "a procedure": (["--law", "isoflop", "--for", "a", *FLOPS], "no single formula"),
    "nothing assumed": (["--law", "kaplan", "--for", "alpha_N", *FLOPS], "no assumption"),
    "impossible width": (["--for", "alpha", *FLOPS, "--widths", "16,30"], "cannot be cut into heads of 8"),
    "odd heads": (["--for", "alpha", *FLOPS, "--head-dim", "1"], "allowed: an even"),
    "no width": (["--for", "alpha", *FLOPS, "--widths", "16,x"], "'x' is not allowed"),
    "upside down": (["--for", "alpha", *FLOPS, "--tokens-per-param", "9..3"], "upside down"),
    "planned key": (["--for", "alpha", *FLOPS, "--set", "model.width=8"], "--widths"),
    "grown run": (["--for", "alpha", *FLOPS, "--set", "grow.step=4"], "start from nothing"),
    "runtime key": (["--for", "alpha", *FLOPS, "--set", "runtime.threads=1"], "leaves it open"),
    "unknown key": (["--for", "alpha", *FLOPS, "--set", "optim.lrr=1"], "did you mean optim.lr?"),
    "two widths for lr": (["--for", "lr", *FLOPS], "one width"),
    "lr of sizes": (["--for", "alpha", *FLOPS, "--lr", "1e-3..1e-2"], "is for --for lr"),
    "one rate": (["--for", "lr", *FLOPS, "--widths", "32", "--lr", "1e-3"], "one rate has no best"),
    "no tokens": (["--for", "alpha", *FLOPS, "--max-tokens", "10"], "leaves no run"),
    "no fit": (["--for", "alpha", *FLOPS, "--fit", "none.json"], "none.json"),
    "no runs": (["--for", "alpha", *FLOPS, "--runs", "none/*"], "no run folder"),
    "besides nothing": (["--for", "alpha", *FLOPS, "--besides"], "needs measured runs"),
    "where of nothing": (["--for", "alpha", *FLOPS, "--where", "loss > 1"], "--where"),
    "few simulations": (["--for", "alpha", *FLOPS, "--simulations", "3"], "at least 40"),
    "no picture": (["--for", "alpha", *FLOPS, "--plot", "plan.txt"], "not a picture"),
    "no folder": (["--for", "alpha", *FLOPS, "--plot", "none/plan.png"], "none/plan.png"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_keeps_the_old_plan(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "plan.json"
    out.write_text("kept")
    arguments, words = MISTAKES[name]
    assert command(out, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert out.read_text() == "kept"

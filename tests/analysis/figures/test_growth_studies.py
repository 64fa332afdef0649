"""The studies of how growth goes: runs that behave as the papers say, and runs that do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.claims.claim import write_claims
from analysis.figures.growth import cooldowns, tokenformer
from analysis.figures.gstack import noise, patterns, spike
from analysis.figures.registry import FIGURES
from analysis.tables.csv import TableError
from analysis.tables.lineage import FROM_SCRATCH, trace
from sweeps.plan.plan import make_plan
from sweeps.studies.growth import cooldowns as cooldowns_study
from sweeps.studies.growth import tokenformer as tokenformer_study
from sweeps.studies.gstack import noise as noise_study
from sweeps.studies.gstack import patterns as patterns_study
from sweeps.studies.gstack import spike as spike_study
from sweeps.studies.gstack.recipe import SCALES
from sweeps.studies.registry import STUDIES
from tests.analysis.figures.simulate_growth import Simulated, diverge, scratch_loss, simulate_growth
from tests.analysis.figures.simulate_runs import NOT_REPRODUCED, REPRODUCED, verdicts
from train.record.manifest import PROFILES, Profile
from train.record.metrics_file import MetricsWriter

pytestmark = pytest.mark.usefixtures("no_pictures")

SCALE = SCALES["cpu"]

Course = Callable[[dict[str, Any], int], float]
"""A run, and its own step -> validation loss."""


def write_curves(runs: pl.DataFrame, loss: Course, *, n_rows: int = 13) -> None:
    for run in runs.iter_rows(named=True):
        Path(run["folder"]).mkdir(parents=True)
        writer = MetricsWriter(Path(run["folder"]), after_step=0)
        rng = np.random.default_rng(run["seed"])
        for step in sorted({round(share * run["n_steps"]) for share in np.linspace(0, 1, n_rows)}):
            value = loss(run, step) + 0.01 * run["seed"] + 1e-5 * rng.standard_normal()
            share = step / run["n_steps"]
            spent = {
                name: round(run[f"{name}_inherited"] * (1 - share) + run[name] * share)
                for name in ("n_tokens", "flops")
            }
            row = {"step": step, "tokens": spent["n_tokens"], "flops": spent["flops"]}
            writer.append(row | {"train_loss": value, "val_loss": value})
        writer.close()


# --- the spike -------------------------------------------------------------------------------------------


GROWN_AT = round(spike_study.GROWN_AT * SCALE.steps)


def spike_course(jump: dict[str, float], *, fresh: float, warm: float, falls: float, full_rate: float = 2.0) -> Course:
    """The base ends at 2.5; a jump decays within half a warm-up, and `falls` nats a warm-up besides, times `full_rate`
    without one. Fresh moments cost `fresh` at the full rate, and the base's own `warm`."""

    def loss(run: dict[str, Any], step: int) -> float:
        # The base, the trunk from scratch, or a branch.
        if run["grow.base"] is None or run["n_steps_inherited"] > GROWN_AT:
            return 2.5 if run["model.depth"] == SCALE.base_depth else 2.0
        full = run["grow.schedule"] == "continue"
        hump = 0.0 if not full else warm if run["grow.optimizer"] == "carry" else fresh
        rate = falls * (full_rate if full else 1)
        warm_ups = step / SCALE.warmup
        start = jump[run["grow.depth"]] * math.exp(-2 * warm_ups)
        return 2.5 + start + (hump if step > 0 else 0.0) - rate * warm_ups

    return loss


def spike_runs(tmp_path: Path, course: Course, ends: dict[str, float]) -> pl.DataFrame:
    def loss(run: Simulated) -> float:
        return 2.0 if run.growth is None else ends[run.growth["grow.depth"]]

    runs = simulate_growth(spike_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4)
    write_curves(runs, course)
    return runs


def test_spike_as_published(tmp_path: Path) -> None:
    course = spike_course({"stack": 0.4, "zero": 0.0}, fresh=0.2, warm=0.0, falls=0.2)
    claims = spike.spike(spike_runs(tmp_path, course, {"stack": 1.8, "zero": 1.9}), tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 7
    jump = claims[0].measured.estimate
    assert jump == pytest.approx(0.4, abs=1e-3)
    drawn = pl.read_csv(tmp_path / "spike.csv")
    joined = drawn.filter(pl.col("axis") == "steps_in_all")
    ends, begins = joined.filter(pl.col("arm") == "base")["x"].max(), joined.filter(pl.col("arm") == "stack")["x"].min()
    assert ends == begins == GROWN_AT
    assert pl.read_csv(tmp_path / "restart.csv")["begins_with"].n_unique() == 4


def test_spike_of_the_wrong_operator(tmp_path: Path) -> None:
    """Zero jumps and stack falls, so that it has nothing to recover from; and the base's own moments cost more."""
    course = spike_course({"stack": -0.2, "zero": 0.3}, fresh=0.0, warm=2.0, falls=-0.2, full_rate=0.5)
    claims = spike.spike(spike_runs(tmp_path, course, {"stack": 1.9, "zero": 1.8}), tmp_path)
    assert verdicts(claims) == [NOT_REPRODUCED] * 2 + [REPRODUCED] + [NOT_REPRODUCED] * 4


def test_a_stack_that_never_comes_back(tmp_path: Path) -> None:
    course = spike_course({"stack": 0.4, "zero": 0.0}, fresh=0.2, warm=0.0, falls=-0.2)
    claims = spike.spike(spike_runs(tmp_path, course, {"stack": 1.8, "zero": 1.9}), tmp_path)
    assert claims[2].verdict == NOT_REPRODUCED


def test_recovery_is_where_the_loss_is_back() -> None:
    rows = pl.DataFrame({"flops": [100.0, 200.0, 300.0], "base_flops": [100.0] * 3, "rise": [0.3, 0.1, -0.1]})
    assert spike.recovery(rows) == pytest.approx(150)
    never = rows.with_columns(pl.Series("rise", [0.3, 0.2, 0.1]))
    assert spike.recovery(never) == 200
    at_once = rows.with_columns(pl.Series("rise", [-0.1, 0.2, 0.1]))
    assert spike.recovery(at_once) == 0


# --- patterns --------------------------------------------------------------------------------------------

LIKE_SCRATCH = {"stages": -0.05, "hop": -0.25, "learngene": -0.3, "templates": -0.1}


def of_pattern(sign: float) -> Callable[[Simulated], float]:
    def above(run: Simulated) -> float:
        assert run.growth is not None
        assert run.base is not None
        how, pattern = run.growth["grow.depth"], run.growth["grow.pattern"]
        if how == "templates":
            return LIKE_SCRATCH["templates"]
        if run.base["model.stages"] is not None:
            return LIKE_SCRATCH["learngene"]
        if run.base["model.depth"] == 2:
            return LIKE_SCRATCH["hop"]
        if run.base["grow.base"] is not None:
            return LIKE_SCRATCH["stages"]
        kept = {"stack": 6, "interpolate": 3}.get(how) or sum(pattern.count(pair) for pair in ("0,1", "1,2", "2,3"))
        return -0.3 * kept / 7 + (0.5 if pattern and pattern.startswith(("0,0", "0,1,0")) else 0.0)

    def loss(run: Simulated) -> float:
        return scratch_loss(run.flops) + (0.0 if run.growth is None else sign * above(run))

    return loss


def pattern_runs(tmp_path: Path, sign: float) -> pl.DataFrame:
    runs = simulate_growth(patterns_study.STUDIES[0], of_pattern(sign), tmp_path / "runs", noise=5e-4)
    looped = set(runs.filter(pl.col("model.stages").is_not_null())["run_id"])

    def course(run: dict[str, Any], step: int) -> float:
        jumps = (
            (0.05 if run["grow.base"] in looped else 0.4) if sign > 0 else (0.4 if run["grow.base"] in looped else 0.05)
        )
        return 2.5 if run["grow.base"] is None else 2.5 + jumps - 1e-3 * step

    write_curves(runs, course, n_rows=3)
    return runs


def test_patterns_as_published(tmp_path: Path) -> None:
    claims = patterns.patterns(pattern_runs(tmp_path, 1.0), tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 10
    drawn = pl.read_csv(tmp_path / "patterns.csv")
    rates = dict(drawn.drop_nulls("rate").select("arm", "rate").unique().iter_rows())
    assert rates["whole stack"] == pytest.approx(6 / 7)
    assert rates["front pair"] == rates["middle pair"] == rates["back pair"] == pytest.approx(5 / 7)
    assert rates["interpolation"] == rates["front block"] == rates["back block"] == pytest.approx(3 / 7)
    flops = drawn["flops"].to_numpy()
    assert flops.max() / flops.min() < 1.03


def test_patterns_the_other_way_round(tmp_path: Path) -> None:
    assert verdicts(patterns.patterns(pattern_runs(tmp_path, -1.0), tmp_path)) == [NOT_REPRODUCED] * 10


def test_the_papers_connection_rates() -> None:
    """Du et al. 2024: the whole stack of 8 blocks as 24 keeps 21 of 23 pairs, interpolation 7."""
    assert patterns.connection_rate(patterns.sources("stack", None, 8, 24)) == pytest.approx(0.913, abs=5e-4)
    assert patterns.connection_rate(patterns.sources("interpolate", None, 8, 24)) == pytest.approx(0.304, abs=5e-4)
    assert patterns.name_of([0, 1, 2, 3, 0, 1, 2, 3], 4) == "whole stack"
    assert patterns.name_of([0, 0, 1, 1], 2) == "interpolation"


# --- noise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "verdict"),
    [({0.0: -0.1, 0.2: -0.15, 0.4: -0.05}, REPRODUCED), ({0.0: -0.1, 0.2: -0.05, 0.4: -0.15}, NOT_REPRODUCED)],
)
def test_noise(tmp_path: Path, above: dict[float, float], verdict: str) -> None:
    def loss(run: Simulated) -> float:
        return scratch_loss(run.flops) + (0.0 if run.growth is None else above[run.growth["grow.noise"]])

    runs = simulate_growth(noise_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4, curves=True)
    assert verdicts(noise.noise(runs, tmp_path)) == [verdict] * 4
    drawn = pl.read_csv(tmp_path / "noise.csv")
    assert set(drawn["arm"]) == {"stacked depth", "duplicated width"}
    assert set(drawn["noise"]) == {None, 0.0, 0.2, 0.4}


def test_noise_is_not_compared_at_unequal_cost(tmp_path: Path) -> None:
    runs = simulate_growth(noise_study.STUDIES[0], lambda run: scratch_loss(run.flops), tmp_path / "runs", curves=True)
    much = pl.col("grow.noise") == noise.MUCH
    dearer = runs.with_columns(pl.when(much).then(1.1 * pl.col("flops")).otherwise("flops").alias("flops"))
    counts = [[claim.measured.n_seeds for claim in noise.noise(table, tmp_path)] for table in (runs, dearer)]
    assert counts == [[3, 3, 3, 3], [3, 3, 0, 0]]


# --- TokenFormer -----------------------------------------------------------------------------------------

JUMPS = {"frozen": 0.0, "recomputed": 0.1, "random": 0.5, "net2net": 0.0}


def token_arm(run: dict[str, Any]) -> str:
    if run["model.param_tokens"] is None:
        return "net2net"
    if run["model.param_tau"] < 1:
        return "frozen"
    return "random" if run["grow.width"] == "random" else "recomputed"


def token_claims(tmp_path: Path, jumps: dict[str, float], gain: float) -> list[str]:
    def loss(run: Simulated) -> float:
        return scratch_loss(run.flops) - (gain if run.growth is not None and token_arm(run.growth) == "frozen" else 0.0)

    grown_at = round(tokenformer_study.GROWN_AT * SCALE.steps)

    def course(run: dict[str, Any], step: int) -> float:
        jump = jumps[token_arm(run)] if run["grow.base"] is not None and run["grow.step"] == grown_at else 0.0
        return 2.5 + jump - 1e-3 * step * (run["grow.base"] is not None)

    runs = simulate_growth(tokenformer_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4)
    write_curves(runs, course, n_rows=5)
    return verdicts(tokenformer.tokenformer(runs, tmp_path))


def test_tokenformer_as_published(tmp_path: Path) -> None:
    assert token_claims(tmp_path, JUMPS, gain=0.2) == [REPRODUCED] * 7
    drawn = pl.read_csv(tmp_path / "tokenformer.csv")
    assert set(drawn["arm"]) == {"base", "scratch", "frozen", "recomputed", "random", "plain", "net2net"}


def test_tokenformer_that_jumps_and_gains_nothing(tmp_path: Path) -> None:
    jumps = {"frozen": 0.1, "recomputed": -0.1, "random": -0.2, "net2net": 0.1}
    assert token_claims(tmp_path, jumps, gain=-0.2) == [NOT_REPRODUCED] * 7


@pytest.mark.parametrize("profile", PROFILES)
def test_a_tokenformer_from_scratch_makes_as_many_steps_at_full_size(tmp_path: Path, profile: Profile) -> None:
    runs = make_plan(tokenformer_study.STUDIES[0], profile, runs_dir=tmp_path).runs
    by_id = {run.run_id: run for run in runs}
    steps: dict[str, set[int]] = {"scratch": set(), "grown": set()}
    for run in runs:
        tokens = run.config.model.param_tokens
        if run.base is None or tokens is None:
            continue
        grown = by_id[run.base].config.model.param_tokens != tokens
        steps["grown" if grown else "scratch"].add(run.cost.n_steps + (0 if grown else run.cost.inherited.steps))
    assert len(steps["grown"]) == 1
    assert steps["grown"] < steps["scratch"]


# --- cool-downs ------------------------------------------------------------------------------------------


def cooldown_runs(tmp_path: Path, *, branch: float, fresh: float, decay: float) -> pl.DataFrame:
    """Branches end `branch` above scratch, those with fresh moments `fresh`, and scratch `decay` below the trunk."""

    def loss(run: Simulated) -> float:
        above = {None: 0.0, "carry": branch, "reset": fresh}
        how = run.settings["grow.optimizer"] if run.settings["grow.base"] else None
        return scratch_loss(run.flops) + above[how]

    runs = simulate_growth(cooldowns_study.STUDIES[0], loss, tmp_path / "runs", noise=2e-4)

    def course(run: dict[str, Any], step: int) -> float:
        flops = run["flops_inherited"] + (run["flops"] - run["flops_inherited"]) * max(step, 1) / run["n_steps"]
        return scratch_loss(flops) + decay

    write_curves(runs, course)
    return runs


def test_cooldowns_as_published(tmp_path: Path) -> None:
    runs = cooldown_runs(tmp_path, branch=0.0, fresh=0.05, decay=0.1)
    claims = cooldowns.cooldowns(runs, tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 4
    saved = claims[3].measured.estimate
    assert saved == pytest.approx(1 - (0.8 + 0.2 * 3.5) / 3.5, abs=0.01)
    assert set(pl.read_csv(tmp_path / "cooldowns.csv")["arm"]) == {
        "trunk", "branch", "branch with fresh moments", "scratch",
    }  # fmt: skip


def test_cooldowns_of_few_long_branches_that_end_elsewhere(tmp_path: Path) -> None:
    """The decay raises the loss besides; and two lengths, which share all they can, save less than half."""
    runs = cooldown_runs(tmp_path, branch=0.1, fresh=-0.1, decay=-0.1)
    lengths = runs.filter(pl.col("schedule.shape") == "wsd")["n_tokens"].unique().sort()
    kept = (pl.col("schedule.shape") == "constant") | pl.col("n_tokens").is_in(lengths.tail(2).implode())
    assert verdicts(cooldowns.cooldowns(runs, tmp_path)) == [NOT_REPRODUCED] * 3 + [REPRODUCED]
    few = cooldowns.cooldowns(runs.filter(kept), tmp_path)
    assert few[3].verdict == NOT_REPRODUCED
    assert few[2].measured.estimate is None  # the trunk ends before either


@pytest.mark.parametrize(("apart", "verdict"), [(0.0, REPRODUCED), (0.1, NOT_REPRODUCED)])
def test_seeds_that_agree_leave_a_branch_no_room(tmp_path: Path, apart: float, verdict: str) -> None:
    runs = cooldown_runs(tmp_path, branch=0.0, fresh=0.05, decay=0.1)
    carried = pl.col("grow.base").is_not_null() & (pl.col("grow.optimizer") == "carry")
    alike = runs.with_columns(pl.when(carried).then(2.0 + apart).otherwise(2.0).alias("loss"))
    assert cooldowns.cooldowns(alike, tmp_path)[0].verdict == verdict


# --- broken runs -----------------------------------------------------------------------------------------

GROWTH = [name for name in FIGURES if name.startswith(("gstack/", "growth/"))]


def with_what_follows(runs: pl.DataFrame, lost: str) -> set[str]:
    """A run, and all that start from it, or from one of those."""
    gone, found = {lost}, 0
    while found != len(gone):
        found = len(gone)
        gone |= {run for run, base in runs.select("run_id", "grow.base").iter_rows() if base in gone}
    return gone


@pytest.mark.parametrize("name", GROWTH)
def test_broken_runs_end_in_claims_or_one_line(tmp_path: Path, name: str) -> None:
    """A run of seed 0 diverged, of each kind, and what would start from it is not there; all of one arm; all that
    decay."""
    runs = simulate_growth(
        STUDIES[name], lambda run: scratch_loss(run.flops), tmp_path / "r", profile="smoke", curves=True
    )
    traced = trace(runs)
    annealed, first = traced.filter("annealed"), traced.filter(pl.col("seed") == 0)
    kinds = [(FROM_SCRATCH, "annealed"), (~FROM_SCRATCH, "annealed"), (FROM_SCRATCH, None), (~FROM_SCRATCH, None)]
    tables = [diverge(runs, pl.col("run_id").is_in(annealed["run_id"].implode()))]
    tables.append(runs.filter(~pl.col("run_id").is_in(annealed["run_id"].implode())))
    for growth, decays in kinds:
        for lost in first.filter(growth & (pl.col("annealed") == (decays is not None)))["run_id"].head(2):
            gone = with_what_follows(runs, lost) - {lost}
            tables.append(diverge(runs, pl.col("run_id") == lost).filter(~pl.col("run_id").is_in(gone)))
    n_claims, errors = set(), []
    for table in [runs, *tables]:
        try:
            claims = FIGURES[name](table, tmp_path)
        except TableError as error:
            errors.append(str(error))
            continue
        write_claims(tmp_path / "claims.json", name, "smoke", claims)
        n_claims.add(len(claims))
        if table is not runs and "diverged" in set(table["state"]):
            assert all("diverged: " in claim.measured.reason for claim in claims if claim.measured.reason is not None)
    assert len(n_claims) == 1
    assert len(errors) >= 2  # without those that decay
    assert "\n" not in "".join(errors)

"""The studies of what happens inside: claims that hold in runs made to show them, and fail in runs made not to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.claims.claim import Claim
from analysis.drawing import style
from analysis.figures.small_proxies import epsilon as epsilon_figure
from analysis.figures.small_proxies import gradient_rms as gradient_figure
from analysis.figures.small_proxies import logit_prediction as logit_figure
from analysis.figures.small_proxies import transplanted_logits as transplanted_figure
from analysis.figures.small_proxies.probes import exponents, with_last_probes
from analysis.stability.lr_sweep import curves_of, read_sweep
from conf.compose import compose
from conf.vocab import vocab_size
from sweeps.cells.grid import GridPoint, overrides
from sweeps.studies.small_proxies import epsilon, gradient_rms, logit_prediction, qk_norm, transplanted_logits
from sweeps.studies.small_proxies.recipe import SCALES, recipe
from tests.analysis.figures.simulate_runs import Row, bowl, simulate_runs
from train.record.manifest import Profile
from train.timetable.cost import run_cost
from train.timetable.schedule import build_schedule

LOGIT = "block0/attention_logit_max"
HOLDS, FAILS = "reproduced", "not reproduced"
Run = dict[str, Any]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn, but neither laid out nor written; `tests/test_studies.py` does that."""
    monkeypatch.setattr(style, "save", lambda *_: [])
    monkeypatch.setattr(logit_figure, "BOOTSTRAP", 200)


def noise(run: Run, spread: float) -> float:
    """A factor near 1 that is a run's own."""
    key = [run["seed"], run["model.width"], run["model.depth"], round(1e6 * run["optim.lr"])]
    return float(np.exp(spread * np.random.default_rng(key).standard_normal()))


def n_params(run: Run) -> float:
    return float(12 * run["model.depth"] * run["model.width"] ** 2)


def verdicts(claims: Sequence[Claim]) -> list[str]:
    return [claim.verdict for claim in claims]


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


# --- logit_prediction ------------------------------------------------------------------------------------


def draw_logits(tmp_path: Path, logit: Callable[[Run], float], loss: Callable[[Run], float]) -> list[Claim]:
    def curve(run: Run) -> list[Row]:
        early = logit(run) * noise(run, 0.05)
        later = [{"step": 21, LOGIT: 1e6}] if run["n_steps"] > 20 else []
        return [{"step": 1, LOGIT: 3.0}, {"step": 11, LOGIT: early}, *later]

    runs = simulate_runs(logit_prediction.cells("cpu"), loss, curve=curve, runs_dir=tmp_path / "runs")
    return logit_figure.draw(runs, tmp_path)


def grows(run: Run) -> float:
    u = np.log(n_params(run) / 1e5)
    return float(2000 * run["optim.lr"] * np.exp((0.5 + 0.02 * u) * u))


def test_logits_that_follow_their_law_are_predicted(tmp_path: Path) -> None:
    claims = draw_logits(tmp_path, grows, bowl)
    assert verdicts(claims) == [HOLDS] * 10
    assert claims[0].accept.truth == pytest.approx(
        np.log10(grows({"model.width": 192, "model.depth": 4, "optim.lr": 1e-3})), abs=0.05
    )
    assert files(tmp_path) >= {"logit_prediction.csv"}


def test_a_jump_at_the_largest_size_is_not_predicted(tmp_path: Path) -> None:
    claims = draw_logits(tmp_path, lambda run: grows(run) * (10 if run["model.width"] == 192 else 1), bowl)
    assert verdicts(claims) == [FAILS] * 7 + [HOLDS] * 3


def test_logits_that_shrink_and_tell_nothing(tmp_path: Path) -> None:
    claims = draw_logits(tmp_path, lambda run: 1 / grows(run), bowl)
    assert verdicts(claims) == [HOLDS] * 7 + [FAILS] * 3


def test_where_no_run_fails_the_claim_says_so(tmp_path: Path) -> None:
    last = draw_logits(tmp_path, grows, lambda _: 2.0)[-1]
    assert (last.verdict, last.measured.reason) == ("inconclusive", "no run fails, or all do")


# --- transplanted_logits ---------------------------------------------------------------------------------


def draw_transplanted(tmp_path: Path, rise: float, share: float) -> list[Claim]:
    def loss(run: Run) -> float:
        if run["model.depth"] == 0:
            return bowl(run, lowest=2.2, best=3e-2)
        return 1.8 + rise * max(0.0, math.log10(run["model.qk_rms"] / 100))

    def curve(run: Run) -> list[Row]:
        return [{"step": 1, LOGIT: share * run["model.qk_rms"]}] if run["model.depth"] else [{"step": 1}]

    cells = transplanted_logits.cells("cpu")
    runs = simulate_runs(cells, loss, curve=curve, runs_dir=tmp_path / "runs")
    return transplanted_figure.draw(runs, tmp_path)


def test_planted_logits_that_spoil_the_model(tmp_path: Path) -> None:
    assert verdicts(draw_transplanted(tmp_path, rise=0.3, share=0.9)) == [HOLDS] * 3
    drawn = pl.read_csv(tmp_path / "transplanted_logits.csv")
    bigrams = drawn.filter(pl.col("drawn") == "bigrams")["loss"]
    assert bigrams.to_list() == pytest.approx([2.2, 2.21, 2.22], abs=0.02), "not at their best rate"


def test_planted_logits_that_help(tmp_path: Path) -> None:
    claims = draw_transplanted(tmp_path, rise=-0.1, share=0.1)
    assert verdicts(claims) == [FAILS] * 3


# --- gradient_rms ----------------------------------------------------------------------------------------


def draw_gradients(tmp_path: Path, of_size: float, of_rate: float) -> list[Claim]:
    def curve(run: Run) -> list[Row]:
        g = 1e-3 * (n_params(run) / 1e5) ** of_size * (run["optim.lr"] / 0.3) ** of_rate * noise(run, 0.02)
        names = [f"block{k}/{tensor}/gradient_rms" for k in range(run["model.depth"]) for tensor in ("up", "key")]
        return [{"step": 10 * k + 1, **dict.fromkeys(names, g if k >= 22 else 100 * g)} for k in range(25)]

    runs = simulate_runs(gradient_rms.cells("cpu"), bowl, curve=curve, runs_dir=tmp_path / "runs")
    return gradient_figure.draw(runs, tmp_path)


def test_gradients_that_fall(tmp_path: Path) -> None:
    claims = draw_gradients(tmp_path, -1.05, -0.4)
    assert verdicts(claims) == [HOLDS] * 5
    assert claims[0].measured.estimate == pytest.approx(-1.05, abs=0.02)
    assert claims[1].measured.estimate == pytest.approx(-0.4, abs=0.02)
    assert files(tmp_path) >= {"gradient_rms.csv", "key_gradient_rms.csv"}


def test_gradients_that_grow(tmp_path: Path) -> None:
    claims = draw_gradients(tmp_path, 0.3, 0.2)
    assert verdicts(claims) == [FAILS] * 4 + ["inconclusive"]
    assert claims[-1].measured.reason == "the gradient does not fall with size"


def test_gradients_that_fall_too_slowly_to_reach_epsilon(tmp_path: Path) -> None:
    assert verdicts(draw_gradients(tmp_path, -0.5, -0.4)) == [HOLDS] * 4 + [FAILS]


def test_the_last_tenth_of_probes_is_averaged_and_a_missing_one_is_null(tmp_path: Path) -> None:
    def curve(run: Run) -> list[Row]:
        return [{"step": k, "grad_norm": float(k)} for k in range(1, 21)] if run["seed"] == 0 else [{"step": 1}]

    cells: list[GridPoint] = [{"seed": seed, "train.duration": "20steps"} for seed in (0, 1)]
    runs = simulate_runs(cells, bowl, curve=curve, runs_dir=tmp_path)
    found = with_last_probes(read_sweep(runs, pl.lit("one")), curves_of(runs), ["grad_norm"])
    assert found["grad_norm"].to_list() == [19.5, None]


def test_a_seed_that_lacks_a_value_has_no_exponent() -> None:
    sweep = pl.DataFrame(
        [
            {"seed": seed, "size": size, "lr": lr, "value": size**-0.5 if (seed, size, lr) != (1, 10, 0.1) else None}
            for seed in (0, 1)
            for size in (1, 10, 100)
            for lr in (0.1, 1.0)
        ]
    )
    assert exponents(sweep, "value", "size", at="lr").values == {0: pytest.approx(-0.5)}
    assert exponents(sweep, "value", "lr", at="size").values == {0: pytest.approx(0.0)}


# --- epsilon ---------------------------------------------------------------------------------------------


def draw_epsilon(tmp_path: Path, meets: float, harm: float, gain: float) -> list[Claim]:
    """Updates that halve where epsilon is `meets` times the gradient."""

    def ratio(run: Run) -> float:
        return float(run["optim.eps"] / (4e-4 * noise(run, 0.05)))

    def loss(run: Run) -> float:
        x = ratio(run)
        return 1.8 + harm * x / (1 + x) - (gain if run["optim.eps"] == 1e-15 else 0.0)

    def curve(run: Run) -> list[Row]:
        x = ratio(run)
        update = 0.25 / (1 + x / meets)
        probes = {"block0/up/gradient_rms": run["optim.eps"] / x, "block0/up/adam_rms": update}
        return [{"step": step, "train_loss": 3.0, **probes} for step in (1, 11)]

    runs = simulate_runs(epsilon.cells("cpu"), loss, curve=curve, runs_dir=tmp_path / "runs", noise=0.002)
    return epsilon_figure.draw(runs, tmp_path)


def test_an_epsilon_that_meets_the_gradient(tmp_path: Path) -> None:
    claims = draw_epsilon(tmp_path, meets=1.0, harm=0.4, gain=0.0)
    assert verdicts(claims) == [HOLDS] * 4
    assert claims[2].measured.estimate == pytest.approx(0.0, abs=0.1)
    assert claims[0].needs is not None
    assert files(tmp_path) >= {"epsilon.csv", "collapse.csv"}


def test_an_epsilon_that_matters_elsewhere(tmp_path: Path) -> None:
    assert verdicts(draw_epsilon(tmp_path, meets=0.1, harm=-0.1, gain=0.1)) == [FAILS] * 4


def test_updates_that_never_collapse(tmp_path: Path) -> None:
    third = draw_epsilon(tmp_path, meets=1e3, harm=0.4, gain=0.0)[2]
    assert (third.verdict, third.measured.reason) == ("inconclusive", "some updates never fall to a half")


# --- cells -----------------------------------------------------------------------------------------------


def test_cells_that_other_studies_have_are_the_same_runs() -> None:
    def keys(cells: Sequence[GridPoint], **only: Any) -> set[tuple[str, ...]]:
        return {
            tuple(sorted(f"{key}={value!r}" for key, value in cell.items() if key not in only))
            for cell in cells
            if all(cell[key] == value for key, value in only.items())
        }

    bare, head = (keys(qk_norm.cells("cpu"), **{"model.qk_norm": arm}) for arm in ("none", "head"))
    assert bare < keys(logit_prediction.cells("cpu"), **{"model.qk_norm": "none"})
    assert head < keys(gradient_rms.cells("cpu"), **{"model.qk_norm": "head"})
    shared = keys(epsilon.cells("cpu"), **{"optim.eps": 1e-8, "model.qk_norm": "head"})
    assert len(shared) == 12
    assert shared < head


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_first_steps_have_the_learning_rates_of_whole_runs(profile: Profile) -> None:
    def rates(cell: GridPoint) -> list[float]:
        config = compose(overrides(recipe(profile) | SCALES[profile].model(128, 3) | {"optim.lr": 0.1} | cell))
        schedule = build_schedule(config.schedule, peak=0.1, cost=run_cost(config, vocab_size(config.data)))
        return [schedule(step) for step in range(schedule.n_steps)]

    short, whole = rates(logit_prediction.first_steps(profile)), rates({})
    probe = round(0.04 * SCALES[profile].steps)
    assert len(short) > probe, "the early step is never probed"
    assert short == whole[: len(short)]
    assert rates(logit_prediction.first_steps(profile) | {"schedule.warmup": "4steps"}) != short

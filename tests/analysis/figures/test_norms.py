"""The studies of norm placement: runs that behave as the papers say, and runs that do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.figures.norms import failing, layernorm_scaling, layers, mix_ln, peri_ln
from analysis.tables.csv import TableError
from sweeps.cells.grid import GridPoint
from sweeps.studies.norms import layernorm_scaling as layernorm_scaling_study
from sweeps.studies.norms import mix_ln as mix_ln_study
from sweeps.studies.norms import peri_ln as peri_ln_study
from tests.analysis.figures.simulate_runs import AT_INIT, NOT_REPRODUCED, REPRODUCED, Row, bowl, simulate_runs, verdicts

pytestmark = pytest.mark.usefixtures("no_pictures")
Profile = Callable[[dict[str, Any], float, float], float]
"""Settings, progress from 0 to 1, and a block's place from 1/L to 1 -> its value."""


def curve(
    variance: Profile,
    gradient: Profile,
    *,
    removal: Profile | None = None,
    angle: Profile | None = None,
    rises: Callable[[dict[str, Any]], bool] = lambda run: False,  # noqa: ARG005  # no run
) -> Callable[[dict[str, Any]], list[Row]]:
    """Rows of metrics of a run: a loss that falls, and rises in the middle on request, and every block probed."""

    def rows(run: dict[str, Any]) -> list[Row]:
        rng = np.random.default_rng(run["seed"])
        depth, n_steps = run["model.depth"], run["n_steps"]
        found: list[Row] = []
        for step in range(1, n_steps + 1):
            progress = (step - 1) / (n_steps - 1)
            hump = 2.0 if rises(run) and 0.4 < progress < 0.5 else 0.0
            loss = 5.5 - 3 * progress + hump + 0.02 * rng.standard_normal()
            row = {"step": step, "grad_norm": 1.0, "train_loss": loss}
            if step % 5 == 1 or step == n_steps:
                for layer in range(depth):
                    place, noise = (layer + 1) / depth, np.exp(0.03 * rng.standard_normal(2))
                    row[f"block{layer}/output_variance"] = variance(run, progress, place) * noise[0]
                    row[f"block{layer}/gradient_norm"] = gradient(run, progress, place) * noise[1]
            if step == n_steps and run["eval.layers"]:
                for layer in range(depth):
                    place, noise = (layer + 1) / depth, np.exp(0.03 * rng.standard_normal(2))
                    if removal is not None:
                        row[f"block{layer}/removal_loss"] = removal(run, 1.0, place) * noise[0]
                    if angle is not None:
                        one = angle(run, 1.0, place) * noise[1]
                        for ahead in range(1, depth - layer + 1):
                            row[f"angle/{layer}/{ahead}"] = 0.5 * (1 - math.exp(-2 * one * ahead))
            found.append(row)
        return found

    return rows


def constant(value: float) -> Profile:
    return lambda run, progress, place: value  # noqa: ARG005  # everywhere the same


def short(cells: list[GridPoint], steps: int = 40) -> list[GridPoint]:
    """The cells, with fewer steps to simulate."""
    return [cell | {"train.duration": f"{steps}steps"} for cell in cells]


# --- LayerNorm Scaling -----------------------------------------------------------------------------------


def _is_lns(run: dict[str, Any]) -> bool:
    return bool(run["model.layernorm_scaling"])


def _bounded(run: dict[str, Any], progress: float, place: float) -> float:
    """l^0.5 under LayerNorm Scaling, l^2 elsewhere, both growing with training."""
    block = place * run["model.depth"]
    return float(0.01 * 100**progress * block ** (0.5 if _is_lns(run) else 2.0))


def _lns_runs(tmp_path: Path, *, variance: Profile, gain: float, deep: float, loss_in: str = "lns") -> pl.DataFrame:
    """LayerNorm Scaling is better by `gain` nats per decade of depth, its deep blocks do `deep` times as much."""

    def loss(run: dict[str, Any]) -> float:
        better = gain * math.log10(run["model.depth"]) if _is_lns(run) == (loss_in == "lns") else 0.0
        return bowl(run, best=3e-3) - better

    def of_deep(run: dict[str, Any], _: float, place: float) -> float:
        return 0.1 * (deep if _is_lns(run) and place > 0.5 else 1.0)

    cells = short(layernorm_scaling_study.cells("cpu"))
    rows = curve(variance, constant(1.0), removal=of_deep, angle=of_deep)
    return simulate_runs(cells, loss, curve=rows, runs_dir=tmp_path / "runs", noise=0.002)


def test_layernorm_scaling_as_published(tmp_path: Path) -> None:
    runs = _lns_runs(tmp_path, variance=_bounded, gain=0.2, deep=2.0)
    claims = layernorm_scaling.draw(runs, tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 10
    by_name = {claim.statistic.split(" over the blocks")[0]: claim for claim in claims}
    assert by_name["p of variance ∝ l^p"].measured.estimate == pytest.approx(0.5, abs=0.05)
    ratio = claims[2].measured.estimate
    assert ratio == pytest.approx(1.5 * math.log10(12), rel=0.05)
    for name in ("variance", "layers", "loss"):
        assert len(pl.read_csv(tmp_path / f"{name}.csv"))


def test_layernorm_scaling_that_bounds_nothing(tmp_path: Path) -> None:
    """Pre-LN shrinks and gets better than LayerNorm Scaling, which grows like l^3 and leaves deep blocks idle."""

    def wild(run: dict[str, Any], progress: float, place: float) -> float:
        block = place * run["model.depth"]
        return float(0.01 * 0.01**progress * block ** (3.0 if _is_lns(run) else -0.5))

    runs = _lns_runs(tmp_path, variance=wild, gain=0.2, deep=0.5, loss_in="others")
    assert verdicts(layernorm_scaling.draw(runs, tmp_path)) == [NOT_REPRODUCED] * 10


# --- Peri-LN ---------------------------------------------------------------------------------------------

BEARS = {"pre": 1e-2, "peri": 1e-1, "post": 3e-3}  # the rate above which the loss rises


def _peri_loss(bears: dict[str, float]) -> Callable[[dict[str, Any]], float]:
    """Falls up to the highest rate that the placement bears, then rises steeply."""

    def loss(run: dict[str, Any]) -> float:
        bearable = bears[run["model.norm_placement"]]
        over = math.log10(run["optim.lr"] / bearable)
        return 2.5 - 0.1 * math.log10(bearable) + (1.5 if over > 0 else -0.2) * over

    return loss


def _peri_variance(run: dict[str, Any], progress: float, place: float) -> float:
    block = place * run["model.depth"]
    match run["model.norm_placement"]:
        case "peri":
            return 1 + 2 * block
        case "post":
            return 1.0
        case _:
            return float(0.001 * block * 1e5**progress)


def _peri_gradient(run: dict[str, Any], _: float, place: float) -> float:
    return float(10 ** (-place if run["model.norm_placement"] == "pre" else 0.1 * place))


def test_peri_ln_as_published(tmp_path: Path) -> None:
    def breaks(run: dict[str, Any]) -> bool:
        return bool(run["optim.lr"] > BEARS[run["model.norm_placement"]])

    rows = curve(_peri_variance, _peri_gradient, rises=breaks)
    cells = short(peri_ln_study.cells("cpu"))
    runs = simulate_runs(cells, _peri_loss(BEARS), curve=rows, runs_dir=tmp_path / "runs", noise=0.002)
    claims = peri_ln.draw(runs, tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 11
    assert [claim.measured.estimate for claim in claims[4:6]] == pytest.approx(
        [2 / 5] * 2
    )  # of five rates pre-LN breaks at two, Peri-LN at none
    assert claims[6].measured.estimate == pytest.approx(1.0, abs=0.2)
    for name in ("learning_rate", "depth", "seeds"):
        assert len(pl.read_csv(tmp_path / f"{name}.csv"))


def test_peri_ln_and_pre_ln_in_each_others_place(tmp_path: Path) -> None:
    """And Post-LN in Peri-LN's, which bears the highest rates; what is in pre-LN's place doubles with every block."""
    place_of = {"pre": "peri", "peri": "pre", "post": "peri"}

    def moved(run: dict[str, Any]) -> dict[str, Any]:
        return run | {"model.norm_placement": place_of[run["model.norm_placement"]]}

    def variance(run: dict[str, Any], progress: float, place: float) -> float:
        if run["model.norm_placement"] == "peri":
            return float(0.001 * 2 ** (place * run["model.depth"]) * 1e5**progress)
        return _peri_variance(moved(run), progress, place)

    rows = curve(
        variance,
        lambda run, progress, place: _peri_gradient(moved(run), progress, place),
        rises=lambda run: run["model.norm_placement"] == "peri" and run["optim.lr"] > 3e-3,
    )
    bears = {"pre": 1e-2, "peri": 3e-3, "post": 1e-1}
    cells = short(peri_ln_study.cells("cpu"))
    runs = simulate_runs(cells, _peri_loss(bears), curve=rows, runs_dir=tmp_path / "runs", noise=0.002)
    assert verdicts(peri_ln.draw(runs, tmp_path)) == [NOT_REPRODUCED] * 11


# --- Mix-LN ----------------------------------------------------------------------------------------------


def _mix_runs(tmp_path: Path, sign: float) -> pl.DataFrame:
    """With `sign` 1 as published, with -1 the opposite: a quarter is worst, and tilts most."""

    def off(run: dict[str, Any]) -> float:
        return abs(float(run["model.mix_fraction"]) - 0.25)

    def loss(run: dict[str, Any]) -> float:
        fails = run["model.mix_fraction"] == (1.0 if sign > 0 else 0.25) and run["optim.lr"] > 3e-3
        return 2.5 + sign * 0.2 * off(run) + (1.0 if fails else 0.0)

    def gradient(run: dict[str, Any], _: float, place: float) -> float:
        if sign > 0:
            return float(10 ** (place * (run["model.mix_fraction"] - 0.25)))
        return float(10 ** (place * {0.0: 0.2, 1.0: -0.2}.get(run["model.mix_fraction"], 1.0)))

    def removal(run: dict[str, Any], _: float, __: float) -> float:
        return 0.1 - sign * 0.2 * off(run)

    def rises(run: dict[str, Any]) -> bool:
        return bool(run["model.mix_fraction"] == (1.0 if sign > 0 else 0.25) and run["optim.lr"] > 3e-3)

    rows = curve(constant(1.0), gradient, removal=removal, rises=rises)
    return simulate_runs(short(mix_ln_study.cells("cpu")), loss, curve=rows, runs_dir=tmp_path / "runs", noise=0.002)


def test_mix_ln_as_published(tmp_path: Path) -> None:
    claims = mix_ln.draw(_mix_runs(tmp_path, 1.0), tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 10
    for name in ("gradients", "fraction", "removal"):
        assert len(pl.read_csv(tmp_path / f"{name}.csv"))
    assert set(pl.read_csv(tmp_path / "fraction.csv")["fraction"].round(3)) == {0, 0.167, 0.25, 0.333, 0.5, 1}


def test_mix_ln_that_makes_all_worse(tmp_path: Path) -> None:
    assert verdicts(mix_ln.draw(_mix_runs(tmp_path, -1.0), tmp_path)) == [NOT_REPRODUCED] * 10


# --- failing ---------------------------------------------------------------------------------------------


def test_an_arm_that_stalls_at_every_rate_bears_none() -> None:
    """Its curve is flat, and so never rises: judged by itself it would bear them all."""
    losses = {"good": [2.4, 2.0, 2.1, 2.6], "bad": [2.5, 2.2, 3.1, 3.1], "stalled": [3.1, 3.1, 3.1, 3.1]}
    rates = [1e-3, 3e-3, 1e-2, 3e-2]
    sweep = pl.DataFrame(
        [
            {"arm": arm, "size": 1.0, "seed": 0, "lr": lr, "loss": loss}
            for arm, curve in losses.items()
            for lr, loss in zip(rates, curve, strict=True)
        ]
    )
    found = failing.with_failed(sweep).group_by("arm", maintain_order=True).agg("failed")
    # The high loss at the lowest rate is for want of steps.
    assert dict(found.iter_rows()) == {"good": [0, 0, 0, 1], "bad": [0, 0, 1, 1], "stalled": [1, 1, 1, 1]}
    bears = {row["arm"]: row for row in failing.bearing_lr(sweep).iter_rows(named=True)}
    assert (bears["stalled"]["lr_fail"], bears["stalled"]["censored"]) == (1e-3, False)
    assert 3e-3 < bears["bad"]["lr_fail"] < 1e-2 < bears["good"]["lr_fail"] < 3e-2


# --- blocks ----------------------------------------------------------------------------------------------


def test_statistics_over_blocks() -> None:
    decade = np.geomspace(1, 10, 7)
    assert layers.tilt(decade) == pytest.approx(1.0)
    assert layers.tilt(decade[::-1]) == pytest.approx(-1.0)
    assert layers.unevenness(np.full(5, 3.0)) == pytest.approx(0.0, abs=1e-12)
    assert layers.unevenness(decade) > 0.3
    assert layernorm_scaling.power_of_block(3 * np.arange(1.0, 13.0) ** 1.7) == pytest.approx(1.7)
    assert peri_ln.deeper_growth(5 + 2 * np.arange(8.0)) == pytest.approx(1.0)
    assert peri_ln.deeper_growth(2 ** np.arange(8.0)) > 5


def test_a_step_at_which_a_block_was_no_number_is_left_out(tmp_path: Path) -> None:
    def overflows(run: dict[str, Any]) -> list[Row]:
        rows = curve(constant(2.0), constant(1.0))(run)
        rows[-1]["block1/output_variance"] = math.inf
        return rows

    cells = short(peri_ln_study.cells("smoke"), steps=10)[:1]
    sweep = simulate_runs(cells, lambda _: AT_INIT, curve=overflows, runs_dir=tmp_path / "runs").with_columns(
        arm=pl.lit("pre"), size=pl.lit(1.0), lr=pl.lit(0.1)
    )
    rows = layers.read_rows(sweep)
    table = layers.by_block(rows, "output_variance")
    assert table["step"].unique().to_list() == [1, 6]
    assert layers.at_end(table)["block"].to_list() == [1, 2, 3, 4]
    assert layers.by_block(rows, "gradient_norm")["step"].unique().to_list() == [1, 6, 10]
    with pytest.raises(TableError, match=r"none of the runs measured angle/\{l\}/\{n\}"):
        layers.angles(rows)

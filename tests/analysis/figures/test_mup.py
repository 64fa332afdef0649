"""The muP studies' verdicts follow the runs: in a world of theory claims hold, in one against it they do not."""

from __future__ import annotations

from functools import partial
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.claims.claim import Claim
from analysis.figures.mup import coord_check, transfer, warning_signs
from analysis.figures.mup.coord_check import CONTROLS
from analysis.figures.mup.transfer import transfer_penalty
from analysis.figures.mup.warning_signs import SIGNS
from analysis.stability.lr_sweep import read_sweep
from sweeps.studies.mup import coord_check as coord_cells
from sweeps.studies.mup import transfer as transfer_cells
from sweeps.studies.mup import warning_signs as sign_cells
from tests.analysis.figures.simulate_runs import AT_INIT, Row, bowl, simulate_runs

STEPS = 4


def verdicts(claims: list[Claim]) -> list[str]:
    return [claim.verdict for claim in claims]


def jitter(run: dict[str, Any]) -> float:
    """Noise of 0.3 % that belongs to the run."""
    key = [run["seed"], run["model.width"], run["model.depth"], *map(ord, run["param.without"] + run["param.name"])]
    return float(np.exp(0.003 * np.random.default_rng(key).standard_normal()))


# --- coordinate check ------------------------------------------------------------------------------------


def coordinates(run: dict[str, Any], *, theory: bool) -> list[Row]:
    """Powers of width and depth by Yang et al. 2022 and Dey et al. 2025; against theory the parametrisations change
    places, and no rule matters."""
    m, deep = run["model.width"] / run["param.base_width"], run["model.depth"] / run["param.base_depth"]
    off = run["param.without"] if theory else "none"
    sick = (run["param.name"] == "standard") == theory
    rule = run["param.name"] == "completep" and run["param.without"] != "residual_multiplier"
    multiplied = rule == theory
    rows = []
    for t in range(STEPS):
        learnt = t / (STEPS - 1)
        hidden = float(sick or off == "hidden_lr") * learnt + float(off == "hidden_init")
        logits = -0.5 * (1 - learnt)
        logits += 0.5 * float(sick) + 0.5 * float(off == "readout_init") * (1 - learnt) + float(off == "readout_lr") * t
        query = 0.5 * float(off == "attention_scale") - 0.5 * float(off == "query_init") * (1 - learnt)
        zero_queries = t == 0 and run["param.name"] == "mup" and run["param.without"] != "query_init"
        sizes = {
            "embedding_abs": m ** (-0.5 if off == "embedding_std" else 0.0),
            "logits_abs": m**logits,
            "train_loss": 4.0 - learnt + (0.2 if sick else -0.2) * np.log(m),
        }
        for block in range(run["model.depth"]):
            sizes |= {f"block{block}/{branch}_abs": (1 + t) * m**hidden for branch in ("attention", "mlp")}
            sizes[f"block{block}/output_abs"] = (1 + t) * m**hidden * deep ** (0.0 if multiplied else 0.5 + learnt / 2)
            sizes[f"block{block}/attention_logit_max"] = 0.0 if zero_queries else m**query
        rows.append({"step": t + 1} | {name: value * jitter(run) for name, value in sizes.items()})
    return [{"step": 0}, *rows]


def check(folder: Path, *, theory: bool) -> list[Claim]:
    every = coord_cells.coord_check("cpu")
    small = {"model.width": 64, "model.depth": 4, "seed": 1}
    cells = [cell for cell in every if all(int(str(cell[key])) <= most for key, most in small.items())]
    curve = partial(coordinates, theory=theory)
    runs = simulate_runs(cells, partial(bowl, best=1e-2), curve=curve, runs_dir=folder / "runs")
    return coord_check.draw(runs, folder)


def test_the_coordinate_check_finds_theory(tmp_path: Path) -> None:
    claims = check(tmp_path, theory=True)
    assert verdicts(claims) == ["reproduced"] * len(claims)
    names = {f"{name}.{kind}" for name in ("coordinates", "rules", "depth") for kind in ("png", "svg", "csv")}
    assert {path.name for path in tmp_path.iterdir()} == names | {"runs"}


@pytest.mark.usefixtures("no_pictures")
def test_the_coordinate_check_finds_the_opposite(tmp_path: Path) -> None:
    claims = check(tmp_path, theory=False)
    assert verdicts(claims) == ["not reproduced"] * len(claims)


def test_every_rule_of_the_width_has_a_control_and_runs() -> None:
    """A control without runs, or a rule without a control, would leave a rule untested."""
    off = {str(cell["param.without"]) for cell in coord_cells.coord_check("cpu") if "param.without" in cell} - {"none"}
    assert {control.arm.rpartition(" ")[2] for control in CONTROLS} == off - {"residual_multiplier"}


# --- transfer --------------------------------------------------------------------------------------------


def sweep_loss(run: dict[str, Any], *, theory: bool, base: float = 2**-4.6) -> float:
    """A best rate that falls with the width under the standard parametrisation, and with the depth but under CompleteP;
    against theory it falls only where it should not."""
    m, deep = run["model.width"] / run["param.base_width"], run["model.depth"] / run["param.base_depth"]
    standard, completep = run["param.name"] == "standard", run["param.name"] == "completep"
    if theory:
        return bowl(run, best=base * m ** (-0.8 * standard) * deep ** (-0.8 * (not completep)))
    return bowl(run, best=2**-6 * m ** (-0.4 * (not standard)) * deep ** (-0.4 if completep else 0.2))


def test_a_transfer_that_follows_theory(tmp_path: Path) -> None:
    runs = simulate_runs(transfer_cells.transfer("cpu"), partial(sweep_loss, theory=True), noise=0.002)
    assert verdicts(transfer.draw(runs, tmp_path)) == ["reproduced"] * 8
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in ("width", "depth") for kind in ("png", "svg", "csv")
    }


@pytest.mark.usefixtures("no_pictures")
def test_a_transfer_against_theory(tmp_path: Path) -> None:
    runs = simulate_runs(transfer_cells.transfer("cpu"), partial(sweep_loss, theory=False), noise=0.002)
    assert verdicts(transfer.draw(runs, tmp_path)) == ["not reproduced"] * 8


@pytest.mark.usefixtures("no_pictures")
def test_an_optimum_at_an_end_is_never_quoted(tmp_path: Path) -> None:
    runs = simulate_runs(transfer_cells.transfer("cpu"), partial(sweep_loss, theory=True, base=2.0**-2))
    claims = transfer.draw(runs, tmp_path)
    assert [claim.measured.estimate for claim in claims] == [None] * 8
    assert all("at an end" in str(claim.measured.reason) for claim in claims)
    drawn = pl.read_csv(tmp_path / "width.csv")
    assert drawn.filter(pl.col("at_edge"))["lr_opt"].null_count() == len(drawn.filter(pl.col("at_edge"))) > 0


def test_the_penalty_is_the_rise_of_the_bowl() -> None:
    """A bowl of one nat per decade squared: the base's rate is log10(8^0.8) decades off at 8 times the width."""
    runs = simulate_runs(
        [cell for cell in transfer_cells.transfer("cpu") if cell["model.depth"] == 2],
        partial(sweep_loss, theory=True),
        noise=0.0,
    )
    penalty = transfer_penalty(read_sweep(runs, pl.col("param.name"), size=pl.col("model.width")))
    widest = penalty.filter(pl.col("size") == 256).group_by("arm").agg(pl.col("penalty").mean())
    found = dict(widest.iter_rows())
    assert found["standard"] == pytest.approx(log10(8**0.8) ** 2, rel=1e-6)
    assert found["mup"] == pytest.approx(0.0, abs=1e-9)


# --- warning signs ---------------------------------------------------------------------------------------


def symptoms(run: dict[str, Any], *, visible: bool) -> list[Row]:
    """The symptoms' powers of the width in the sick runs, or none of them."""
    if run["probe.every"] is None:
        return [{"step": 0}]
    m, off = run["model.width"] / run["param.base_width"], run["param.without"] if visible else "none"
    raised = visible and run["optim.eps"] > 1e-8 and run["param.name"] == "mup"
    falling = visible and run["optim.decay"] == "coupled" and run["optim.weight_decay"] < 10
    rows = []
    for step in (1, 2):
        row = {
            "logits_abs": m ** float(off == "readout_lr"),
            "hidden/update_rms": m ** (0.0 if off == "hidden_lr" else -1.0),
            "hidden/parameter_rms": 1.0 if step == 1 else m ** (0.5 if falling else 0.0),
        }
        for block in range(run["model.depth"]):
            row[f"block{block}/attention_logit_max"] = m ** (0.5 if off == "attention_scale" else 0.0)
            row |= {f"block{block}/{name}/adam_rms": m ** (-0.5 if raised else 0.0) for name in ("value", "up")}
        noisy = {name: value * (jitter(run) if step == 2 else 1.0) for name, value in row.items()}
        rows.append({"step": step} | noisy)
    return rows


@pytest.mark.parametrize(("visible", "verdict"), [(True, "reproduced"), (False, "not reproduced")])
def test_a_sign_is_visible_where_the_failure_shows(tmp_path: Path, visible: bool, verdict: str) -> None:
    def loss(run: dict[str, Any]) -> float:
        longer = run["n_steps"] / 25
        return min(bowl(run, best=2**-4.5 * longer ** (-0.4 if visible else 0.0)), AT_INIT - 1)

    cells = sign_cells.warning_signs("cpu")
    runs = simulate_runs(cells, loss, curve=partial(symptoms, visible=visible), runs_dir=tmp_path / "runs", noise=0.001)
    claims = warning_signs.draw(runs, tmp_path)
    assert len(claims) == len(SIGNS) + 1
    assert verdicts(claims) == [verdict] * len(claims), [(claim.sentence, claim.measured.interval) for claim in claims]
    assert (tmp_path / "signs.csv").exists()

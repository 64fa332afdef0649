"""Studies over learning rates: runs that behave as the paper says, and runs that do not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis.claims.claim import Claim
from analysis.figures.small_proxies import mup, steps_and_batch, warmup, weight_decay, width_depth, z_loss
from sweeps.cells.grid import GridPoint
from sweeps.studies.small_proxies import mup as mup_study
from sweeps.studies.small_proxies import qk_norm as qk_norm_study
from sweeps.studies.small_proxies import steps_and_batch as steps_and_batch_study
from sweeps.studies.small_proxies import warmup as warmup_study
from sweeps.studies.small_proxies import weight_decay as weight_decay_study
from sweeps.studies.small_proxies import width_depth as width_depth_study
from sweeps.studies.small_proxies import z_loss as z_loss_study
from tests.analysis.figures.simulate_runs import AT_INIT, NOT_REPRODUCED, REPRODUCED, Row, bowl, simulate_runs, verdicts

pytestmark = pytest.mark.usefixtures("no_pictures")


def decades(run: dict[str, Any]) -> float:
    """Of parameters, above the smallest size of the `cpu` profile."""
    return math.log10(run["n_params_non_embedding"] / (12 * 2 * 32**2))


# --- cells -----------------------------------------------------------------------------------------------


def test_studies_share_the_runs_of_the_recipe() -> None:
    """What is finished for one study is finished for the others: the recipe's arm is the same cells everywhere."""

    def smallest(cells: list[GridPoint]) -> set[str]:
        return {
            str(sorted(map(str, cell.items())))
            for cell in cells
            if (cell["model.width"], cell["model.depth"]) == (32, 2)
        }

    of_recipe = smallest([cell for cell in qk_norm_study.cells("cpu") if cell["model.qk_norm"] == "head"])
    assert len(of_recipe) == 18
    for cells in (
        warmup_study.cells("cpu"),
        weight_decay_study.cells("cpu"),
        width_depth_study.cells("cpu"),
        steps_and_batch_study.cells("cpu"),
    ):
        assert of_recipe <= smallest(cells)
    for part, shared in ((z_loss_study.cells("cpu"), 12), (mup_study.cells("cpu"), 15)):
        assert len(of_recipe & smallest(part)) == shared  # without the lowest rates


def test_batch_and_steps_keep_the_tokens() -> None:
    tokens = {(cell["train.batch_size"], cell["train.duration"]) for cell in steps_and_batch_study.cells("cpu")}
    same = [pair for pair in tokens if pair[0] * int(str(pair[1]).removesuffix("steps")) == 16 * 250]  # type: ignore[operator]  # numbers
    assert len(tokens) == 5
    assert len(same) == 3


# --- warm-up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("helps", "expected"), [(1.0, [REPRODUCED] * 5), (-1.0, [NOT_REPRODUCED] * 5)])
def test_warmup(helps: float, expected: list[str], tmp_path: Path) -> None:
    """High rates cost more, and more so in large models, the shorter (or the longer) the warm-up."""

    def loss(run: dict[str, Any]) -> float:
        short = math.log(25 / float(run["schedule.warmup"].removesuffix("%")))
        cost = short if helps > 0 else math.log(25) - short
        above = max(0.0, math.log10(run["optim.lr"] / 1e-2))
        return bowl(run) + 0.1 * (1 + decades(run)) * cost * above

    claims = warmup.draw(simulate_runs(warmup_study.cells("cpu"), loss), tmp_path)
    assert verdicts(claims) == expected
    assert len(pl.read_csv(tmp_path / "sensitivity.csv")) == claims[0].measured.n_runs == 180


# --- weight decay ----------------------------------------------------------------------------------------


def weight_decay_claims(tmp_path: Path, *, coupled: float, moved: float) -> list[Claim]:
    def loss(run: dict[str, Any]) -> float:
        is_coupled = run["optim.decay"] == "coupled"
        stronger = not is_coupled and run["optim.weight_decay"] > 0.02
        return bowl(run, best=1e-2 * 10 ** (moved * stronger), width=coupled if is_coupled else 1.0)

    return weight_decay.draw(simulate_runs(weight_decay_study.cells("cpu"), loss), tmp_path)


def test_weight_decay(tmp_path: Path) -> None:
    assert verdicts(weight_decay_claims(tmp_path, coupled=1.5, moved=0.2)) == [REPRODUCED] * 3
    assert verdicts(weight_decay_claims(tmp_path, coupled=0.5, moved=-0.2)) == [NOT_REPRODUCED] * 3


def test_a_coupled_optimum_that_is_shifted_is_judged_in_the_window_that_suits_it(tmp_path: Path) -> None:
    """A curve of the same form, half a decade to the left, is as sensitive in the lower window as the others in
    theirs: a single window would call it more sensitive."""

    def loss(run: dict[str, Any]) -> float:
        shifted = run["optim.decay"] == "coupled"
        return bowl(run, best=math.sqrt(1e-2 * 3e-2) / (3.2 if shifted else 1.0))

    runs = simulate_runs(weight_decay_study.cells("cpu"), loss)
    claim = weight_decay.draw(runs, tmp_path)[0]
    assert claim.measured.estimate == pytest.approx(0, abs=0.03)
    single = weight_decay.draw(runs.filter(pl.col("optim.lr") > 5e-4), tmp_path)[0]
    assert single.measured.estimate is not None
    assert single.measured.estimate > 0.1


# --- width and depth -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steep", "expected"), [("model.depth", REPRODUCED), ("model.width", NOT_REPRODUCED)])
def test_width_depth(steep: str, expected: str, tmp_path: Path) -> None:
    """Sensitivity rises with depth alone (or with width alone); all best losses are one power law of parameters."""

    def loss(run: dict[str, Any]) -> float:
        growth = math.log2(run[steep] / {"model.depth": 2, "model.width": 32}[steep])
        return bowl(run, width=1 + growth, lowest=2 * 10 ** (-0.1 * decades(run)))

    runs = simulate_runs(width_depth_study.cells("cpu"), loss)
    claims = width_depth.draw(runs, tmp_path)
    assert claims[0].verdict == expected
    # By width and by depth to one size, and by both interpolated to it.
    assert [claim.measured.estimate for claim in claims[2:]] == pytest.approx([0, 0], abs=0.02)


def test_depth_may_lead_and_both_may_lead(tmp_path: Path) -> None:
    def loss(run: dict[str, Any]) -> float:
        alone = {(64, 2): 0.1, (32, 8): 0.05}.get((run["model.width"], run["model.depth"]), 0.0)
        return bowl(run, lowest=2 * 10 ** (-0.1 * decades(run)) + alone)

    claims = width_depth.draw(simulate_runs(width_depth_study.cells("cpu"), loss), tmp_path)
    assert [claim.verdict for claim in claims[2:]] == [REPRODUCED] * 2


# --- muP -------------------------------------------------------------------------------------------------


def mup_claims(tmp_path: Path, *, shift: float, gain: float, without_norm: float) -> list[Claim]:
    """The best rate in proportion to width^-shift under muP, which lowers loss and sensitivity by a gain."""

    def loss(run: dict[str, Any]) -> float:
        standard = run["param.name"] == "standard"
        wider = run["model.width"] / 32
        gained = 0.0 if standard or wider == 1 else gain
        broken = without_norm if run["model.qk_norm"] == "none" else 0.0
        best = 2e-2 * wider ** -(1.0 if standard else shift)
        # A curve whose optimum lies nearer to the window's end would be more sensitive there.
        width = 0.4 if standard and wider > 1 else 1 - gained
        return bowl(run, best=best, width=width, lowest=1.8 - gained) + broken

    return mup.draw(simulate_runs(mup_study.cells("cpu"), loss), tmp_path)


def test_mup(tmp_path: Path) -> None:
    claims = mup_claims(tmp_path, shift=0.0, gain=0.0, without_norm=1.0)
    assert verdicts(claims) == [REPRODUCED] * 11
    assert claims[0].measured.estimate == pytest.approx(-math.log2(3), abs=0.1)
    drawn = pl.read_csv(tmp_path / "best_lr.csv").filter(pl.col("arm").is_in(mup.ARMS))
    assert drawn.group_by("arm").len()["len"].to_list() == [6] * 4  # at the base width too


def test_mup_that_does_not_transfer_and_helps(tmp_path: Path) -> None:
    claims = mup_claims(tmp_path, shift=1.0, gain=0.8, without_norm=0.0)
    assert verdicts(claims) == [REPRODUCED] + [NOT_REPRODUCED] * 10


def test_an_optimum_at_an_edge_is_not_quoted(tmp_path: Path) -> None:
    claims = mup_claims(tmp_path, shift=-3.0, gain=0.0, without_norm=1.0)
    assert claims[1].measured.estimate is None
    assert claims[1].measured.reason == "the best rate lies at an edge of the grid"
    assert pl.read_csv(tmp_path / "best_lr.csv").filter(pl.col("at_edge"))["lr_opt"].null_count() == 9


def test_no_optimum_within_the_grid(tmp_path: Path) -> None:
    """As in the few steps of `smoke`: nothing to say of the best rate, and something of the rest."""
    claims = mup.draw(simulate_runs(mup_study.cells("cpu"), lambda run: bowl(run, best=1.0)), tmp_path)
    assert [claim.measured.estimate is None for claim in claims] == [True] * 4 + [False] * 7


# --- steps and batch -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_steps", "of_batch", "expected"),
    [
        (0.0, 0.0, [REPRODUCED] * 4),
        (0.5, 0.0, [NOT_REPRODUCED] * 4),  # a batch of half the size takes twice the steps
        (0.5, 0.5, [NOT_REPRODUCED] * 2 + [REPRODUCED] * 2),
    ],
)
def test_steps_and_batch(of_steps: float, of_batch: float, expected: list[str], tmp_path: Path) -> None:
    def loss(run: dict[str, Any]) -> float:
        steps, batch = math.log2(run["n_steps"] / 250), math.log2(run["train.batch_size"] / 16)
        return bowl(run, width=1 + of_steps * steps + of_batch * batch)

    claims = steps_and_batch.draw(simulate_runs(steps_and_batch_study.cells("cpu"), loss), tmp_path)
    assert verdicts(claims) == expected


# --- z-loss ----------------------------------------------------------------------------------------------


def z_loss_claims(tmp_path: Path, *, sign: float) -> list[Claim]:
    """log Z that drifts away in the second half, and high rates that fail, unless z-loss or decay are on."""

    def unstable(run: dict[str, Any]) -> float:
        return float(run["optim.z_loss"] == 0 and run["optim.weight_decay"] == 0)

    def loss(run: dict[str, Any]) -> float:
        diverges = sign > 0 and unstable(run) and run["optim.lr"] > 0.2
        return AT_INIT + 1 if diverges else bowl(run, width=1.0 if sign > 0 else 1.0 - 0.2 * unstable(run))

    def curve(run: dict[str, Any]) -> list[Row]:
        rows = []
        for step in range(1, run["n_steps"], run["n_steps"] // 25):
            late = max(0.0, step / run["n_steps"] - 0.5)
            level = (6.0 if sign > 0 else 4.0) if run["optim.z_loss"] == 0 else 5.0
            log_z = level - sign * 40 * late * unstable(run) + 0.1 * run["seed"]
            rows.append({"step": step, "train_loss": 2.0, "log_z_mean": log_z, "logit_mean": log_z - 10})
        return rows

    runs = simulate_runs(z_loss_study.cells("cpu"), loss, curve=curve, runs_dir=tmp_path / "runs")
    return z_loss.draw(runs, tmp_path)


def test_z_loss(tmp_path: Path) -> None:
    assert verdicts(z_loss_claims(tmp_path, sign=1.0)) == [REPRODUCED] * 6
    assert pl.read_csv(tmp_path / "log_z.csv").group_by("arm").len()["len"].n_unique() == 1


def test_z_loss_where_nothing_drifts_down(tmp_path: Path) -> None:
    """The first claim is of distance from 0, whatever the sign: log Z that drifts up is far from it."""
    found = verdicts(z_loss_claims(tmp_path, sign=-1.0))
    assert found == [REPRODUCED] + [NOT_REPRODUCED] * 5

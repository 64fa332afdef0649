"""The known floor: verdicts follow the records, whichever way they point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.figures.laws.known_floor import draw, known_truth, largest_model_slope
from conf.compose import compose
from sweeps.cells.grid import GridPoint, overrides
from sweeps.studies.laws.known_floor import cells as known_floor_cells
from train.record.manifest import Profile

FLOOR, ALPHA, BETA = 0.636, 0.5, 1 / 3


def runs(
    *, E: float = FLOOR, alpha: float = ALPHA, beta: float = BETA, noise: float = 5e-4, **columns: Any
) -> pl.DataFrame:
    """Records of 8 sizes times 4 budgets that follow a law, of a source whose floor is `FLOOR` and whose a is 1/2."""
    sizes, budgets = np.meshgrid(12.0 * np.array([4, 6, 8, 12, 16, 24, 32, 48]) ** 2, np.geomspace(1.6e5, 1.05e7, 4))
    N, D = sizes.ravel(), budgets.ravel()
    loss = E + 0.05 * (N / 1e3) ** -alpha + 0.04 * (D / 1e6) ** -beta
    loss *= np.exp(noise * np.random.default_rng(0).standard_normal(len(loss)))
    table = {"run_id": [f"{k:08d}" for k in range(len(N))], "state": ["finished"] * len(N), "seed": [0] * len(N)}
    known = {"data_entropy": [FLOOR] * len(N), "data.exponent": [0.5] * len(N)}
    return pl.DataFrame(table | known | {"n_params_non_embedding": N, "n_tokens": D, "loss": loss} | columns)


def verdicts(table: pl.DataFrame, out: Path) -> list[str]:
    return [claim.verdict for claim in draw(table, out)]


def test_runs_that_follow_theory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = draw(runs(), tmp_path)
    assert [claim.verdict for claim in claims][:5] == ["reproduced"] * 5
    assert [claim.accept.truth for claim in claims[:3]] == [FLOOR, 0.5, pytest.approx(1 / 3)]
    assert all(claim.measured.n_runs == 32 for claim in claims)
    assert "Known: E 0.6360, alpha 0.5, beta 0.333" in capsys.readouterr().out
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"fit.json", "fit_known_floor.json", "known_floor.png", "known_floor.svg", "known_floor.csv"}
    drawn = pl.read_csv(tmp_path / "known_floor.csv")
    assert (drawn["kind"] == "run").sum() == 32
    assert (drawn["kind"] == "bootstrap").sum() == json.loads((tmp_path / "fit.json").read_text())["bootstrap"]["n"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".json"}
    draw(runs(), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(("changes", "wrong"), [({"E": 0.66}, 0), ({"alpha": 0.9}, 1), ({"beta": 0.6}, 2)])
def test_a_constant_that_is_not_the_theorys_is_not_reproduced(
    tmp_path: Path, changes: dict[str, float], wrong: int
) -> None:
    found = verdicts(runs(**changes), tmp_path)[:3]
    assert found[wrong] == "not reproduced"
    assert [verdict for k, verdict in enumerate(found) if k != wrong] == ["reproduced"] * 2


def test_noise_makes_no_claim_pass(tmp_path: Path) -> None:
    assert "reproduced" not in verdicts(runs(noise=0.03), tmp_path)[:3]


def test_too_few_runs_are_drawn_and_judged_inconclusive(tmp_path: Path) -> None:
    claims = draw(runs()[:5], tmp_path)
    assert [claim.verdict for claim in claims] == ["inconclusive"] * 6
    assert "cannot determine the 5 constants" in (claims[0].measured.reason or "")
    assert (tmp_path / "known_floor.png").exists()
    assert not (tmp_path / "fit.json").exists()


def test_runs_that_broke_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = draw(runs(state=["diverged", *["finished"] * 31]), tmp_path)
    assert claims[0].measured.n_runs == 31
    assert "1 run of 32 left out" in capsys.readouterr().out
    nothing = draw(runs(state=["failed"] * 32), tmp_path)
    assert [claim.measured.reason for claim in nothing] == ["no run has finished"] * 6


def test_the_slope_of_the_largest_model() -> None:
    points = pl.DataFrame({"n_params": [1.0] * 2 + [9.0] * 4, "n_tokens": [1e5, 1e6, 1e5, 1e6, 1e7, 1e8]})
    exact = points.with_columns(excess=0.1 * pl.col("n_tokens") ** -0.4)
    slope = largest_model_slope(exact)
    assert slope is not None
    assert slope[0] == pytest.approx(0.4)
    assert slope[1] == pytest.approx((0.4, 0.4), abs=1e-9)
    bumpy = largest_model_slope(exact.with_columns(excess=pl.col("excess") * pl.Series([1.0, 1.0, 1.1, 0.9, 1.1, 0.9])))
    assert bumpy is not None
    # scipy.stats.linregress: slope -0.41743, standard error 0.02465; t(2) at 0.975 is 4.3027.
    assert bumpy[0] == pytest.approx(0.41743, rel=1e-4)
    assert bumpy[1] == pytest.approx((0.41743 - 4.3027 * 0.02465, 0.41743 + 4.3027 * 0.02465), rel=1e-3)
    assert largest_model_slope(exact[:4]) is None  # two points have no interval
    below = exact.with_columns(excess=pl.Series([1.0, 1.0, 0.1, 0.05, -0.01, -0.02]))
    assert largest_model_slope(below) is None


def test_the_truth_is_that_of_the_source() -> None:
    truth = known_truth(runs())
    assert truth == (FLOOR, 0.5, pytest.approx(1 / 3))


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_no_pair_is_seen_twice_and_every_validation_window_is_used(profile: Profile) -> None:
    cells = known_floor_cells(profile)
    longest = max(cells, key=pairs)
    config = compose(overrides(longest))
    n_windows = config.data.n_tokens // config.data.window_tokens
    n_val = round(config.data.val_fraction * n_windows)
    assert n_val == config.eval.sequences
    assert pairs(longest) == n_windows - n_val
    assert len({(cell["model.width"], pairs(cell), cell["seed"]) for cell in cells}) == len(cells)


def pairs(cell: GridPoint) -> int:
    return int(str(cell["train.duration"]).removesuffix("steps")) * int(cell["train.batch_size"] or 0)

"""What the bootstrap draws: every weighting is a resample of the points, by rows, clusters, strata or blocks."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitter.resample import blocks, codes, draw_clusters, draw_rows, draw_within
from tests.analysis.helpers import fit

CURVE = codes(np.repeat(["b", "a", "c"], [40, 25, 3]))


def test_rows_are_drawn_with_replacement() -> None:
    weights = draw_rows(30, 4000, seed=1)
    assert weights.shape == (4000, 30)
    assert (weights.sum(1) == 30).all()
    assert weights.mean() == 1
    # A point is left out by a resample with probability (1 - 1/30)^30; a permutation would leave out none.
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.01)
    assert (draw_rows(30, 5, seed=1) == draw_rows(30, 5, seed=1)).all()
    assert (draw_rows(30, 5, seed=1) != draw_rows(30, 5, seed=2)).any()


def test_points_of_a_cluster_come_and_go_together() -> None:
    weights = draw_clusters(CURVE, 200, seed=0)
    for curve in range(3):
        of_curve = weights[:, curve == CURVE]
        assert (of_curve == of_curve[:, :1]).all()
    assert not (draw_rows(len(CURVE), 200, 0)[:, CURVE == 0] == draw_rows(len(CURVE), 200, 0)[:, [0]]).all()


def test_a_stratum_keeps_its_size() -> None:
    weights = draw_within(CURVE, 200, seed=0)
    for curve, size in enumerate((25, 40, 3)):
        assert (weights[:, curve == CURVE].sum(1) == size).all()
    assert (draw_rows(len(CURVE), 200, 0)[:, CURVE == 0].sum(1) != 25).any()
    # strata are drawn independently
    a, b = weights[:, CURVE == 0][:, 0], weights[:, CURVE == 1][:, 0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.25


def test_blocks_are_consecutive_points_of_one_curve() -> None:
    rng = np.random.default_rng(0)
    step = rng.permutation(len(CURVE)).astype(float)  # rows come in any order
    block = blocks(CURVE, step)
    assert len(np.unique(block)) == sum(round(n ** (2 / 3)) for n in np.bincount(CURVE))
    for one in np.unique(block):
        rows = np.flatnonzero(block == one)
        assert len(np.unique(CURVE[rows])) == 1
        own = np.sort(step[CURVE[rows[0]] == CURVE])
        at = np.searchsorted(own, np.sort(step[rows]))
        assert (np.diff(at) == 1).all()


def test_points_that_err_together_need_clusters() -> None:
    """Eight points of each curve share one error: drawn by rows, they look like eight times as much evidence."""
    rng = np.random.default_rng(3)
    x = np.tile(np.geomspace(1e6, 1e9, 8), 30)
    curve = np.repeat(np.arange(30), 8)
    points = {"x_": x, "curve": curve, "loss": 30 * x**-0.2 * np.exp(0.02 * rng.standard_normal(30)[curve])}
    rows, curves = (
        fit(
            "power_law_no_offset", points, x="x_", fixed={"alpha": 0.2}, objective="lsq_log", bootstrap=300,
            cluster=cluster, profiles=("A",),
        )
        for cluster in (None, "curve")
    )  # fmt: skip
    assert curves.bootstrap["unit"] == "curves"
    true = 30 * 0.02 / np.sqrt(30)
    low, high = zip(*(result.profiles["A"]["ci95"] for result in (rows, curves)), strict=True)
    by_rows, by_curves = (
        [result.params["A"].std, result.standard_errors["sandwich"]["A"], (high[k] - low[k]) / 3.92]
        for k, result in enumerate((rows, curves))
    )
    assert by_curves == pytest.approx([true] * 3, rel=0.3)
    assert max(by_rows) < 0.6 * min(by_curves)

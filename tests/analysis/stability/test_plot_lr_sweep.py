"""Panels of sweeps: which arms a panel of intervals names, and whose runs are marked as diverged."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from analysis.stability.plot_lr_sweep import draw_arm_intervals, draw_curve


def test_an_arm_without_a_number_is_not_drawn() -> None:
    rows = [("a", 8.0, 1.0), ("a", 8.0, 4.0), ("a", 16.0, 2.0), ("b", 8.0, None)]
    axes = Figure().subplots()
    table = pl.DataFrame(rows, ["arm", "size", "value"], orient="row")
    draw_arm_intervals(axes, table, {"a": "the first", "b": "the second"}, "value", log=True)
    assert axes.get_legend_handles_labels()[1] == ["the first"]
    assert axes.containers[0][0].get_ydata() == pytest.approx([2.0, 2.0])  # geometric: 1 and 4 are apart by their ratio


@pytest.mark.parametrize(("diverged", "crosses"), [((False, False, False), []), ((False, True, False), [0.1])])
def test_a_cross_marks_a_rate_at_which_a_seed_diverged(diverged: tuple[bool, ...], crosses: list[float]) -> None:
    runs = pl.DataFrame({"lr": [0.1, 0.1, 0.2], "loss": [2.0, 4.0, 1.0], "diverged": diverged})
    axes = Figure().subplots()
    draw_curve(axes, runs, "loss", colour="black")
    curve, marks = axes.lines
    assert np.asarray(curve.get_ydata()).tolist() == [3.0, 1.0]
    assert np.asarray(marks.get_xdata()).tolist() == crosses

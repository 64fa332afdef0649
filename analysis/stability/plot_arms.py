"""Arms of a comparison side by side: numbers against the learning rate, and one number of each arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
from matplotlib.axes import Axes

from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.stability.plot_lr_sweep import (
    draw_curve,
    draw_intervals,
    geometric_mean_over_seeds,
    loss_axis,
    mean_over_seeds,
)


def arm_colours(arms: Mapping[str, str]) -> dict[str, str]:
    """A colour for each arm, in their order."""
    return {arm: style.ARMS[k % len(style.ARMS)] for k, arm in enumerate(arms)}


def draw_arms(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], x: str, value: str, **how: Any) -> None:
    """`analysis.drawing.lines.draw_over_seeds` of each arm that the table has."""
    for arm, colour in arm_colours(arms).items():
        rows = table.filter(pl.col("arm") == arm)
        if len(rows):
            draw_over_seeds(axes, rows, x, value, colour=colour, label=arms[arm].replace("\n", " "), **how)


def draw_over_steps(
    row: Iterable[Axes], table: pl.DataFrame, arms: Mapping[str, str], panels: Mapping[str, str]
) -> None:
    """Columns of a table over the steps for each arm, one with its label in each panel; the first has the legend."""
    for axes, (value, label) in zip(row, panels.items(), strict=True):
        draw_arms(axes, table, arms, "step", value, line="-", log=False)
        axes.set(xlabel="step", ylabel=label)
        if value == next(iter(panels)):
            axes.legend()


def draw_against_lr(axes: Axes, sweep: pl.DataFrame, arms: Mapping[str, str], value: str, *, log: bool = False) -> None:
    """A number of each run against its learning rate for each arm: the mean over seeds (on a logarithmic axis that of
    logarithms), and a band from the lowest to the highest; a cross where a seed diverged."""
    for arm, colour in arm_colours(arms).items():
        runs = sweep.filter(pl.col("arm") == arm)
        draw_curve(axes, runs, value, colour=colour, label=arms[arm], log=log)
    axes.set(xscale="log", yscale="log" if log else "linear", xlabel="learning rate")


def draw_losses(axes: Axes, sweep: pl.DataFrame, arms: Mapping[str, str]) -> None:
    """The loss of each arm against the learning rate, with a legend."""
    draw_against_lr(axes, sweep, arms, "loss")
    loss_axis(axes, sweep)
    axes.legend()


def draw_estimates(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], value: str, *, log: bool = False) -> None:
    """One number for each arm: the mean over seeds with its 95 % interval, and every seed as a dot."""
    means = (geometric_mean_over_seeds if log else mean_over_seeds)(table, value, ("arm",))
    for k, (arm, colour) in enumerate(arm_colours(arms).items()):
        mean = means.filter(pl.col("arm") == arm)
        draw_intervals(axes, [k], mean, fmt="o", color=colour, capsize=3)
        seeds = table.filter(pl.col("arm") == arm)[value]
        axes.plot([k + 0.18] * len(seeds), seeds, ".", color=colour, alpha=0.5, markersize=4)
    axes.set_xticks(range(len(arms)), list(arms.values()))
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.grid(visible=False, axis="x")

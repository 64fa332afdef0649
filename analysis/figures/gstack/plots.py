"""What the figures of growth share: courses over FLOPs, speed-ups and their bounds, and one number of each arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis.claims.sample import over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.growth.speed_up import SCRATCH
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.lineage import courses
from conf.command_line import SI

FLOPS = "training FLOPs, those of the base included"
LOSS = "validation loss (nats per token)"
SCRATCH_COLOUR = "#000000"
UPWARDS = {"at least": "^", "at most": "v"}
SIDEWAYS = {"at least": ">", "at most": "<"}
MEASURED = pl.col("bound").is_null()


def courses_of(traced: pl.DataFrame, runs: pl.DataFrame, *names: str) -> pl.DataFrame:
    """`analysis.tables.lineage.courses` of some runs, with columns of theirs such as `arm`."""
    named = runs.select("run_id", *names)
    return courses(traced, runs["run_id"]).join(named, on="run_id", how="left", maintain_order="left")


def draw_line(
    axes: Axes,
    rows: pl.DataFrame,
    label: str | None,
    colour: Any,
    *,
    x: str = "flops",
    y: str = "val_loss",
    line: str = "-",
    **names: Any,
) -> pl.DataFrame:
    """The mean over seeds and a band from the lowest to the highest; returns the points, with columns of these
    `names`."""
    points = draw_over_seeds(axes, rows, x, y, colour=colour, line=line, label=label, log=False)
    return points.select(*(pl.lit(value).alias(name) for name, value in names.items()), pl.all())


def zero_line(axes: Axes) -> None:
    axes.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)


def draw_courses(axes: Axes, courses: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """Validation loss over cumulative FLOPs for each arm: the mean over seeds, and a band from the lowest to the
    highest; a dot where an arm that has grown begins.

    Args:
        courses: rows of `analysis.tables.lineage.courses` with `arm`.
        arms: arm -> its name in the legend, drawn in this order.
    """
    for arm, name in arms.items():
        part = courses.filter(pl.col("arm") == arm)
        points = draw_line(axes, part, name, colours[arm])
        if arm != SCRATCH:
            axes.plot(points["flops"][:1], points["mean"][:1], "o", color=colours[arm], markersize=4)
    flops_axis(axes)
    axes.set_ylabel(LOSS)


def flops_axis(axes: Axes) -> None:
    axes.set_xlabel(FLOPS)
    axes.xaxis.set_major_formatter(style.count_ticks(SI))


def show_losses(axes: Axes, losses: pl.Series) -> None:
    """Limit an axis to these, e.g. those since growth, and not the first steps from scratch; leave it if there are
    none."""
    shown = losses.drop_nulls().to_numpy()
    if len(shown):
        margin = 0.05 * float(np.ptp(shown)) + 0.01
        axes.set_ylim(shown.min() - margin, shown.max() + margin)


def draw_speed_ups(axes: Axes, gains: pl.DataFrame, x: str, *, fmt: str, colour: str, label: str) -> None:
    """Speed-ups of `analysis.growth.speed_up.speed_ups` over `x`: the mean over seeds with its 95 % interval, or every
    seed where one is only bounded, as a hollow triangle that points to where the truth lies."""
    whole = gains.filter(MEASURED.all().over(x))
    axes.errorbar([], [], [], fmt=fmt, color=colour, capsize=3, label=label)
    if len(whole):
        points = mean_over_seeds(whole, "speedup", (x,))
        draw_intervals(axes, points[x], points, fmt=fmt, color=colour, capsize=3)
    for at, value, bound in gains.filter(~MEASURED.all().over(x)).select(x, "speedup", "bound").iter_rows():
        marker, filling = (".", colour) if bound is None else (UPWARDS[bound], "white")
        axes.plot([at], [value], marker, color=colour, mfc=filling)


def name_bounds(axes: Axes, bounds: pl.Series) -> None:
    """Entries of the legend for the triangles of those bounds that there are."""
    for bound in bounds.drop_nulls().unique().sort():
        # An error bar, or a legend would list it before those of `draw_speed_ups`.
        axes.errorbar([], [], fmt=UPWARDS[bound], color=style.REFERENCE, mfc="white", label=f"{bound} this")


def draw_ranking(
    axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str], value: str
) -> None:
    """One number of each arm, one below the other: the mean over seeds with its 95 % interval, and the seeds, of which
    hollow triangles are only bounds and point to where the truth lies; then there is no mean."""
    for k, arm in enumerate(arms):
        part = table.filter(pl.col("arm") == arm)
        if part.is_empty():
            continue
        seeds = part[value].to_list()
        bounds = part["bound"].to_list() if "bound" in part.columns else [None] * len(part)
        if not any(bounds):
            mean, interval = over_seeds(seeds) if len(seeds) > 1 else (seeds[0], (seeds[0], seeds[0]))
            reach = np.abs(np.array(interval) - mean)[:, None]
            axes.errorbar([mean], [k], xerr=reach, fmt="o", color=colours[arm], capsize=3)
        for x, bound in zip(seeds, bounds, strict=True):
            if bound is None:
                axes.plot([x], [k + 0.22], ".", color=colours[arm], alpha=0.5, markersize=4)
            else:
                axes.plot([x], [k], SIDEWAYS[bound], color=colours[arm], mfc="white")
    axes.set_yticks(range(len(arms)), list(arms.values()))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")

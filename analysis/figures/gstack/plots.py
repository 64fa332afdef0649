"""What the figures of growth share: courses over FLOPs, and one number of each arm with its seeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis import style
from analysis.seeds import over_seeds

FLOPS = "training FLOPs, those of the base included"
LOSS = "validation loss (nats per token)"
SCRATCH_COLOUR = "#000000"


def draw_courses(axes: Axes, courses: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """Validation loss over cumulative FLOPs for each arm: the mean over seeds, and a band from the lowest to the
    highest.

    Args:
        courses: rows of `analysis.growth.courses` with `arm`.
        arms: arm -> its name in the legend, drawn in this order.
    """
    for arm, name in arms.items():
        points = (
            courses.filter((pl.col("arm") == arm) & pl.col("val_loss").is_not_null())
            .group_by("flops")
            .agg(
                pl.col("val_loss").mean().alias("mean"),
                pl.col("val_loss").min().alias("low"),
                pl.col("val_loss").max().alias("high"),
            )
            .sort("flops")
        )
        axes.fill_between(points["flops"], points["low"], points["high"], color=colours[arm], alpha=0.15, linewidth=0)
        axes.plot(points["flops"], points["mean"], color=colours[arm], label=name)
    flops_axis(axes)
    axes.set_ylabel(LOSS)


def flops_axis(axes: Axes) -> None:
    axes.set_xlabel(FLOPS)
    axes.xaxis.set_major_formatter(style.count_ticks())


def show_late(axes: Axes, courses: pl.DataFrame, reference: str, share: float = 0.25) -> None:
    """Limit the losses to those after a share of the reference arm's course, before which a curve falls too steeply to
    tell arms apart."""
    own = courses.filter((pl.col("arm") == reference) & pl.col("val_loss").is_not_null())
    late = own.filter(pl.col("flops") >= share * pl.col("flops").max())
    shown = courses.filter(pl.col("val_loss").is_not_null())["val_loss"]
    low, high = float(shown.min()), float(late["val_loss"].max())  # type: ignore[arg-type]  # polars says Any
    axes.set_ylim(low - 0.04 * (high - low), high)


def draw_ranking(
    axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str], value: str
) -> None:
    """One number of each arm, one below the other: the mean over seeds with its 95 % interval, and the seeds; an arrow
    where a speed-up is only bounded."""
    for k, arm in enumerate(arms):
        own = table.filter(pl.col("arm") == arm)
        if own.is_empty():
            continue
        seeds = own[value].to_numpy()
        mean, interval = over_seeds(list(seeds)) if len(seeds) > 1 else (float(seeds[0]), (seeds[0], seeds[0]))
        reach = np.abs(np.array(interval) - mean)[:, None]
        axes.errorbar([mean], [k], xerr=reach, fmt="o", color=colours[arm], capsize=3)
        bounds = own["bound"] if "bound" in own.columns else [None] * len(own)
        for x, bound in zip(seeds, bounds, strict=True):
            marker = {None: ".", "at least": ">", "at most": "<"}[bound]
            axes.plot([x], [k + 0.22], marker, color=colours[arm], alpha=0.5, markersize=4)
    axes.set_yticks(range(len(arms)), list(arms.values()))
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")

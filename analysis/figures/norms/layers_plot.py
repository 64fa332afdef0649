"""Blocks as the papers draw them: a value against the block for each arm, and angular distances as a heat-map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis import style
from analysis.lr_sweep_plot import geometric_mean_over_seeds, mean_over_seeds


def arm_colours(arms: Mapping[str, str]) -> dict[str, str]:
    """A colour for each arm, in their order."""
    return {arm: style.ARMS[k % len(style.ARMS)] for k, arm in enumerate(arms)}


def draw_profile(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str]) -> None:
    """A positive value against the block, log y, for each arm: the geometric mean over seeds, and a band from the
    lowest to the highest.

    Args:
        table: of `analysis.figures.norms.layers.by_block`, at one step of each run.
        arms: arm -> its name.
    """
    for arm, colour in arm_colours(arms).items():
        points = (
            table.filter(pl.col("arm") == arm)
            .group_by("block")
            .agg(
                pl.col("value").log().mean().exp().alias("mean"),
                pl.col("value").min().alias("low"),
                pl.col("value").max().alias("high"),
            )
            .sort("block")
        )
        axes.fill_between(points["block"], points["low"], points["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(points["block"], points["mean"], "o-", color=colour, mec="white", mew=0.5, label=arms[arm])
    axes.set_yscale("log")
    block_axis(axes, table)


def draw_bars(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """A value of each block as bars, side by side for several arms: the mean over seeds, from lowest to highest."""
    share = 0.8 / len(arms)
    for k, arm in enumerate(arms):
        points = (
            table.filter(pl.col("arm") == arm)
            .group_by("block")
            .agg(
                pl.col("value").mean().alias("mean"),
                pl.col("value").min().alias("low"),
                pl.col("value").max().alias("high"),
            )
            .sort("block")
        )
        axes.bar(
            points["block"] + (k - (len(arms) - 1) / 2) * share,
            points["mean"],
            share,
            yerr=[points["mean"] - points["low"], points["high"] - points["mean"]],
            color=colours[arm],
            error_kw={"linewidth": 0.7, "ecolor": "#404040"},
            label=arms[arm],
        )
    axes.grid(visible=False, axis="x")
    block_axis(axes, table)


def block_axis(axes: Axes, table: pl.DataFrame) -> None:
    """Whole numbers of blocks on the x-axis."""
    depth = int(table["block"].max())  # type: ignore[arg-type]  # polars says Any
    step = 1 if depth <= 8 else 2 if depth <= 16 else 4
    axes.set_xticks([1, *range(step if step > 1 else 2, depth + 1, step)])
    axes.set_xlabel("block")


def draw_angles(axes: Axes, table: pl.DataFrame, *, highest: float) -> Any:
    """Angular distance between the inputs of blocks l and l + n over l (x) and n (y), mean over seeds.

    Args:
        table: of `analysis.figures.norms.layers.angles`, of one arm.
        highest: the end of the colour scale, shared by panels.
    """
    depth = int(table["block"].max())  # type: ignore[arg-type]  # polars says Any
    grid_NL = np.full((depth, depth), np.nan)
    for block, ahead, value in table.group_by("block", "ahead").agg(pl.col("value").mean()).iter_rows():
        grid_NL[ahead - 1, block - 1] = value
    edges = (0.5, depth + 0.5, 0.5, depth + 0.5)
    image = axes.imshow(grid_NL, origin="lower", extent=edges, cmap="viridis", vmin=0, vmax=highest, aspect="equal")
    axes.grid(visible=False)
    block_axis(axes, table)
    axes.set_yticks(axes.get_xticks())
    axes.set_xlabel("block l")
    axes.set_ylabel("blocks ahead n")
    return image


def draw_against_lr(axes: Axes, sweep: pl.DataFrame, arms: Mapping[str, str], value: str) -> None:
    """A number of each run against its learning rate for each arm: the mean over seeds, and a band from the lowest
    to the highest; a cross where a seed diverged."""
    for arm, colour in arm_colours(arms).items():
        points = (
            sweep.filter(pl.col("arm") == arm)
            .group_by("lr")
            .agg(
                pl.col(value).mean().alias("mean"),
                pl.col(value).min().alias("low"),
                pl.col(value).max().alias("high"),
                pl.col("diverged").any(),
            )
            .sort("lr")
        )
        axes.fill_between(points["lr"], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(points["lr"], points["mean"], "o-", color=colour, mec="white", mew=0.5, label=arms[arm])
        ended = points.filter(pl.col("diverged"))
        axes.plot(ended["lr"], ended["mean"], "x", color=colour, markersize=6, mew=1.4)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")


def draw_estimates(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], value: str, *, log: bool = False) -> None:
    """One number for each arm: the mean over seeds with its 95 % interval, and every seed as a dot."""
    means = (geometric_mean_over_seeds if log else mean_over_seeds)(table, value, ("arm",))
    for k, (arm, colour) in enumerate(arm_colours(arms).items()):
        own = means.filter(pl.col("arm") == arm)
        axes.errorbar(
            [k],
            own["mean"],
            yerr=[own["mean"] - own["low"], own["high"] - own["mean"]],
            fmt="o",
            color=colour,
            capsize=3,
        )
        seeds = table.filter(pl.col("arm") == arm)[value]
        axes.plot([k + 0.18] * len(seeds), seeds, ".", color=colour, alpha=0.5, markersize=4)
    axes.set_xticks(range(len(arms)), list(arms.values()))
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.grid(visible=False, axis="x")

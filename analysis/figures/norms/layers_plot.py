"""Blocks as the papers draw them: a value against the block for each arm, and angular distances as a heat-map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis.drawing.lines import over_seeds_at
from analysis.stability.plot_arms import draw_arms


def draw_profile(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str]) -> None:
    """A positive value against the block, log y, for each arm: the geometric mean over seeds, and a band from the
    lowest to the highest.

    Args:
        table: of `analysis.figures.norms.layers.by_block`, at one step of each run.
        arms: arm -> its name.
    """
    draw_arms(axes, table, arms, "block", "value")
    axes.set_yscale("log")
    block_axis(axes, table)


def draw_bars(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[str, str]) -> None:
    """A value of each block as bars, side by side for several arms: the mean over seeds, from lowest to highest."""
    share = 0.8 / len(arms)
    for k, arm in enumerate(arms):
        points = over_seeds_at(table.filter(pl.col("arm") == arm), "block", "value")
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
    axes.set(xlabel="block l", ylabel="blocks ahead n")
    return image

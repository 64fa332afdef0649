"""Lines over seeds."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.axes import Axes


def draw_over_seeds(
    axes: Axes, rows: pl.DataFrame, x: str, value: str, *, colour: Any, line: str = "o-", label: str | None = None
) -> pl.DataFrame:
    """Draw the geometric mean over the rows of each `x`, and a band from the lowest to the highest.

    Returns:
        What was drawn: `x`, `mean`, `low`, `high` and `n_seeds`.
    """
    positive = rows.filter(pl.col(value) > 0)
    points = (
        positive.group_by(x)
        .agg(
            pl.col(value).log().mean().exp().alias("mean"),
            pl.col(value).min().alias("low"),
            pl.col(value).max().alias("high"),
            pl.len().alias("n_seeds"),
        )
        .sort(x)
    )
    axes.fill_between(points[x], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)
    axes.plot(points[x], points["mean"], line, color=colour, mec="white", mew=0.5, label=label)
    return points

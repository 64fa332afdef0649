"""Lines over seeds."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.axes import Axes


def draw_over_seeds(
    axes: Axes,
    rows: pl.DataFrame,
    x: str,
    value: str,
    *,
    colour: Any,
    line: str = "o-",
    label: str | None = None,
    log: bool = True,
) -> pl.DataFrame:
    """Draw the mean over the rows of each `x`, and a band from the lowest to the highest.

    Args:
        log: the mean is that of logarithms, and what is not positive is left out.

    Returns:
        What was drawn: `x`, `mean`, `low`, `high` and `n_seeds`.
    """
    y = pl.col(value)
    points = (
        (rows.filter(y > 0) if log else rows.filter(y.is_not_null()))
        .group_by(x)
        .agg(
            (y.log().mean().exp() if log else y.mean()).alias("mean"),
            y.min().alias("low"),
            y.max().alias("high"),
            pl.len().alias("n_seeds"),
        )
        .sort(x)
    )
    axes.fill_between(points[x], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)
    look: dict[str, Any] = {"mec": "white", "mew": 0.5} if "o" in line else {}
    axes.plot(points[x], points["mean"], line, color=colour, label=label, **look)
    return points

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
    **look: Any,
) -> pl.DataFrame:
    """Draw the mean over the rows of each `x`, and a band from the lowest to the highest.

    Args:
        log: the mean is that of logarithms, and what is not positive is left out.
        look: of the line.

    Returns:
        What was drawn: `x`, `mean`, `low`, `high` and `n_seeds`.
    """
    y = pl.col(value)
    rows = rows.filter(y > 0) if log else rows.filter(y.is_not_null())
    points = over_seeds_at(rows, x, value, pl.len().alias("n_seeds"), log=log)
    axes.fill_between(points[x], points["low"], points["high"], color=colour, alpha=0.15, linewidth=0)
    white: dict[str, Any] = {"mec": "white", "mew": 0.5} if "o" in line else {}
    axes.plot(points[x], points["mean"], line, color=colour, label=label, **white | look)
    return points


def over_seeds_at(rows: pl.DataFrame, x: str, value: str, *more: pl.Expr, log: bool = False) -> pl.DataFrame:
    """`over_seeds_at(rows, "lr", "loss")`: for each `lr`, in their order, the `mean`, `low` and `high` of the loss.

    Args:
        more: what else is asked of the rows of an `x`.
        log: the mean is that of logarithms.
    """
    y = pl.col(value)
    mean = (y.log().mean().exp() if log else y.mean()).alias("mean")
    return rows.group_by(x).agg(mean, y.min().alias("low"), y.max().alias("high"), *more).sort(x)

"""The picture of any fit: measured against predicted loss, and what is left over against the law's first column."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis import style
from analysis.fit import FitResult, predict, read_column
from analysis.report import formula


def plot_fit(result: FitResult, table: Any) -> Figure:
    """A law of one column is drawn over it with its 95 % band; any other as predicted against measured loss.

    Args:
        table: the points that were fitted.
    """
    loss = read_column(table, "loss")
    predicted = predict(result, table)["predicted"]
    name, source = next(iter(result.columns.items()))
    values = read_column(table, source)
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        left, right = figure.subplots(1, 2)
        if len(result.columns) == 1:
            low, high = result.ranges[name]
            grid = np.geomspace(low / 1.2, high * 1.2, 200)
            line = predict(result, {source: grid})
            left.plot(grid, line["predicted"], color=style.ARMS[0], label=formula(result))
            if "lo95" in line:
                left.fill_between(
                    grid, line["lo95"], line["hi95"], color=style.ARMS[0], alpha=0.2, lw=0, label="95% band"
                )
            left.plot(
                values, loss, "o", color=style.REFERENCE, mec="white", mew=0.4, alpha=0.7, zorder=1.5, label="measured"
            )
            style.count_axis(left, values)
            left.set_xlabel(source)
            left.set_ylabel("loss (nats per token)")
            left.legend()
        else:
            reach = np.array([min(loss.min(), predicted.min()) * 0.99, max(loss.max(), predicted.max()) * 1.01])
            left.plot(reach, reach, color=style.REFERENCE, linewidth=0.8)
            left.plot(predicted, loss, "o", color=style.ARMS[0], mec="white", mew=0.4)
            left.set_xlabel("predicted loss (nats per token)")
            left.set_ylabel("measured loss (nats per token)")
            left.set_title(formula(result))
        right.axhline(0, color=style.REFERENCE, linewidth=0.8)
        right.plot(values, 100 * (loss / predicted - 1), "o", color=style.ARMS[0], mec="white", mew=0.4)
        style.count_axis(right, values)
        right.set_xlabel(source)
        right.set_ylabel("measured over predicted loss (%)")
    return figure

"""`plot_fit(fitted)`: the picture of any fit, measured against predicted, and the residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.drawing import style
from analysis.fits.plot_allocation import plot_allocation
from analysis.fits.request import Fitted
from analysis.fits.words import formula
from analysis.fitter.law import FitResult
from analysis.tables.columns import Array, Column, read_column, read_labels

LONGEST_TITLE = 42


def plot_fit(fitted: Fitted) -> Figure:
    """`write_figure(plot_fit(fitted), path)`: a law of one column is drawn over it with its 95 % band, one of a few
    training curves over their steps, any other as predicted against measured; beside it the residuals. Points that the
    linter finds fault with are hollow, held-out ones are red stars. A procedure draws what it went through."""
    result = fitted.result
    if result.law.name in ("isoflop", "envelope"):
        return plot_allocation(result, fitted.points)
    with style.paper():
        if result.points:
            return _plot_steps(result)
        figure = Figure(figsize=style.TWO_PANELS)
        left, right = figure.subplots(1, 2)
        if len(result.columns) == 1:
            _draw_over_column(left, fitted)
        elif result.law.of_curves and len(_curves(fitted)) <= len(style.ARMS):
            _draw_over_steps(left, fitted)
        else:
            _draw_against_predicted(left, fitted)
        _draw_residuals(right, fitted)
    return figure


def _draw_over_column(axes: Axes, fitted: Fitted) -> None:
    result = fitted.result
    source = next(iter(result.columns.values()))
    values = np.concatenate([_column(table, source) for table in _tables(fitted)])
    grid = (
        np.geomspace(values.min() / 1.2, values.max() * 1.2, 200) if values.min() > 0 else np.linspace(*_ends(values))
    )
    line = result.predict({source: grid})
    axes.plot(grid, line["predicted"], color=style.ARMS[0], label=_title(result))
    if "lo95" in line:
        axes.fill_between(grid, line["lo95"], line["hi95"], color=style.ARMS[0], alpha=0.2, lw=0, label="95% band")
    _draw_points(axes, fitted, lambda table: _column(table, source), lambda table: _measured(fitted, table))
    if values.min() > 0:
        style.count_axis(axes, values)
    axes.set_xlabel(source)
    axes.set_ylabel(_label(fitted))
    axes.legend()


def _draw_over_steps(axes: Axes, fitted: Fitted) -> None:
    """Each curve in a colour: its points, and the law as a line through them."""
    for name, colour in zip(_curves(fitted), style.ARMS, strict=False):
        label = name
        for table in _tables(fitted):
            rows = read_labels(table, "curve") == name
            if not rows.any():
                continue
            step, loss, law = (
                values[rows] for values in (_column(table, "step"), _measured(fitted, table), _predicted(fitted, table))
            )
            order = np.argsort(step)
            if table is fitted.held:
                axes.plot(step, loss, "*", color=style.HELD_OUT, mec="white", mew=0.3, ms=5)
            else:
                flagged = fitted.flagged[rows]
                axes.plot(step[~flagged], loss[~flagged], "o", color=colour, alpha=0.5, mew=0, ms=2.5)
                axes.plot(step[flagged], loss[flagged], "o", color=colour, mfc="white", mew=0.7, ms=3.5)
            axes.plot(step[order], law[order], color=colour, label=label)
            label = "_"  # once in the legend
    if fitted.held is not None:
        axes.plot([], [], "*", color=style.HELD_OUT, ms=5, label="held out")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(style.count_ticks())
    axes.set_xlabel("step")
    axes.set_ylabel(_label(fitted))
    axes.set_title(_title(fitted.result))
    axes.legend()


def _draw_against_predicted(axes: Axes, fitted: Fitted) -> None:
    seen = [values for table in _tables(fitted) for values in (_measured(fitted, table), _predicted(fitted, table))]
    low, high = _ends(np.concatenate(seen))
    axes.plot([low, high], [low, high], color=style.REFERENCE, linewidth=0.8)
    _draw_points(axes, fitted, lambda table: _predicted(fitted, table), lambda table: _measured(fitted, table))
    axes.set_xlabel(f"predicted {_label(fitted)}")
    axes.set_ylabel(f"measured {_label(fitted)}")
    axes.set_title(_title(fitted.result))
    if fitted.held is not None or fitted.flagged.any():
        axes.legend()


def _draw_residuals(axes: Axes, fitted: Fitted) -> None:
    """Measured over predicted (or less it, for a target that is not positive) against the law's first column, or the
    step of a curve."""
    result = fitted.result
    positive = all((_measured(fitted, table) > 0).all() for table in _tables(fitted))
    axes.axhline(0, color=style.REFERENCE, linewidth=0.8)

    def error(table: Any) -> Array:
        measured, predicted = _measured(fitted, table), _predicted(fitted, table)
        return 100 * (measured / predicted - 1) if positive else measured - predicted

    source = "step" if result.law.of_curves else next(iter(result.columns.values()))
    values = np.concatenate([_column(table, source) for table in _tables(fitted)])
    _draw_points(axes, fitted, lambda table: _column(table, source), error)
    if values.min() > 0 and values.max() / values.min() > 5:
        style.count_axis(axes, values)
    name = result.law.target.name
    axes.set_xlabel(source)
    axes.set_ylabel(f"measured over predicted {name} (%)" if positive else f"measured less predicted {name}")


def _draw_points(axes: Axes, fitted: Fitted, x: Any, y: Any) -> None:
    at, level = x(fitted.points), y(fitted.points)
    sound, suspect = ~fitted.flagged, fitted.flagged
    size = 4.5 if len(at) < 100 else 2.5
    common: Any = {"color": style.ARMS[0], "markersize": size, "zorder": 3}
    axes.plot(at[sound], level[sound], "o", mec="white", mew=0.4, label="fitted", **common)
    if suspect.any():
        axes.plot(at[suspect], level[suspect], "o", mfc="white", mew=0.9, label="fitted, with a finding", **common)
    if fitted.held is not None:
        at, level = x(fitted.held), y(fitted.held)
        size = 8 if len(at) < 30 else 5
        held: Any = {"color": style.HELD_OUT, "mec": "white", "mew": 0.4, "markersize": size, "zorder": 4}
        axes.plot(at, level, "*", label="held out", **held)


def _tables(fitted: Fitted) -> list[Any]:
    return [table for table in (fitted.points, fitted.held) if table is not None]


def _curves(fitted: Fitted) -> list[str]:
    return list(dict.fromkeys(name for table in _tables(fitted) for name in read_labels(table, "curve")))


def _column(table: Any, name: str) -> Array:
    return read_column(table, Column(name, "", "", "any"))  # the fit has read it, and what it allows is known


def _title(result: FitResult) -> str:
    """The formula where it fits over a panel."""
    text = formula(result)
    return text if len(text) <= LONGEST_TITLE else result.law.name


def _measured(fitted: Fitted, table: Any) -> Array:
    return read_column(table, fitted.result.law.target)


def _predicted(fitted: Fitted, table: Any) -> Array:
    return fitted.result.predict(table)["predicted"]


def _label(fitted: Fitted) -> str:
    target = fitted.result.law.target
    return f"{target.name} ({target.unit})" if target.unit not in ("", "1") else target.name


def _ends(values: Array) -> tuple[float, float]:
    margin = 0.03 * (float(np.ptp(values)) or abs(float(values[0])) or 1.0)
    return float(values.min()) - margin, float(values.max()) + margin


def _plot_steps(result: FitResult) -> Figure:
    """What the last step of a procedure gives, one panel for each quantity, against the procedure's first column."""
    names = list(result.points)
    figure = Figure(figsize=style.TWO_PANELS)
    axes = figure.subplots(1, max(1, min(3, len(names) - 1)), squeeze=False)[0]
    x = np.array(result.points[names[0]])
    for panel, name in zip(axes, names[1:], strict=False):
        y = np.array(result.points[name])
        panel.plot(x, y, "o", color=style.ARMS[0], mec="white", mew=0.4)
        if x.min() > 0 and x.max() / x.min() > 5:
            style.count_axis(panel, x)
        if y.min() > 0 and y.max() / y.min() > 5:
            panel.set_yscale("log")
        panel.set_xlabel(names[0])
        panel.set_ylabel(name)
    return figure

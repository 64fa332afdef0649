"""The picture of any fit: measured against predicted, and what is left over."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.drawing import style
from analysis.fits.plot_allocation import plot_allocation
from analysis.fits.request import Done
from analysis.fits.words import formula
from analysis.fitter.law import Law, Procedure
from analysis.fitter.predict import predict
from analysis.fitter.result import FitResult
from analysis.tables.columns import Array, Column, read_column, read_labels

LONGEST_TITLE = 42


def plot_fit(done: Done) -> Figure:
    """A law of one column is drawn over it with its 95 % band, one of a few training curves over their steps, any
    other as predicted against measured; beside it what is left over. Points that the linter found fault with are
    hollow, held-out ones are red stars. A procedure draws what it went through."""
    result = done.result
    if result.law in ("isoflop", "envelope"):
        return plot_allocation(result, done.fitted)
    with style.paper():
        if isinstance(result.found, Procedure):
            return _plot_steps(result)
        figure = Figure(figsize=style.TWO_PANELS)
        left, right = figure.subplots(1, 2)
        if len(result.columns) == 1:
            _draw_over_column(left, done)
        elif _of_curves(result) and len(_curves(done)) <= len(style.ARMS):
            _draw_over_steps(left, done)
        else:
            _draw_against_predicted(left, done)
        _draw_left_over(right, done)
    return figure


def _draw_over_column(axes: Axes, done: Done) -> None:
    result = done.result
    source = next(iter(result.columns.values()))
    values = np.concatenate([_column(table, source) for table in _tables(done)])
    grid = (
        np.geomspace(values.min() / 1.2, values.max() * 1.2, 200) if values.min() > 0 else np.linspace(*_ends(values))
    )
    line = predict(result, {source: grid})
    axes.plot(grid, line["predicted"], color=style.ARMS[0], label=_title(result))
    if "lo95" in line:
        axes.fill_between(grid, line["lo95"], line["hi95"], color=style.ARMS[0], alpha=0.2, lw=0, label="95% band")
    _draw_points(axes, done, lambda table: _column(table, source), lambda table: _measured(done, table))
    if values.min() > 0:
        style.count_axis(axes, values)
    axes.set_xlabel(source)
    axes.set_ylabel(_label(done))
    axes.legend()


def _draw_over_steps(axes: Axes, done: Done) -> None:
    """Each curve in a colour: its points, and the law as a line through them."""
    for name, colour in zip(_curves(done), style.ARMS, strict=False):
        label = name
        for table in _tables(done):
            rows = read_labels(table, "curve") == name
            if not rows.any():
                continue
            step, loss, law = (
                values[rows] for values in (_column(table, "step"), _measured(done, table), _predicted(done, table))
            )
            order = np.argsort(step)
            if table is done.held:
                axes.plot(step, loss, "*", color=style.HELD_OUT, mec="white", mew=0.3, ms=5)
            else:
                flagged = done.flagged[rows]
                axes.plot(step[~flagged], loss[~flagged], "o", color=colour, alpha=0.5, mew=0, ms=2.5)
                axes.plot(step[flagged], loss[flagged], "o", color=colour, mfc="white", mew=0.7, ms=3.5)
            axes.plot(step[order], law[order], color=colour, label=label)
            label = "_"  # once in the legend
    if done.held is not None:
        axes.plot([], [], "*", color=style.HELD_OUT, ms=5, label="held out")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(style.count_ticks())
    axes.set_xlabel("step")
    axes.set_ylabel(_label(done))
    axes.set_title(_title(done.result))
    axes.legend()


def _draw_against_predicted(axes: Axes, done: Done) -> None:
    seen = [values for table in _tables(done) for values in (_measured(done, table), _predicted(done, table))]
    low, high = _ends(np.concatenate(seen))
    axes.plot([low, high], [low, high], color=style.REFERENCE, linewidth=0.8)
    _draw_points(axes, done, lambda table: _predicted(done, table), lambda table: _measured(done, table))
    axes.set_xlabel(f"predicted {_label(done)}")
    axes.set_ylabel(f"measured {_label(done)}")
    axes.set_title(_title(done.result))
    if done.held is not None or done.flagged.any():
        axes.legend()


def _draw_left_over(axes: Axes, done: Done) -> None:
    """Measured over predicted (or less it, for a target that is not positive) against the law's first column, or the
    step of a curve."""
    result = done.result
    positive = all((_measured(done, table) > 0).all() for table in _tables(done))
    axes.axhline(0, color=style.REFERENCE, linewidth=0.8)

    def error(table: Any) -> Array:
        measured, predicted = _measured(done, table), _predicted(done, table)
        return 100 * (measured / predicted - 1) if positive else measured - predicted

    source = "step" if _of_curves(result) else next(iter(result.columns.values()))
    values = np.concatenate([_column(table, source) for table in _tables(done)])
    _draw_points(axes, done, lambda table: _column(table, source), error)
    if values.min() > 0 and values.max() / values.min() > 5:
        style.count_axis(axes, values)
    name = result.found.target.name
    axes.set_xlabel(source)
    axes.set_ylabel(f"measured over predicted {name} (%)" if positive else f"measured less predicted {name}")


def _draw_points(axes: Axes, done: Done, x: Any, y: Any) -> None:
    at, level = x(done.fitted), y(done.fitted)
    sound, suspect = ~done.flagged, done.flagged
    size = 4.5 if len(at) < 100 else 2.5
    common: Any = {"color": style.ARMS[0], "markersize": size, "zorder": 3}
    axes.plot(at[sound], level[sound], "o", mec="white", mew=0.4, label="fitted", **common)
    if suspect.any():
        axes.plot(at[suspect], level[suspect], "o", mfc="white", mew=0.9, label="fitted, with a finding", **common)
    if done.held is not None:
        at, level = x(done.held), y(done.held)
        size = 8 if len(at) < 30 else 5
        held: Any = {"color": style.HELD_OUT, "mec": "white", "mew": 0.4, "markersize": size, "zorder": 4}
        axes.plot(at, level, "*", label="held out", **held)


def _tables(done: Done) -> list[Any]:
    return [table for table in (done.fitted, done.held) if table is not None]


def _of_curves(result: FitResult) -> bool:
    law = result.found
    return isinstance(law, Law) and law.cluster == "curve"


def _curves(done: Done) -> list[str]:
    return list(dict.fromkeys(name for table in _tables(done) for name in read_labels(table, "curve")))


def _column(table: Any, name: str) -> Array:
    return read_column(table, Column(name, "", "", "any"))  # the fit has read it, and what it allows is known


def _title(result: FitResult) -> str:
    """The formula where it fits over a panel."""
    text = formula(result)
    return text if len(text) <= LONGEST_TITLE else result.law


def _measured(done: Done, table: Any) -> Array:
    return read_column(table, done.result.found.target)


def _predicted(done: Done, table: Any) -> Array:
    return predict(done.result, table)["predicted"]


def _label(done: Done) -> str:
    target = done.result.found.target
    return f"{target.name} ({target.unit})" if target.unit not in ("", "1") else target.name


def _ends(values: Array) -> tuple[float, float]:
    margin = 0.03 * (float(np.ptp(values)) or abs(float(values[0])) or 1.0)
    return float(values.min()) - margin, float(values.max()) + margin


def _plot_steps(result: FitResult) -> Figure:
    """What the last step of a procedure found, one panel for each quantity, against the procedure's first column."""
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

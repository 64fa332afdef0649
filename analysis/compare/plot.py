"""The pictures of comparisons: `plot_arms(comparison, table)` and `plot_laws(comparison, table)`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.compare.compare_arms import ArmsComparison
from analysis.compare.compare_laws import LawsComparison
from analysis.compare.crossing import Lines
from analysis.drawing import style
from analysis.tables.columns import Array, FitError, read_column, read_labels

MARKERS = ("o", "s")


def plot_arms(comparison: ArmsComparison, table: Any) -> Figure:
    """Left the losses of both arms with their curves, 90 % bands, and the interval of the crossing; right the compute
    multiplier over the loss and, where the curves cross, the crossing in the replicates.

    Args:
        table: the points that were compared.
    """
    labels = read_labels(table, comparison.by)
    crosses = comparison.crossing.where != "none"
    with style.paper():
        figure = Figure(figsize=(10.6, 3.3) if crosses else style.TWO_PANELS)
        panels = figure.subplots(1, 3 if crosses else 2, width_ratios=(1.35, 1, 1) if crosses else (1.25, 1))
        cost = _cost(comparison, table)
        loss = read_column(table, comparison.target)
        for arm, colour, marker in zip(comparison.arms, style.ARMS, MARKERS, strict=False):
            rows = labels == arm
            panels[0].plot(
                cost[rows], loss[rows], marker, color=colour, mfc="white", mew=0.9, ms=4, label=arm, zorder=3
            )
        _draw_curves(panels[0], comparison.curves)
        _draw_crossing(panels[0], comparison)
        _loss_over_cost(panels[0], cost, loss, comparison.curves, comparison.x, comparison.target)
        _draw_multiplier(panels[1], comparison)
        if crosses:
            _draw_draws(panels[2], comparison)
    return figure


def plot_laws(comparison: LawsComparison, table: Any) -> Figure:
    """The points, the two curves with their 95 % bands, and where the bands part.

    Args:
        table: the points that were compared.

    Raises:
        FitError: the laws have more than one variable.
    """
    curves = comparison.curves
    if curves is None:
        raise FitError(f"{' and '.join(r.law for r in comparison.laws)}: are drawn only over one x; allowed: no --plot")
    x, loss = read_column(table, str(comparison.x)), read_column(table, comparison.target)
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        axes.plot(x, loss, "o", color=style.REFERENCE, mfc="white", mew=0.9, ms=4, label="measured", zorder=3)
        _draw_curves(axes, curves, labelled=True)
        for k, (low, high) in enumerate(comparison.apart):
            axes.axvspan(low, high, color=style.REFERENCE, alpha=0.08, lw=0, label=None if k else "bands apart")
        for place in comparison.crossings:
            axes.axvline(place, color=style.REFERENCE, lw=0.8, ls=":")
        _loss_over_cost(axes, x, loss, curves, str(comparison.x), comparison.target)
    return figure


def _cost(comparison: ArmsComparison, table: Any) -> Array:
    if comparison.law == "chinchilla":
        return 6 * read_column(table, "n_params") * read_column(table, "n_tokens")
    return read_column(table, comparison.x)


def _draw_curves(axes: Axes, curves: Lines, *, labelled: bool = False) -> None:
    for (name, line), colour, dash in zip(curves.lines.items(), style.ARMS, ("-", "--"), strict=False):
        axes.plot(curves.x, line["loss"], dash, color=colour, label=name if labelled else None)
        axes.fill_between(curves.x, line["low"], line["high"], color=colour, alpha=0.2, lw=0)


def _draw_crossing(axes: Axes, comparison: ArmsComparison) -> None:
    crossing = comparison.crossing
    axes.axvline(crossing.measured[1], color=style.REFERENCE, lw=0.9, ls=":", label="end of the data")
    if crossing.where == "none":
        return
    low, high = (10**end for end in crossing.log10_x.ci90)
    axes.axvspan(low, high, color=style.REFERENCE, alpha=0.18, lw=0, label="crossing, 90%")
    loss = np.interp(crossing.roots, comparison.curves.x, comparison.curves.lines[comparison.arms[0]]["loss"])
    axes.plot(crossing.roots, loss, "k+", ms=7, mew=1.1)


def _loss_over_cost(axes: Axes, cost: Array, loss: Array, curves: Lines, name: str, target: str) -> None:
    """Axes around the points and a decade to the right, where the question lies."""
    x = np.array(curves.x)
    right = float(cost.max() * 10)
    shown = (x >= cost.min()) & (x <= right)
    lines = np.concatenate([np.array(line["loss"])[shown] for line in curves.lines.values()])
    axes.set_xlim(float(cost.min()) / 1.5, right)
    low, high = min(float(lines.min()), float(loss.min())), max(float(lines.max()), float(loss.max()))
    axes.set_ylim(low / 1.02, high * 1.02)
    style.loss_axis(axes)
    _powers(axes)
    axes.set_xlabel(name)
    axes.set_ylabel(_spoken(target))
    axes.legend()


def _spoken(target: str) -> str:
    return "loss (nats per token)" if target == "loss" else target


def _powers(axes: Axes) -> None:
    """A logarithmic x-axis labelled at powers of ten."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, numticks=8))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_multiplier(axes: Axes, comparison: ArmsComparison) -> None:
    reference, other = comparison.arms
    at = {name: np.array(values) for name, values in comparison.multipliers.items()}
    if len(at["loss"]):
        axes.plot(at["loss"], at["value"], color=style.ARMS[1], label="own exponents")
        axes.fill_between(at["loss"], at["lo90"], at["hi90"], color=style.ARMS[1], alpha=0.2, lw=0)
    constant = comparison.multiplier
    axes.axhline(constant.value, color=style.REFERENCE, lw=1, ls="--", label="common exponents")
    axes.axhspan(*constant.ci90, color=style.REFERENCE, alpha=0.12, lw=0)
    axes.axhline(1, color="black", lw=0.7)
    low, high = axes.get_ylim()
    if low > 0 and high < 5 * low:
        style.loss_axis(axes)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.invert_xaxis()  # towards lower loss, as the other panel
    axes.set_xlabel(_spoken(comparison.target))
    axes.set_ylabel(f"multiplier: {reference} / {other} at equal loss")
    axes.legend()


def _draw_draws(axes: Axes, comparison: ArmsComparison) -> None:
    draws = np.array(comparison.draws)
    low, high = np.quantile(draws, [0.005, 0.995])
    margin = 0.05 * (high - low) + 1e-3
    axes.hist(
        draws, bins=np.linspace(low - margin, high + margin, 41).tolist(), color=style.REFERENCE, alpha=0.55, lw=0
    )
    for end in comparison.crossing.log10_x.ci90:
        axes.axvline(end, color="black", lw=0.8, ls="--")
    axes.set_xlim(low - margin, high + margin)
    first, last = np.log10(comparison.crossing.measured)
    if first < high + margin and last > low - margin:
        axes.axvspan(first, last, color=style.ARMS[2], alpha=0.1, lw=0, label="measured range")
        axes.legend()
    axes.set_xlabel(f"log10 of the crossing, {comparison.x}")
    axes.set_ylabel("replicates")

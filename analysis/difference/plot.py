"""The picture of a difference: a line from A to B for each pair, and the differences with their interval beside it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.difference.difference import Difference
from analysis.difference.pairs import LOSSES, Pairs
from analysis.drawing import style

MOST_NAMES = 16  # cells; the names of more would not be read


def plot_difference(pairs: Pairs, result: Difference, metric: str) -> Figure:
    """Left the metric of both runs of each pair; right B - A of the pairs of each cell, and below them the mean with
    its interval and, where there is one, the margin."""
    with style.paper():
        rows = len(pairs.cells) + 1
        figure = Figure(figsize=(style.TWO_PANELS[0], max(style.TWO_PANELS[1], 1.2 + 0.24 * rows)))
        both, apart = figure.subplots(1, 2, width_ratios=(1, 1.5))
        _draw_both(both, pairs, metric)
        _draw_apart(apart, pairs, result, metric)
    return figure


def _draw_both(axes: Axes, pairs: Pairs, metric: str) -> None:
    ends_P2 = np.array([pair.values for pair in pairs.pairs])
    axes.plot([0, 1], ends_P2.T, color=style.REFERENCE, lw=0.7, alpha=0.7)
    for x, colour in enumerate(style.ARMS[:2]):
        axes.plot(np.full(len(ends_P2), x), ends_P2[:, x], "o", color=colour, mfc="white", mew=0.9, zorder=3)
    diverged = [(x, pair) for pair in pairs.pairs for x, run in enumerate((pair.a, pair.b)) if run.state == "diverged"]
    if diverged:
        heights = [pair.values[x] for x, pair in diverged]
        axes.plot([x for x, _ in diverged], heights, "kx", ms=5, zorder=4, label="diverged")
        axes.legend()
    axes.set_xlim(-0.35, 1.35)
    axes.set_xticks([0, 1], [_arm("A", pairs, 0), _arm("B", pairs, 1)])
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("validation loss (nats per token)" if metric in ("val_loss", "loss") else metric)


def _draw_apart(axes: Axes, pairs: Pairs, result: Difference, metric: str) -> None:
    cells = pairs.cells
    for row, cell in enumerate(cells):
        here = [pair for pair in pairs.pairs if pair.cell == cell]
        d_P = np.array([pair.values[1] - pair.values[0] for pair in here])
        # Equal differences would hide each other.
        spread_P = np.linspace(-0.22, 0.22, len(d_P)) if len(d_P) > 1 else np.zeros(1)
        axes.plot(d_P, row + spread_P, "o", color=style.REFERENCE, mfc="white", mew=0.8, ms=3.5)
    last = len(cells)
    if result.margin is not None:
        span = f"±{result.margin:g}"
        axes.axvspan(-result.margin, result.margin, color=style.ARMS[2], alpha=0.12, lw=0, label=span)
    axes.axvline(0, color="black", lw=0.8)
    if result.interval is not None:
        axes.plot(result.interval, [last, last], color="black", lw=1.6, label=f"{1 - result.level:.1%} interval")
    axes.plot(result.mean, last, "D", color="black", ms=5, label="mean")
    axes.axhline(last - 0.5, color=style.REFERENCE, lw=0.6)
    names = [_cell(pairs, cell) for cell in cells] if len(cells) <= MOST_NAMES else [""] * len(cells)
    axes.set_yticks(range(last + 1), [*names, "all"])
    axes.set_ylim(last + 0.6, -0.6)
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=6)
    unit = " (nats)" if metric in LOSSES else ""
    axes.set_xlabel(f"B - A{unit}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _arm(side: str, pairs: Pairs, end: int) -> str:
    lines = [
        f"{_short(name)}={_value(values[end][0])}" for name, values in pairs.told_by.items() if len(values[end]) == 1
    ]
    return "\n".join([side, *lines[:3]])


def _cell(pairs: Pairs, cell: tuple[object, ...]) -> str:
    if not pairs.cell_names:
        return "pairs"
    return ", ".join(f"{_short(name)}={_value(value)}" for name, value in zip(pairs.cell_names, cell, strict=True))


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "null" if value is None else str(value)[:16]

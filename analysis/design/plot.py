"""The picture of a plan, `plot_design(design, candidates)`: which of the runs that could be made it makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.design.candidates import Candidate, columns_of
from analysis.design.planner import Design
from analysis.drawing import style
from analysis.tables.columns import Array
from conf.command_line import SI, human


def plot_design(design: Design, candidates: Sequence[Candidate]) -> Figure:
    """`write_figure(plot_design(design, candidates), path)`: candidates and chosen cells in the plane of
    N and D; of a plan for the learning rate, seeds over the rates."""
    columns = columns_of(candidates)
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        if np.ptp(columns["n_params"]) > 0:
            _draw_plane(axes, design, columns)
        else:
            _draw_rates(axes, design, columns["lr"])
        what = f"plan for {design.asked}" if design.asked is not None else "plan for all constants"
        flops = human(float(design.counts @ columns["flops"]), SI)
        axes.set_title(f"{what}: {int(design.counts.sum())} runs, {flops} FLOPs")
    return figure


def _draw_plane(axes: Axes, design: Design, columns: dict[str, Array]) -> None:
    n, d, flops = columns["n_params"], columns["n_tokens"], columns["flops"]
    axes.plot(n, d, "o", color=style.REFERENCE, mfc="none", mew=0.6, ms=2.5, alpha=0.7, label="could be run")
    for seeds in np.unique(design.counts[design.counts > 0]):
        chosen = design.counts == seeds
        label = "1 seed" if seeds == 1 else f"{seeds} seeds"
        axes.plot(n[chosen], d[chosen], "o", color=style.ARMS[0], ms=3 + 1.6 * seeds, mec="white", mew=0.5, label=label)
    style.count_axis(axes, n)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0) if d.max() / d.min() < 1e3 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    # Lines of equal compute, by the candidates' own FLOPs per N and D.
    limits = axes.get_xlim(), axes.get_ylim()
    per_nd = float(np.exp(np.log(flops / n / d).mean()))
    grid = np.geomspace(*limits[0], 50)
    for level in np.geomspace(flops.min(), flops.max(), 4)[1:-1]:
        axes.plot(grid, level / per_nd / grid, color=style.REFERENCE, lw=0.6, ls=":")
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
    axes.set_xlabel("parameters N (dotted: equal compute)")
    axes.set_ylabel("training tokens D")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_rates(axes: Axes, design: Design, lr: Array) -> None:
    axes.plot(lr, 0 * lr, "o", color=style.REFERENCE, mfc="none", mew=0.6, ms=2.5, label="could be run", clip_on=False)
    chosen = design.counts > 0
    axes.vlines(lr[chosen], 0, design.counts[chosen], color=style.ARMS[0], lw=1.5)
    axes.plot(lr[chosen], design.counts[chosen], "o", color=style.ARMS[0], mec="white", mew=0.5, label="seeds")
    if design.asked in design.expected and design.expected[design.asked].log:
        axes.axvspan(
            *design.expected[design.asked].ci95, color=style.HELD_OUT, alpha=0.15, lw=0, label="expected interval"
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, design.counts.max() * 1.2)
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel("seeds")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

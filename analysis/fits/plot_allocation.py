"""The picture of an IsoFLOP or envelope fit: where the minima lie, and the line of N* through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.drawing import style
from analysis.fitter.law import FitResult
from analysis.laws.allocation import predict_allocation
from analysis.laws.isoflop import akima_curve, budgets
from analysis.tables.columns import Array, read_column, read_labels
from conf.command_line import human


def plot_allocation(result: FitResult, points: Any) -> Figure:
    """`write_figure(plot_allocation(result, points), path)`: left the losses with their minima; right N* against
    compute with its 95 % band.

    For `isoflop`, left is the loss over N, with a parabola (or Akima's curve) for each budget; the points of a
    budget without a minimum inside its sizes are hollow. For `envelope` it is the loss over compute, with the middle
    of the step in which each size is best.

    Args:
        result: a fit by either procedure.
        points: the table that was fitted.
    """
    columns = {name: read_column(points, result.columns.get(name, name)) for name in ("n_params", "flops", "loss")}
    minima = {name: np.asarray(values) for name, values in result.points.items()}
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        left, right = figure.subplots(1, 2)
        if result.law.name == "envelope":
            _draw_curves(left, columns, read_labels(points, result.columns.get("curve", "curve")), minima)
        else:
            _draw_profiles(left, columns, minima)
        left.set_ylabel("loss (nats per token)")
        _draw_line(right, result, minima)
    return figure


def _draw_profiles(axes: Axes, columns: dict[str, Array], minima: dict[str, Array]) -> None:
    codes = budgets(columns)
    flops = np.array([np.exp(np.log(columns["flops"][codes == code]).mean()) for code in range(codes.max() + 1)])
    for code, shade in enumerate(style.size_colours(flops).values()):
        n, loss = columns["n_params"][codes == code], columns["loss"][codes == code]
        last = int(np.argmax(n))
        row = np.flatnonzero(np.isclose(minima["flops"], flops[code], rtol=1e-6))
        face = shade if len(row) else "none"
        axes.plot(n, loss, "o", color=shade, mfc=face, mew=0.8, ms=3.5)
        name = f"{flops[code]:.3g}".replace("e+", "e")
        axes.annotate(
            name, (n[last], loss[last]), (5, 0), "data", "offset points", color=shade, va="center", fontsize=7
        )
        if not len(row):
            continue
        at = {name: values[row[0]] for name, values in minima.items()}
        if "curvature" in at:
            x = np.linspace(np.log(at["n_params_low"]), np.log(at["n_params_high"]), 100)
            y = at["loss_opt"] + at["curvature"] / 2 * (x - np.log(at["n_params_opt"])) ** 2
        else:
            sizes = np.unique(n)
            x, y = akima_curve(np.log(sizes), np.array([loss[n == size].mean() for size in sizes]))
        axes.plot(np.exp(x), y, color=shade)
    axes.plot(minima["n_params_opt"], minima["loss_opt"], "*", color=style.HELD_OUT, ms=7, mec="white", mew=0.4)
    style.count_axis(axes, columns["n_params"])
    axes.set_xlim(right=columns["n_params"].max() * 3)
    axes.set_xlabel("parameters N")
    axes.set_title("loss at equal compute (FLOPs)")


def _draw_curves(axes: Axes, columns: dict[str, Array], curve: Any, minima: dict[str, Array]) -> None:
    shades = style.size_colours(columns["n_params"])
    labelled = set()
    for name in np.unique(curve):
        rows = np.flatnonzero(curve == name)
        rows = rows[np.argsort(columns["flops"][rows], kind="stable")]
        n = float(columns["n_params"][rows[0]])
        label = None if n in labelled else human(n)
        labelled.add(n)
        axes.plot(columns["flops"][rows], columns["loss"][rows], color=shades[n], lw=0.9, label=label)
    axes.plot(minima["flops"], minima["loss_opt"], "*", color=style.HELD_OUT, ms=7, mec="white", mew=0.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axes.set_xlabel("compute C (FLOPs)")
    axes.legend(title="parameters", ncols=1 + (len(labelled) > 6), handlelength=1.2)


def _draw_line(axes: Axes, result: FitResult, minima: dict[str, Array]) -> None:
    low, high = minima["flops"].min(), minima["flops"].max()
    grid = {"flops": np.geomspace(low / 2, high * 2, 100)}
    line = predict_allocation(grid, **result.values)["n_params_opt"]
    axes.plot(grid["flops"], line, color=style.ARMS[0], label=f"N* ∝ C^{result.values['a']:.3f}")
    if result.bootstrap["n"]:
        draws = result.draws
        band = np.nanquantile(predict_allocation(grid, **draws)["n_params_opt"], [0.025, 0.975], axis=0)
        axes.fill_between(grid["flops"], *band, color=style.ARMS[0], alpha=0.2, lw=0, label="95% band")
    axes.plot(
        minima["flops"], minima["n_params_opt"], "*", color=style.HELD_OUT, ms=7, mec="white", mew=0.4, label="minima"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("compute C (FLOPs)")
    axes.set_ylabel("optimal parameters N*")
    axes.legend()

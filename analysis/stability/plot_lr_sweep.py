"""Sweeps of learning rates as the papers draw them: loss against rate by size, one panel an arm, and sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.sample import over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import sensitivity, span

PANEL = (2.35, 2.75)  # inches


def draw_lr_sweep(
    sweep: pl.DataFrame,
    stem: Path,
    *,
    arms: Mapping[str, str],
    size_label: str = "parameters without embeddings",
    sensitivities: pl.DataFrame | None = None,
) -> None:
    """Write `stem.png`, `.svg` and `.csv`: a panel of loss against learning rate for each arm, coloured by size, and
    one of LR sensitivity against size, coloured by arm.

    Args:
        sweep: of `analysis.stability.lr_sweep.read_sweep`.
        arms: arm -> its title, in the order of the panels.
        sensitivities: like those of `analysis.stability.lr_sweep.sensitivity`, if not over each curve's whole window.
    """
    colours = style.size_colours(sweep["size"].to_numpy())
    arms = {arm: name for arm, name in arms.items() if arm in set(sweep["arm"])}
    n_panels = len(arms) + 1
    with style.paper():
        figure = Figure(figsize=(PANEL[0] * n_panels + 0.9, PANEL[1]))
        panels = figure.subplots(1, n_panels, squeeze=False)[0]
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]  # a constrained layout
        draw_loss_panels(panels, sweep, arms, colours)
        style.size_bar(figure, panels[len(arms) - 1], colours, size_label)
        table = sensitivity(sweep) if sensitivities is None else sensitivities
        draw_sensitivity(panels[-1], table, arms, size_label=size_label)
    write_picture(figure, sweep.drop("folder"), stem)


def draw_loss_panels(
    panels: Sequence[Axes], sweep: pl.DataFrame, arms: Mapping[str, str], colours: Mapping[float, Any]
) -> None:
    """`draw_curves` of each arm in a panel, with one loss axis for all of them; further panels stay as they are."""
    for axes, (arm, name) in zip(panels, arms.items(), strict=False):
        draw_curves(axes, sweep.filter(pl.col("arm") == arm), colours)
        loss_axis(axes, sweep, label=style.VALIDATION_LOSS if axes is panels[0] else None)
        axes.set_title(name)
        axes.tick_params(labelleft=axes is panels[0])


def loss_axis(axes: Axes, sweep: pl.DataFrame, *, label: str | None = style.VALIDATION_LOSS) -> None:
    """The loss axis of a sweep, as far as its losses reach."""
    axes.set_ylim(*loss_limits(sweep))
    style.loss_axis(axes, label)


def loss_limits(sweep: pl.DataFrame) -> tuple[float, float]:
    """A little beyond the losses; the loss at initialisation is shown only if a run is near it."""
    low, high = float(sweep["loss"].min()), float(sweep["loss"].max())  # type: ignore[arg-type]  # polars says Any
    return low * 0.97, high * 1.03


def draw_curves(axes: Axes, curves: pl.DataFrame, colours: Mapping[float, Any]) -> None:
    """Mean loss over seeds against learning rate for each size, a band from the lowest to the highest seed, and a
    cross where a seed diverged."""
    for (size,), rows in curves.group_by("size", maintain_order=True):
        draw_curve(axes, rows, "loss", colour=colours[float(size)])
    axes.set(xscale="log", xlabel="learning rate")


def draw_curve(axes: Axes, runs: pl.DataFrame, value: str, *, log: bool = False, **look: Any) -> None:
    """A number of runs against the learning rate over seeds, the mean that of logarithms with `log`, and a cross where
    a seed diverged."""
    points = draw_over_seeds(axes, runs, "lr", value, log=log, **look)
    broken = points.join(runs.filter("diverged"), on="lr", how="semi")
    axes.plot(broken["lr"], broken["mean"], "x", color=look["colour"], markersize=6, mew=1.4)


def draw_sensitivity(axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], *, size_label: str) -> None:
    """LR sensitivity against size for each arm, and the window of rates that it is over."""
    draw_arm_intervals(axes, table, arms, "sensitivity")
    style.count_axis(axes, np.array([*table["size"], 1.5 * table["size"].max()]))  # type: ignore[operator]  # a number
    axes.set_ylim(0, axes.get_ylim()[1] * (1 + 0.1 * len(arms)))  # the legend stands above the intervals
    (low, _), (_, high) = span(table, "lr_low"), span(table, "lr_high")
    axes.set(xlabel=size_label, ylabel="LR sensitivity (nats)", title=f"rates {low:g} to {high:g}")
    axes.legend(loc="upper right")


def draw_arm_intervals(
    axes: Axes, table: pl.DataFrame, arms: Mapping[str, str], value: str, *, log: bool = False
) -> None:
    """A number of each curve against size for each arm: the mean over seeds, geometric with `log`, with its 95 %
    interval. Curves whose number is null are left out."""
    for k, (arm, name) in enumerate(arms.items()):
        rows = table.filter(pl.col("arm") == arm).drop_nulls(value)
        if len(rows):
            points = (geometric_mean_over_seeds if log else mean_over_seeds)(rows, value)
            look: dict[str, Any] = {"color": style.ARMS[k % len(style.ARMS)], "linewidth": 1.1}
            draw_intervals(axes, points["size"] * aside(k, arms), points, label=name.replace("\n", " "), **look)


def aside(k: int, arms: Sized) -> float:
    """The factor that moves the k-th arm aside on a logarithmic axis, or intervals would hide each other."""
    return float(1.03 ** (k - (len(arms) - 1) / 2))


def draw_intervals(axes: Axes, x: Any, points: pl.DataFrame, **look: Any) -> None:
    """`mean` of the functions below at each x, with the interval from `low` to `high`; as dots on a line, unless the
    look says otherwise."""
    errors = [points["mean"] - points["low"], points["high"] - points["mean"]]
    usual: dict[str, Any] = {"fmt": "o-", "capsize": 2}
    axes.errorbar(x, points["mean"], yerr=errors, **usual | look)


def mean_over_seeds(table: pl.DataFrame, value: str, by: Sequence[str] = ("size",)) -> pl.DataFrame:
    """`by`, `mean`, and `low`, `high` of the 95 % interval over seeds; both are the mean where there is one seed."""
    rows = []
    for key, part in table.filter(pl.col(value).is_not_null()).group_by(*by, maintain_order=True):
        values = part[value].to_list()
        mean, (low, high) = over_seeds(values) if len(values) > 1 else (values[0], (values[0], values[0]))
        rows.append(dict(zip(by, key, strict=True)) | {"mean": mean, "low": low, "high": high, "n_seeds": len(values)})
    return pl.DataFrame(rows, infer_schema_length=None).sort(*by)


def geometric_mean_over_seeds(table: pl.DataFrame, value: str, by: Sequence[str] = ("size",)) -> pl.DataFrame:
    """The same of a positive quantity in its logarithm, such as a best learning rate."""
    logs = mean_over_seeds(table.with_columns(pl.col(value).log()), value, by)
    return logs.with_columns(pl.col("mean", "low", "high").exp())

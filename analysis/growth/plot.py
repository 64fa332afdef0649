"""The picture of `python -m analysis growth`."""

from __future__ import annotations

import math
import re
import textwrap
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.growth.gain import used
from analysis.growth.speed_up import SCRATCH
from analysis.tables.csv import TableError
from analysis.tables.lineage import courses
from conf.command_line import SI

_BASE_COLOUR = "#a0a0a0"


def plot_growth(traced: pl.DataFrame, compared: pl.DataFrame) -> Figure:
    """Validation loss over cumulative FLOPs, both logarithmic: each arm from its growth on, the mean over seeds with a
    band from the lowest to the highest and dots where its decays end; bases in grey; scratch in black, with dots for
    its ends and the dotted lines between them that give its loss at equal FLOPs.

    A panel for each size that runs have grown to, or for each pair of sizes where that has more arms than colours.

    Args:
        traced: of `analysis.tables.lineage.trace`, with all that the runs have grown out of.
        compared: of `compare_with_scratch`.
    """
    # A logarithmic axis has no place for the first evaluation.
    rows = courses(traced, compared["run_id"])
    if "val_loss" not in rows.columns:
        raise TableError("none of the runs has measured a validation loss on its way")
    rows = rows.drop_nulls("val_loss").filter(pl.col("flops") > 0)
    rows = rows.join(compared.select("run_id", "arm", "seed"), on="run_id", maintain_order="left")
    panels = _panels(compared.filter(pl.col("arm") != SCRATCH), most=len(style.ARMS) - 1)  # black is scratch
    n_columns = min(len(panels), 3)
    n_rows = math.ceil(len(panels) / n_columns)
    n_named = max(runs["arm"].n_unique() for _, runs in panels) + 3
    with style.paper():
        figure = Figure(figsize=(3.8 * n_columns, (2.9 + 0.155 * n_named) * n_rows))
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes, (title, grown) in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, rows, compared, grown)
            axes.set_title(_typeset(title, 46))
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel("validation loss (nats per token)")
    return figure


def _typeset(text: str, width: int = 60) -> str:
    text = textwrap.fill(text, width)
    return re.sub(r"(\d)x(\d)", r"\1×\2", text).replace("->", "→")


def _panels(grown: pl.DataFrame, *, most: int) -> list[tuple[str, pl.DataFrame]]:
    """Titles and runs of panels, with at most so many arms if sizes can part them."""
    target = pl.col("grown").str.split(" -> ").list.last()
    panels: list[tuple[str, pl.DataFrame]] = []
    for (size,), runs in grown.group_by(target, maintain_order=True):
        if runs["grown"].n_unique() > 1 and runs["arm"].n_unique() <= most:
            panels.append((f"grown to {size}", runs))
        else:
            panels += [(str(name), part) for (name,), part in runs.group_by("grown", maintain_order=True)]
    return panels


def _draw_panel(axes: Axes, rows: pl.DataFrame, compared: pl.DataFrame, grown: pl.DataFrame) -> None:
    scratch = compared.filter(pl.col("run_id").is_in(used(grown)))
    name = "how" if grown["grown"].n_unique() == 1 else "arm"
    course = rows.filter(pl.col("run_id").is_in(grown["run_id"].implode()))
    since = course.filter("since_growth")
    # Those that grew latest first: they hold the most of a base that several have grown out of.
    _draw_courses(axes, course.filter(~pl.col("since_growth")), "base_flops", grown, _BASE_COLOUR, "-")
    axes.plot([], [], color=_BASE_COLOUR, label="before growth")
    axes.plot([], [], ":", color=style.REFERENCE, label="between the final losses of one arm")
    arms = [(SCRATCH, scratch, "#000000", "-")] if len(scratch) else []
    for k, (_, runs) in enumerate(grown.group_by("arm", maintain_order=True)):
        turn, place = divmod(k, len(style.ARMS) - 1)
        arms.append((str(runs[name][0]), runs, style.ARMS[place], ("-", "--", "-.")[turn % 3]))
    for label, runs, colour, line in arms:
        shown = rows.filter(pl.col("since_growth") & pl.col("run_id").is_in(runs["run_id"].implode()))
        _draw_courses(axes, shown, "flops", runs, colour, line)
        ends = runs.group_by("flops").agg(pl.col("loss").log().mean().exp()).sort("flops")
        look: Any = {"color": colour, "mec": "white", "mew": 0.5}
        axes.plot(ends["flops"], ends["loss"], "o:", zorder=3, **look)
        axes.plot([], [], "o" + line, label=_typeset(label), **look)

    flops = np.concatenate([since["flops"], scratch["flops"]])
    losses = np.concatenate([since["val_loss"], scratch["loss"]])
    style.count_axis(axes, flops, SI)
    axes.set_xlim(flops.min() / 1.4, flops.max() * 1.15)
    axes.set_ylim(losses.min() * 0.985, losses.max() * 1.015)
    style.loss_axis(axes)
    axes.set_xlabel("training FLOPs, those of the base included")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), borderaxespad=0)


def _draw_courses(axes: Axes, rows: pl.DataFrame, longest: str, runs: pl.DataFrame, colour: str, line: str) -> None:
    """Mean and band over the seeds of the runs of each arm and budget; what several share, such as a trunk, once."""
    point = ["seed", "flops", "val_loss"]
    drawn = rows.select(point).clear()
    for _, budget in runs.sort(longest, descending=True).group_by("arm", "flops", maintain_order=True):
        course = rows.filter(pl.col("run_id").is_in(budget["run_id"].implode()))
        new = course.join(drawn, on=point, how="anti")
        if new.is_empty():
            continue
        shared = course.join(drawn, on=point, how="semi")
        left_at = shared.filter(pl.col("flops") == pl.col("flops").max().over("run_id"))
        drawn = pl.concat([drawn, new.select(point)])
        draw_over_seeds(axes, pl.concat([left_at, new]), "flops", "val_loss", colour=colour, line=line, log=False)

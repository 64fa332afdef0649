"""Du et al. 2024 (arXiv 2405.15319), figures 35 and 37: which blocks a deeper model repeats, and what of the base's
order is kept; beside growth in stages and other initialisers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import (
    LOSS,
    courses_of,
    draw_line,
    draw_speed_ups,
    flops_axis,
    name_bounds,
    show_losses,
    zero_line,
)
from analysis.figures.gstack.spike import jumps
from analysis.growth.speed_up import SCRATCH, finals, name_broken, speed_ups
from analysis.stability.plot_arms import draw_estimates
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.lineage import FROM_SCRATCH, courses, trace

STACK, INTERPOLATE = "whole stack", "interpolation"
FRONT, MIDDLE, BACK = "front pair", "middle pair", "back pair"
HOP, STAGES, LEARNGENE, TEMPLATES = "one hop", "stages", "Learngene", "templates"
PLACES = {
    STACK: (style.ARMS[0], "o"),
    INTERPOLATE: (style.ARMS[1], "s"),
    "front": (style.ARMS[2], "<"),
    "middle": (style.ARMS[3], "D"),
    "back": (style.ARMS[4], ">"),
}
INITIALISERS = {STACK: "whole\nstack", HOP: "one hop\nfrom 2", STAGES: "stages\nfrom 2", LEARNGENE: "Learn-\ngene"} | {
    TEMPLATES: "temp-\nlates"
}
SHOWN = {
    STACK: style.ARMS[0],
    INTERPOLATE: style.ARMS[1],
    FRONT: style.ARMS[2],
    BACK: style.ARMS[4],
    LEARNGENE: style.ARMS[3],
    TEMPLATES: style.ARMS[5],
}


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `patterns` and `expansion` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch at several budgets, and grown in several ways at
        one.
    """
    traced = _with_arms(trace(runs))
    ends = finals(traced)
    at_budget = pl.col("budget") == ends.filter(~FROM_SCRATCH)["budget"].max()
    level = ends.filter(at_budget)
    grown, scratch = level.filter(~FROM_SCRATCH), level.filter(FROM_SCRATCH)
    speed = speed_ups(ends).filter(at_budget)
    course = courses_of(traced, grown, "arm", "seed")
    jump = jumps(course).join(grown.select("run_id", "arm", "seed"), on="run_id", maintain_order="left")
    _draw_patterns(grown, scratch, speed, folder)
    _draw_expansion(course, courses(traced, scratch["run_id"]), folder)
    return name_broken(_claims(level, jump), traced)


# --- orders ----------------------------------------------------------------------------------------------


def sources(depth: str, pattern: str | None, few: int, many: int) -> list[int]:
    """The base's block for each block of the grown model, of operators that copy."""
    if pattern is not None:
        return [int(block) for block in pattern.split(",")]
    return [i % few if depth == "stack" else i * few // many for i in range(many)]


def connection_rate(order: Sequence[int]) -> float:
    """R_c: of all adjacent pairs of blocks the share that are adjacent in the base (Du et al. 2024, appendix)."""
    kept = sum(after == before + 1 for before, after in itertools.pairwise(order))
    return kept / (len(order) - 1)


def name_of(order: Sequence[int], few: int) -> str:
    """The order in words, by which blocks are there more than once."""
    repeated = [block for block, count in Counter(order).items() if count > 1]
    if len(repeated) == few:
        return INTERPOLATE if list(order) == sorted(order) else STACK
    place = "front" if 0 in repeated else "back" if few - 1 in repeated else "middle"
    return f"{place} {'block' if len(repeated) == 1 else 'pair'}"


def _with_arms(traced: pl.DataFrame) -> pl.DataFrame:
    """`arm`, and for the orders of one base `rate` (R_c), null for the others."""
    by_id = {row["run_id"]: row for row in traced.iter_rows(named=True)}
    deepest = max(traced["base_depth"].drop_nulls(), default=0)
    arms: list[str] = []
    rates: list[float | None] = []
    for row in by_id.values():
        base = None if row["growth"] is None else by_id[row["chain"][row["chain"].index(row["growth"]) - 1]]
        other = SCRATCH if base is None else _initialiser(row, base, plain_depth=deepest)
        order = [] if other else sources(row["grow.depth"], row["grow.pattern"], deepest, row["model.depth"])
        arms.append(other or name_of(order, deepest))
        rates.append(connection_rate(order) if order else None)
    return traced.with_columns(pl.Series("arm", arms), pl.Series("rate", rates, dtype=pl.Float64))


def _initialiser(row: Mapping[str, Any], base: Mapping[str, Any], *, plain_depth: int) -> str | None:
    """What else than an order of the blocks of the plain base of `plain_depth` the run has grown by, or None."""
    if row["grow.depth"] == "templates":
        return TEMPLATES
    if base["model.stages"] is not None:
        return LEARNGENE
    if base["grow.base"] is not None:
        return STAGES
    return HOP if base["model.depth"] < plain_depth else None


# --- claims ----------------------------------------------------------------------------------------------


def slopes(orders: pl.DataFrame) -> Sample:
    """For each seed the slope of the loss against R_c over all orders; seeds that lack one of them are left out."""
    n_orders = orders["arm"].n_unique()
    slope_of = {}
    for (seed,), rows in orders.group_by("seed", maintain_order=True):
        if len(rows) == n_orders and rows["rate"].n_unique() > 1:
            slope_of[seed] = float(np.polyfit(rows["rate"].to_numpy(), rows["loss"].to_numpy(), 1)[0])
    return Sample(slope_of, len(orders))


def _claims(ends: pl.DataFrame, jump: pl.DataFrame) -> list[Claim]:
    orders = ends.filter(pl.col("rate").is_not_null())
    front, middle, back = (by_seed(orders, "loss", arm=place) for place in (FRONT, MIDDLE, BACK))
    others = {seed: (middle.values[seed] + back.values[seed]) / 2 for seed in middle.values if seed in back.values}

    def worse(arm: str, other: str, sentence: str) -> Claim:
        return Claim(
            sentence,
            of=arms_apart(ends, "loss", arm, other),
            statistic=f"final validation loss at equal FLOPs, {arm} minus {other} (nats)",
            accept=above(0.0),
        )

    return [
        Claim(
            "The more neighbours of the base stay neighbours, the lower the loss.",
            of=slopes(orders),
            statistic="slope of the final validation loss against R_c over all orders of one base's blocks (nats)",
            accept=below(0.0),
        ),
        worse(INTERPOLATE, STACK, "The whole stack is better than interpolation."),
        worse(FRONT, STACK, "The whole stack is better than repeating its front."),
        Claim(
            "Repeating the front is worse than repeating the middle or the back.",
            of=front - Sample(others, middle.n_runs + back.n_runs),
            statistic="final validation loss of the front pair repeated minus the mean of the middle and the back pair "
            "(nats)",
            accept=above(0.0),
        ),
        worse(FRONT, SCRATCH, "Repeating the front is worse than training from scratch."),
        worse(STAGES, HOP, "One hop is better than growth in stages."),
        Claim(
            "Blocks that were trained to be repeated lose less when they are.",
            of=arms_apart(jump, "jump", INTERPOLATE, LEARNGENE),
            statistic="validation loss right after growth minus the base's last, interpolation minus Learngene (nats)",
            accept=above(0.0),
        ),
        worse(INTERPOLATE, LEARNGENE, "Learngene ends below interpolation of ordinary blocks."),
        worse(SCRATCH, LEARNGENE, "Learngene ends below training from scratch."),
        worse(SCRATCH, TEMPLATES, "Blocks made from templates end below training from scratch."),
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_patterns(grown: pl.DataFrame, scratch: pl.DataFrame, speed: pl.DataFrame, folder: Path) -> None:
    """`patterns`: loss minus that of scratch, and speed-up, against R_c; the same loss for the other initialisers."""
    gap = grown.join(scratch.select("seed", pl.col("loss").alias("from_scratch")), on="seed", maintain_order="left")
    gap = gap.with_columns((pl.col("loss") - pl.col("from_scratch")).alias("gap"))
    measured, gains = _side_by_side(gap), _side_by_side(speed)
    with style.paper():
        figure = Figure(figsize=(10.8, 3.4))
        loss, saved, others = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
        for place, (colour, marker) in PLACES.items():
            orders = measured.filter(pl.col("place") == place)
            if len(orders):
                points = mean_over_seeds(orders, "gap", ("x",))
                draw_intervals(loss, points["x"], points, fmt=marker, color=colour, capsize=3, label=place)
            draw_speed_ups(saved, gains.filter(pl.col("place") == place), "x", fmt=marker, colour=colour, label=place)
        name_bounds(saved, gains["bound"])
        figure.legend(*saved.get_legend_handles_labels(), loc="outside upper left", ncols=len(PLACES) + 2)
        there = {arm: name for arm, name in INITIALISERS.items() if arm in set(gap["arm"])}
        if there:
            draw_estimates(others, gap, there, "gap")
        for axes in (loss, saved):
            axes.set_xlabel("connection rate $R_c$")
        for axes in (loss, others):
            axes.set_ylabel("final loss minus that from scratch\n(nats per token)")
        saved.set_ylabel("speed-up over scratch")
        saved.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axes in (loss, saved, others):
            zero_line(axes)
    drawn = grown.select("arm", "rate", "seed", "grow.pattern", "flops", "loss", "run_id").join(
        speed.select("run_id", "speedup", "bound"), on="run_id", how="left", maintain_order="left"
    )
    drawn = drawn.join(gap.select("run_id", "gap"), on="run_id", how="left", maintain_order="left")
    write_picture(figure, drawn, folder / "patterns")


def _side_by_side(table: pl.DataFrame) -> pl.DataFrame:
    """The orders of one base with their `place`, and `x`: their R_c, a little apart where several have the same, or
    intervals would hide each other."""
    place = pl.coalesce(pl.when(pl.col("arm").str.starts_with(name)).then(pl.lit(name)) for name in PLACES)
    orders = table.filter(pl.col("rate").is_not_null()).with_columns(place.alias("place"))
    number = pl.col("place").replace_strict({name: k for k, name in enumerate(PLACES)}, return_dtype=pl.Float64)
    rank = number.rank("dense").over("rate")
    return orders.with_columns((pl.col("rate") + 0.012 * (rank - (rank.max().over("rate") + 1) / 2)).alias("x"))


def _draw_expansion(course: pl.DataFrame, scratch: pl.DataFrame, folder: Path) -> None:
    """`expansion`: the loss since growth for some ways to grow, beside scratch."""
    since = course.filter("since_growth").drop_nulls("val_loss")
    with style.paper():
        figure = Figure(figsize=(5.6, 3.7))
        axes = figure.subplots()
        lines = [(SCRATCH, style.REFERENCE, scratch.drop_nulls("val_loss"))]
        lines += [(arm, colour, since.filter(pl.col("arm") == arm)) for arm, colour in SHOWN.items()]
        drawn = [draw_line(axes, rows, arm, colour, arm=arm) for arm, colour, rows in lines]
        show_losses(axes, since["val_loss"])
        flops_axis(axes)
        axes.set_ylabel(LOSS)
        axes.legend()
    write_picture(figure, pl.concat(drawn), folder / "expansion")

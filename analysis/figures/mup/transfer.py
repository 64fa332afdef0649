"""Learning-rate transfer: figure 1 of Yang et al. 2022, and the same over depth (Dey et al. 2025, arXiv 2505.01618)."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, arms_apart, slopes
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import CURVE, best_lr, lr_window, read_sweep, span
from analysis.stability.plot_lr_sweep import draw_arm_intervals, draw_curves, geometric_mean_over_seeds
from analysis.tables.columns import Array

ARMS = {"standard": "standard", "mup": "muP", "completep": "CompleteP"}
ONE_STEP = 1.0  # log2: the published grids have factor 2, and muP's best rate stays within one step of them
AT_AN_END = "the best rate is at an end of its grid in a seed, so that it is not known there"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `width` and `depth`: several widths at one depth, and several depths of the smallest width."""
    name = pl.col("param.name")
    at_base_depth = pl.col("model.depth") == pl.col("model.depth").min()
    at_base_width = pl.col("model.width") == pl.col("model.width").min()
    width = read_sweep(runs.filter(at_base_depth), name, size=pl.col("model.width"))
    depth = read_sweep(runs.filter(at_base_width), name, size=pl.col("model.depth"))
    _draw(width, folder / "width", "width")
    _draw(depth, folder / "depth", "blocks")
    return [
        _stays(width, "mup", "width"),
        _stays(width, "completep", "width"),
        _moves(width, "standard", "width", most=-ONE_STEP),
        _costs_more(width, "standard", "mup", "width"),
        _stays(depth, "completep", "depth"),
        _moves(depth, "mup", "depth", most=0.0),
        _moves(depth, "standard", "depth", most=0.0),
        _costs_more(depth, "mup", "completep", "depth"),
    ]


def transfer_penalty(sweep: pl.DataFrame) -> pl.DataFrame:
    """What it costs to train with the best rate of the smallest size: for each `arm`, `size` and `seed` the loss there
    minus that at the own best rate, `penalty`, in nats.

    Both are read off parabolas in ln lr through neighbouring rates. Null where one of the best rates is at an end of
    its grid, or the rate of the smallest size is beyond the grid.
    """
    best = best_lr(sweep)
    base = best.filter(pl.col("size") == pl.col("size").min()).select("arm", "seed", pl.col("lr_opt").alias("lr_base"))
    rows = []
    for row in best.join(base, on=["arm", "seed"], how="left", maintain_order="left").iter_rows(named=True):
        penalty = None
        if row["lr_opt"] is not None and row["lr_base"] is not None:
            curve = sweep.filter(pl.col(key) == row[key] for key in CURVE).sort("lr")
            there = _loss_at(curve["lr"].to_numpy(), curve["loss"].to_numpy(), row["lr_base"])
            penalty = None if there is None else there - row["loss_opt"]
        rows.append({key: row[key] for key in (*CURVE, "lr_base")} | {"penalty": penalty})
    return pl.DataFrame(rows, infer_schema_length=None)


def _loss_at(lr: Array, loss: Array, wanted: float) -> float | None:
    """Of the parabola in ln lr through the rate next to `wanted` and its neighbours; None beyond the grid."""
    if not lr[0] <= wanted <= lr[-1] or len(lr) < 3:
        return None
    k = int(np.clip(np.abs(np.log(lr / wanted)).argmin(), 1, len(lr) - 2))
    near = slice(k - 1, k + 2)
    return float(np.polyval(np.polyfit(np.log(lr[near] / wanted), loss[near], 2), 0.0))


def _shifts(sweep: pl.DataFrame, arm: str, *, at_most: bool = False) -> Sample:
    """For each seed how far the best rate moves from the smallest size to the largest, in log2.

    None at all if a seed's best rate is at an end of its grid: to leave that seed out would select those that move
    little. With `at_most` a rate at the lower end of the largest size stands for all below it: the shift is then an
    upper bound.
    """
    ends = (pl.col("size") == pl.col("size").min()) | (pl.col("size") == pl.col("size").max())
    curves = sweep.filter(pl.col("arm") == arm)
    lowest = curves.group_by("size", "seed").agg(
        pl.col("lr").min().alias("lr_low"), pl.col("lr").sort_by("loss").first().alias("lr_best")
    )
    best = best_lr(curves).filter(ends).join(lowest, on=["size", "seed"])
    if at_most:
        bounded = (pl.col("size") == pl.col("size").max()) & (pl.col("lr_best") == pl.col("lr_low"))
        best = best.with_columns(pl.when(bounded).then(pl.col("lr_low")).otherwise(pl.col("lr_opt")).alias("lr_opt"))
    unknown = AT_AN_END if best["lr_opt"].null_count() else None
    per_decade = slopes(best, "lr_opt", log_value=True)
    return (per_decade * log2(_ratio(sweep))).behind(curves).or_say(AT_AN_END).unless(unknown)


def _ratio(sweep: pl.DataFrame) -> float:
    smallest, largest = span(sweep, "size")
    return largest / smallest


def _stays(sweep: pl.DataFrame, arm: str, what: str) -> Claim:
    return Claim(
        f"Under {ARMS[arm]} the best learning rate does not move with the {what}.",
        of=_shifts(sweep, arm),
        statistic=f"log2 of the best rate at {_ratio(sweep):g} times the {what} over that of the base",
        accept=between(-ONE_STEP, ONE_STEP),
    )


def _moves(sweep: pl.DataFrame, arm: str, what: str, *, most: float) -> Claim:
    name = "the standard parametrisation" if arm == "standard" else ARMS[arm]
    return Claim(
        f"Under {name} the best learning rate moves left with the {what}.",
        of=_shifts(sweep, arm, at_most=True),
        statistic=f"log2 of the best rate at {_ratio(sweep):g} times the {what} over that of the base; where it is the "
        "lowest of the grid, an upper bound",
        accept=below(most),
    )


def _costs_more(sweep: pl.DataFrame, arm: str, other: str, what: str) -> Claim:
    penalty = transfer_penalty(sweep).filter(pl.col("size") == pl.col("size").max())
    both = sweep.filter(pl.col("arm").is_in([arm, other]))
    return Claim(
        f"Over the {what} the rate of the base costs more under {ARMS[arm]} than under {ARMS[other]}.",
        of=arms_apart(penalty, "penalty", arm, other).behind(both).or_say(AT_AN_END),
        statistic=f"loss with the base's best rate minus loss with the own one at {_ratio(sweep):g} times the {what}, "
        f"{ARMS[arm]} minus {ARMS[other]}, nats",
        accept=above(0),
    )


def _draw(sweep: pl.DataFrame, stem: Path, size_label: str) -> None:
    """A panel of loss against learning rate for each arm, coloured by size, a ring on every best rate and an arrow
    where it is at an end; then the best rate and the penalty of the base's against size."""
    arms = {arm: name for arm, name in ARMS.items() if arm in set(sweep["arm"])}
    colours = style.size_colours(sweep["size"].to_numpy())
    mean = sweep.group_by("arm", "size", "lr", maintain_order=True).agg(pl.col("loss").mean(), seed=pl.lit(0))
    of_mean, best, penalty = best_lr(mean), best_lr(sweep), transfer_penalty(sweep)
    with style.panels((2.15 * (len(arms) + 2) + 0.8, 2.9), 1, len(arms) + 2) as (figure, panels):
        limits, (lowest, highest) = _limits(mean), lr_window(sweep)
        for axes, (arm, name) in zip(panels, arms.items(), strict=False):
            draw_curves(axes, sweep.filter(pl.col("arm") == arm), colours)
            _mark_optima(axes, of_mean.filter(pl.col("arm") == arm), mean.filter(pl.col("arm") == arm), colours)
            axes.set(title=name, xlim=(lowest / 1.5, highest * 1.5), ylim=limits)
            axes.set_xscale("log", base=2)
            axes.tick_params(labelleft=axes is panels[0])
        panels[0].set_ylabel(style.VALIDATION_LOSS)
        style.size_bar(figure, panels[len(arms) - 1], colours, size_label)
        _draw_best(panels[-2], best, of_mean, size_label)
        draw_arm_intervals(panels[-1], penalty, ARMS, "penalty")
        panels[-1].axhline(0, color=style.REFERENCE, linewidth=0.7)
        panels[-1].set_ylabel("loss with the base's best rate\nminus with the own (nats)")
        style.doubling_axis(panels[-1], penalty["size"].unique().sort().to_list(), size_label)
    table = sweep.drop("folder").join(best.drop("n_runs"), on=CURVE, how="left").join(penalty, on=CURVE, how="left")
    write_picture(figure, table, stem)


def _limits(mean: pl.DataFrame) -> tuple[float, float]:
    """From below the best loss to what the worst curve has one rate beside its best: far rates leave the picture."""
    low = float(mean["loss"].min())  # type: ignore[arg-type]  # polars says Any
    high = float(mean["loss"].quantile(0.9))  # type: ignore[arg-type]
    return low - 0.06 * (high - low), high + 0.1 * (high - low)


def _mark_optima(axes: Axes, best: pl.DataFrame, mean: pl.DataFrame, colours: Mapping[float, Any]) -> None:
    for row in best.iter_rows(named=True):
        look = {"color": colours[row["size"]], "markersize": 8, "mew": 1.4, "fillstyle": "none", "zorder": 5}
        if row["at_edge"]:
            lowest = mean.filter(pl.col("size") == row["size"]).sort("loss").row(0, named=True)
            side = "<" if lowest["lr"] == mean["lr"].min() else ">"
            axes.plot(lowest["lr"], lowest["loss"], side, **look)
        else:
            axes.plot(row["lr_opt"], row["loss_opt"], "o", **look)


def _draw_best(axes: Axes, best: pl.DataFrame, of_mean: pl.DataFrame, label: str) -> None:
    """Best rate against size, where the mean over seeds has one too, and the line that falls as 1/size."""
    inner = of_mean.filter(~pl.col("at_edge"))
    draw_arm_intervals(axes, best.join(inner, on=["arm", "size"], how="semi"), ARMS, "lr_opt", log=True)
    sizes = best["size"].unique().sort().to_numpy()
    axes.set_yscale("log", base=2)
    known = best.filter(pl.col("lr_opt").is_not_null())
    if not known.is_empty():
        rates = geometric_mean_over_seeds(known, "lr_opt")["mean"].to_numpy()
        axes.plot(sizes, rates[0] * sizes[0] / sizes, ":", color=style.REFERENCE, label=f"1/{label}")
        # Intervals of few seeds can be wider than anything of interest.
        axes.set_ylim(rates[0] * sizes[0] / sizes[-1] / 16, rates.max() * 4)
        axes.legend(loc="lower left")
    axes.set_ylabel("best learning rate")
    style.doubling_axis(axes, sizes.tolist(), label)

"""Figures 8, E.4 to E.6: loss over learning rates and the best rate over widths, standard and three variants of muP."""

from __future__ import annotations

from math import log2
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import CURVE, RISE, arm_where, best_lr, lr_window, read_sweep, sensitivity, span
from analysis.stability.plot_arms import arm_colours
from analysis.stability.plot_lr_sweep import aside, draw_arm_intervals, draw_curves, draw_lr_sweep

STANDARD, SIMPLE, INTERMEDIATE, FULL = "standard", "simple", "intermediate", "full"
VARIANTS = {SIMPLE: "simple muP", INTERMEDIATE: "intermediate muP", FULL: "full muP"}
ARMS = {STANDARD: "standard"} | VARIANTS
UNNORMALISED = "simple, without QK-norm"
SAME = 0.02  # in ln loss
LESS = 0.05  # nats of LR sensitivity: less than half of what QK-norm changes


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity` and `best_lr`. `simple` and `intermediate` have no runs at the base width, where they are the
    standard parametrisation; `simple` has some at high rates without QK-norm."""
    bare, standard = pl.col("model.qk_norm") == "none", pl.col("param.name") == "standard"
    arm = arm_where({UNNORMALISED: bare, STANDARD: standard}, pl.col("param.variant"))
    whole = read_sweep(runs, arm, size=pl.col("model.width"))
    at_base = whole.filter((pl.col("arm") == STANDARD) & (pl.col("size") == pl.col("size").min()))
    same = [at_base.with_columns(pl.lit(name).alias("arm")) for name in (SIMPLE, INTERMEDIATE)]
    sweep = pl.concat([whole.filter(pl.col("arm") != UNNORMALISED), *same]).sort("arm", "size", "lr", "seed")
    unnormalised = whole.filter(pl.col("arm") == UNNORMALISED)
    draw_lr_sweep(sweep, folder / "sensitivity", arms=ARMS, size_label="width")
    _draw_best_lr(sweep, unnormalised, folder)
    return _claims(sweep, unnormalised)


def _claims(sweep: pl.DataFrame, unnormalised: pl.DataFrame) -> list[Claim]:
    smallest, largest = span(sweep, "size")
    highest = lr_window(sweep)[1]
    lr_opt = best_lr(sweep).with_columns(pl.col("lr_opt").log(2))
    sensitive = sensitivity(sweep).with_columns(pl.col("best_loss").log())
    n_runs = {name: len(sweep.filter(pl.col("arm") == name)) for name in ARMS}
    half = log2(largest / smallest) / 2

    def shift(arm: str) -> Sample:
        moved = by_seed(lr_opt, "lr_opt", arm=arm, size=largest) - by_seed(lr_opt, "lr_opt", arm=arm, size=smallest)
        return moved.behind(n_runs[arm]).or_say("the best rate lies at an edge of the grid")

    def apart(value: str, arm: str) -> Sample:
        return arms_apart(sensitive, value, arm, STANDARD, size=largest).behind(n_runs[arm] + n_runs[STANDARD])

    moves = f"log2 of the best rate at width {largest:g} over that at {smallest:g}"
    normalised = by_seed(sweep, "loss", arm=SIMPLE, size=largest, lr=highest)
    return [
        Claim(
            "In the standard parametrisation the best learning rate falls with width.",
            of=shift(STANDARD),
            statistic=moves,
            accept=below(0),
        ),
        *(
            Claim(
                f"Under {name} the best learning rate stays where it is.",
                of=shift(arm),
                statistic=moves,
                accept=between(-half, half, "half the shift of a rate in proportion to 1/width", form=".2g"),
            )
            for arm, name in VARIANTS.items()
        ),
        *(
            Claim(
                f"With {name} training is not less sensitive to the learning rate.",
                of=apart("sensitivity", arm),
                statistic=f"LR sensitivity with {name} minus standard at width {largest:g}, nats",
                accept=above(-LESS),
            )
            for arm, name in VARIANTS.items()
        ),
        *(
            Claim(
                f"With {name} the loss is not lower.",
                of=apart("best_loss", arm),
                statistic=f"ln of the best loss with {name} minus standard at width {largest:g}",
                accept=above(-SAME),
            )
            for arm, name in VARIANTS.items()
        ),
        Claim(
            "muP does not replace QK-norm: without it training still fails at a high learning rate.",
            of=(by_seed(unnormalised, "loss", lr=highest) - normalised).behind(unnormalised),
            statistic=f"loss of simple muP without minus with QK-norm at width {largest:g} and a rate of {highest:g}, "
            "nats",
            accept=above(RISE),
        ),
    ]


def _draw_best_lr(sweep: pl.DataFrame, unnormalised: pl.DataFrame, folder: Path) -> None:
    """`best_lr`: best rate and loss against width, and simple muP at the largest width with and without QK-norm."""
    largest = span(sweep, "size")[1]
    with style.panels((9.2, 3.0), 1, 3) as (figure, (rate_axes, loss_axes, norm_axes)):
        best = sensitivity(sweep)
        rates = _draw_rates(rate_axes, sweep).join(best.select(*CURVE, "best_loss"), on=CURVE, maintain_order="left")
        draw_arm_intervals(loss_axes, best, ARMS, "best_loss")
        style.loss_axis(loss_axes, f"lowest {style.VALIDATION_LOSS}")
        loss_axes.legend()
        for axes in (rate_axes, loss_axes):
            style.doubling_axis(axes, sorted(sweep["size"].unique()), "width")
            axes.margins(x=0.12)
        at_largest = sweep.filter((pl.col("arm") == SIMPLE) & (pl.col("size") == largest))
        for table, colour, name in (
            (at_largest, style.ARMS[1], "with QK-norm"),
            (unnormalised, style.HELD_OUT, "without QK-norm"),
        ):
            draw_curves(norm_axes, table, {float(size): colour for size in table["size"].unique()})
            norm_axes.plot([], [], "o-", color=colour, label=name)
        style.loss_axis(norm_axes, style.VALIDATION_LOSS)
        norm_axes.set_title(f"simple muP, width {largest:g}")
        norm_axes.legend()
    drawn = pl.concat([rates, unnormalised.select(*CURVE, "lr", "loss")], how="diagonal")
    write_picture(figure, drawn, folder / "best_lr")


def _draw_rates(axes: Axes, sweep: pl.DataFrame) -> pl.DataFrame:
    """The geometric mean over seeds, and an open triangle where an optimum is at an edge. Returns every seed's best
    rate, `lr_opt`, and the rate of its lowest point, `lr`."""
    lowest_point = sweep.sort("loss").group_by(*CURVE, maintain_order=True).first().select(*CURVE, "lr")
    rates = best_lr(sweep).drop("n_runs").join(lowest_point, on=CURVE, maintain_order="left")
    low, _ = lr_window(sweep)
    draw_arm_intervals(axes, rates, ARMS, "lr_opt", log=True)
    at_edge = rates.filter(pl.col("at_edge"))
    for k, (arm, colour) in enumerate(arm_colours(ARMS).items()):
        for size, lr in at_edge.filter(pl.col("arm") == arm).select("size", "lr").iter_rows():
            axes.plot(size * aside(k, ARMS), lr, "v" if lr == low else "^", color=colour, mfc="none", markersize=6)
    axes.set(yscale="log", ylabel="best learning rate")
    if len(at_edge):
        axes.legend(axes.plot([], [], "^", color=style.REFERENCE, mfc="none"), ["at an edge of the grid"])
    return rates

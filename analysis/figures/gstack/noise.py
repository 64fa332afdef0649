"""Du et al. 2024 (arXiv 2405.15319), figure 41: noise on the weights that grow."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, courses_of, draw_line, flops_axis, show_losses, zero_line
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.lineage import FROM_SCRATCH, trace

DEPTH, WIDTH = "stacked depth", "duplicated width"
ARMS = (WIDTH, DEPTH)
NONE, SOME, MUCH = 0.0, 0.2, 0.4


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `noise` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch, and grown in depth and in width with noise.
    """
    deeper = pl.col("base_depth") < pl.col("model.depth")
    arm = arm_of(pl.when(deeper).then(pl.lit(DEPTH)).otherwise(pl.lit(WIDTH)))
    traced = trace(runs).with_columns(arm, pl.col("grow.noise").alias("noise"))
    ends = finals(traced)
    grown = ends.filter(~FROM_SCRATCH)
    _draw(courses_of(traced, ends, "arm", "noise"), grown, folder)
    steps = ((SOME, NONE, "better", below(0.0)), (MUCH, SOME, "worse", above(0.0)))
    claims = [
        Claim(
            f"Noise of {amount:g} is {word} than {less:g} for {arm}.",
            of=by_seed(grown, "loss", arm=arm, noise=amount) - by_seed(grown, "loss", arm=arm, noise=less),
            statistic=f"final validation loss of {arm}, noise {amount:g} minus {less:g} (nats)",
            accept=region,
        )
        for amount, less, word, region in steps
        for arm in ARMS
    ]
    return name_broken(claims, traced)


def _draw(course: pl.DataFrame, grown: pl.DataFrame, folder: Path) -> None:
    """`noise`: the loss since growth by noise, beside scratch, in depth and in width; and what noise changes at the
    end."""
    amounts = sorted(grown["noise"].unique())
    colours = style.setting_colours(grown["noise"].to_numpy())
    since = course.filter("since_growth").drop_nulls("val_loss")
    drawn = []
    with style.paper():
        figure = Figure(figsize=(10.2, 3.3))
        *curves, change = figure.subplots(1, 3)
        for axes, arm in zip(curves, ARMS, strict=True):
            lines = [(None, style.REFERENCE, "scratch"), *((a, colours[a], f"a = {a:g}") for a in amounts)]
            for amount, colour, label in lines:
                rows = since.filter(
                    pl.col("arm") == SCRATCH if amount is None else (pl.col("arm") == arm) & (pl.col("noise") == amount)
                )
                drawn.append(draw_line(axes, rows, label, colour, arm=arm, noise=amount))
            show_losses(axes, since.filter(pl.col("arm") != SCRATCH)["val_loss"])
            flops_axis(axes)
            axes.set_title(arm)
        curves[0].set_ylabel(LOSS)
        curves[0].legend()
        _draw_change(change, grown)
    write_picture(figure, pl.concat(drawn, how="vertical_relaxed"), folder / "noise")


def _draw_change(axes: Axes, grown: pl.DataFrame) -> None:
    """The final loss minus that of the same seed without noise."""
    without = grown.filter(pl.col("noise") == NONE).select("arm", "seed", pl.col("loss").alias("quiet"))
    change = grown.join(without, on=["arm", "seed"]).with_columns((pl.col("loss") - pl.col("quiet")).alias("change"))
    for k, arm in enumerate(ARMS):
        if change.filter(pl.col("arm") == arm).is_empty():
            continue
        points = mean_over_seeds(change.filter(pl.col("arm") == arm), "change", ("noise",))
        shift = 0.006 * (2 * k - 1)  # or intervals would hide each other
        draw_intervals(axes, points["noise"] + shift, points, fmt="o-", color=style.ARMS[k], capsize=2, label=arm)
    zero_line(axes)
    axes.set_xlabel("noise a")
    axes.set_ylabel("final loss minus that without noise\n(nats per token)")
    if len(change):
        axes.legend()

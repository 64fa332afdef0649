"""Du et al. 2024 (arXiv 2405.15319), figure 41: noise on the weights that grow."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.figures.gstack.plots import LOSS, flops_axis, show_losses
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken
from analysis.stability.lr_sweep import by_seed, differences
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.lineage import FROM_SCRATCH, courses, trace
from train.record.files import write_bytes

DEPTH, WIDTH = "stacked depth", "duplicated width"
ARMS = (WIDTH, DEPTH)
NONE, SOME, MUCH = 0.0, 0.2, 0.4


def noise(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `noise` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch, and grown in depth and in width with noise.
    """
    deeper = pl.col("base_depth") < pl.col("model.depth")
    arm = arm_of(pl.when(deeper).then(pl.lit(DEPTH)).otherwise(pl.lit(WIDTH)))
    traced = trace(runs).with_columns(arm, pl.col("grow.noise").alias("noise"))
    ends = finals(traced)
    grown = ends.filter(~FROM_SCRATCH)
    course = courses(traced, ends["run_id"]).join(ends.select("run_id", "arm", "noise"), on="run_id", how="left")
    _draw(course, grown, out)
    claims = [
        *(_claim(grown, arm, SOME, NONE, better=True) for arm in ARMS),
        *(_claim(grown, arm, MUCH, SOME, better=False) for arm in ARMS),
    ]
    return name_broken(claims, traced)


def _claim(grown: pl.DataFrame, arm: str, one: float, other: float, *, better: bool) -> Claim:
    values = (by_seed(grown, "loss", arm=arm, noise=amount) for amount in (one, other))
    return claim_over_seeds(
        differences(*values),
        sentence=f"Noise of {one:g} is {'better' if better else 'worse'} than {other:g} for {arm}.",
        statistic=f"final validation loss of {arm}, noise {one:g} minus {other:g} (nats)",
        threshold="below 0" if better else "above 0",
        low=-math.inf if better else 0.0,
        high=0.0 if better else math.inf,
        n_runs=grown.filter((pl.col("arm") == arm) & pl.col("noise").is_in([one, other])).height,
    )


def _draw(course: pl.DataFrame, grown: pl.DataFrame, out: Path) -> None:
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
                own = since.filter(pl.col("arm") == SCRATCH if amount is None else _is(arm, amount))
                points = draw_over_seeds(
                    axes, own, "flops", "val_loss", colour=colour, line="-", label=label, log=False
                )
                drawn.append(points.select(pl.lit(arm).alias("arm"), pl.lit(amount).alias("noise"), pl.all()))
            show_losses(axes, since.filter(pl.col("arm") != SCRATCH)["val_loss"])
            flops_axis(axes)
            axes.set_title(arm)
        curves[0].set_ylabel(LOSS)
        curves[0].legend()
        _draw_change(change, grown)
        style.save(figure, out / "noise")
    write_bytes(out / "noise.csv", pl.concat(drawn, how="vertical_relaxed").write_csv().encode())


def _is(arm: str, amount: float) -> pl.Expr:
    return (pl.col("arm") == arm) & (pl.col("noise") == amount)


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
    axes.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)
    axes.set_xlabel("noise a")
    axes.set_ylabel("final loss minus that without noise\n(nats per token)")
    if len(change):
        axes.legend()

"""Hägele et al. 2024 (arXiv 2405.18392): one trunk cooled down at several lengths, and a run from scratch for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import Sample, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, show_losses, zero_line
from analysis.figures.gstack.spike import KEPT
from analysis.growth.speed_up import SCRATCH, name_broken
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.csv import TableError
from analysis.tables.runs import read_curves
from analysis.tables.select import FINISHED, annealed
from conf.command_line import counted

TRUNK, BRANCH, FRESH = "trunk", "branch", "branch with fresh moments"
HALF = 0.5


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `cooldowns` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a trunk at a constant rate, its branches with either moments, and runs
            from scratch of the same lengths.

    Raises:
        TableError: none of those that decay has finished.
    """
    arm = (
        pl.when(pl.col("schedule.shape") == "constant")
        .then(pl.lit(TRUNK))
        .when(pl.col("grow.base").is_null())
        .then(pl.lit(SCRATCH))
        .when(pl.col("grow.optimizer") == "carry")
        .then(pl.lit(BRANCH))
        .otherwise(pl.lit(FRESH))
    )
    runs = runs.with_columns(arm.alias("arm"))
    table = runs.filter(FINISHED)
    if not annealed(table).any():
        raise TableError(f"none of {counted(len(runs), 'run')} has decayed and finished")
    curves = read_curves([Path(folder) for folder in table["folder"]]).drop_nulls("val_loss")
    curves = curves.join(table.select(pl.col("run_id").alias("curve"), "arm", "seed", "n_tokens"), on="curve")
    _draw(curves, table, folder)
    return name_broken(_claims(table, curves), runs)


# --- claims ----------------------------------------------------------------------------------------------


def apart(table: pl.DataFrame, arm: str, other: str) -> pl.DataFrame:
    """`apart`, the final loss of one arm minus that of another, for each `seed` and `n_tokens`."""
    keys = ["seed", "n_tokens"]
    first, second = (
        table.filter(pl.col("arm") == name).select(*keys, pl.col("loss").alias(name)) for name in (arm, other)
    )
    return first.join(second, on=keys).with_columns((pl.col(arm) - pl.col(other)).alias("apart")).sort(*keys)


def _claims(table: pl.DataFrame, curves: pl.DataFrame) -> list[Claim]:
    def runs_of(*arms: str) -> pl.DataFrame:
        return table.filter(pl.col("arm").is_in(arms))

    largest = apart(table, BRANCH, SCRATCH).group_by("seed", maintain_order=True).agg(pl.col("apart").abs().max())
    spread = runs_of(SCRATCH).group_by("n_tokens", maintain_order=True).agg(pl.col("loss").std())["loss"].mean()
    noise = max(KEPT, float(spread or 0))  # type: ignore[arg-type]  # polars says Any
    n_lengths = runs_of(BRANCH)["n_tokens"].n_unique()
    return [
        Claim(
            "A branch ends where a run from scratch of its length does.",
            of=by_seed(largest, "apart").behind(runs_of(BRANCH, SCRATCH)),
            statistic="final validation loss, branch minus scratch, the largest size over the lengths (nats)",
            accept=below(
                noise,
                f"the standard deviation between seeds of runs from scratch, or {KEPT:g} if that is more",
                form=".3g",
            ),
        ),
        Claim(
            "A branch that begins with fresh moments ends higher.",
            of=by_seed(apart(table, FRESH, SCRATCH), "apart").behind(runs_of(FRESH, SCRATCH)),
            statistic="final validation loss, branch with fresh moments minus scratch, mean over the lengths (nats)",
            accept=above(0.0),
        ),
        Claim(
            "The decay lowers the loss below that of the constant rate at as many tokens.",
            of=_gain_of_decay(runs_of(BRANCH), curves.filter(pl.col("arm") == TRUNK)),
            statistic="validation loss of the trunk minus the final one of the branch at as many tokens, mean over the "
            "lengths that the trunk reaches (nats)",
            accept=above(0.0),
        ),
        Claim(
            "Sharing the trunk saves half of the compute.",
            of=_saved(runs_of(TRUNK, BRANCH), n_lengths),
            statistic="1 minus FLOPs of the trunk and its branches over those of the same runs from scratch, for "
            f"{n_lengths} evenly spaced lengths",
            accept=above(HALF),
        ),
    ]


def _gain_of_decay(branches: pl.DataFrame, trunks: pl.DataFrame) -> Sample:
    rows = []
    for (seed,), trunk in trunks.sort("tokens").group_by("seed", maintain_order=True):
        for tokens, loss in branches.filter(pl.col("seed") == seed).select("n_tokens", "loss").iter_rows():
            if tokens <= trunk["tokens"].max():
                on_trunk = float(np.interp(tokens, trunk["tokens"].to_numpy(), trunk["val_loss"].to_numpy()))
                rows.append({"seed": seed, "gain": on_trunk - loss})
    gains = pl.DataFrame(rows, schema={"seed": pl.Int64, "gain": pl.Float64})
    return by_seed(gains, "gain").behind(len(rows) + gains["seed"].n_unique())


def _saved(runs: pl.DataFrame, n_lengths: int) -> Sample:
    saved = []
    for _, rows in runs.group_by("seed", maintain_order=True):
        branches = rows.filter(pl.col("arm") == BRANCH)
        if len(branches) == n_lengths > 0 and len(rows) > n_lengths:  # with its trunk
            shared = rows.select((pl.col("flops") - pl.col("flops_inherited")).sum()).item()
            saved.append(1 - shared / branches["flops"].sum())
    return Sample.of(saved, runs)


# --- figure ----------------------------------------------------------------------------------------------


def _draw(curves: pl.DataFrame, table: pl.DataFrame, folder: Path) -> None:
    """`cooldowns`: for one seed the trunk and its branches over tokens, with the ends of runs from scratch on top; and
    by how much branches end apart from scratch, over all seeds."""
    most = table.group_by("seed").len().sort(-pl.col("len").cast(pl.Int64), "seed")
    seed = most["seed"][0]  # the first one of those that lack least
    shown = curves.filter((pl.col("seed") == seed) & (pl.col("step") > 0)).sort("tokens")
    trunk, branches = (shown.filter(pl.col("arm") == arm) for arm in (TRUNK, BRANCH))
    ends = table.filter((pl.col("arm") == SCRATCH) & (pl.col("seed") == seed))
    colours = style.setting_colours(branches["n_tokens"].to_numpy())
    with style.paper():
        figure = Figure(figsize=(8.8, 3.5))
        loss, gap = figure.subplots(1, 2, width_ratios=[1.25, 1])
        loss.plot(trunk["tokens"], trunk["val_loss"], color=style.REFERENCE, label="trunk, constant rate")
        for k, length in enumerate(colours):
            branch = branches.filter(pl.col("n_tokens") == length)
            start = trunk.filter(pl.col("tokens") < branch["tokens"][0]).tail(1)
            tokens, losses = (pl.concat([start[name], branch[name]]) for name in ("tokens", "val_loss"))
            loss.plot(tokens, losses, color=colours[length], label=None if k else "branches, decaying")
            loss.plot(tokens[-1:], losses[-1:], "o", color=colours[length], markersize=3.5)
        loss.plot(ends["n_tokens"], ends["loss"], "o", mfc="none", mec="black", markersize=7, label="from scratch")
        late = shown.filter(pl.col("tokens") >= 0.5 * min(table.filter(pl.col("arm") != TRUNK)["n_tokens"]))
        show_losses(loss, pl.concat([late["val_loss"], ends["loss"]]))
        loss.set_xlabel("training tokens")
        loss.xaxis.set_major_formatter(style.count_ticks())
        loss.set_ylabel(LOSS)
        loss.set_title(f"seed {seed}")
        loss.legend()
        _draw_apart(gap, table)
    drawn = curves.select("arm", "seed", "n_tokens", "tokens", "flops", "val_loss")
    write_picture(figure, drawn.sort("seed", "arm", "n_tokens", "tokens"), folder / "cooldowns")


def _draw_apart(axes: Axes, table: pl.DataFrame) -> None:
    for k, arm in enumerate((BRANCH, FRESH)):
        measured = apart(table, arm, SCRATCH)
        axes.errorbar([], [], [], fmt="o-", color=style.ARMS[k], label=arm)
        if len(measured):
            points = mean_over_seeds(measured, "apart", ("n_tokens",))
            draw_intervals(axes, points["n_tokens"], points, fmt="o-", color=style.ARMS[k], capsize=2)
    zero_line(axes)
    axes.set_xlabel("training tokens")
    axes.xaxis.set_major_formatter(style.count_ticks())
    axes.set_ylabel("final loss minus that from scratch\n(nats per token)")
    axes.set_title("all seeds")
    axes.legend()

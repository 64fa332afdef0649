"""Hägele et al. 2024 (arXiv 2405.18392): one trunk cooled down at several lengths, and a run from scratch for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.figures.gstack.plots import LOSS, show_losses
from analysis.figures.gstack.spike import KEPT
from analysis.growth.speed_up import SCRATCH, name_broken
from analysis.stability.lr_sweep import by_seed
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.tables.csv import TableError
from analysis.tables.runs import read_curves
from analysis.tables.select import FINISHED, annealed
from conf.command_line import counted
from train.record.files import write_bytes

TRUNK, BRANCH, FRESH = "trunk", "branch", "branch with fresh moments"
HALF = 0.5


def cooldowns(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `cooldowns` into `out`, and return the claims.

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
    _draw(curves, table, out)
    claims = [_same_claim(table), _moments_claim(table), _decay_claim(table, curves), _saved_claim(table)]
    return name_broken(claims, runs)


# --- claims ----------------------------------------------------------------------------------------------


def apart(table: pl.DataFrame, one: str, other: str) -> pl.DataFrame:
    """`apart`, the final loss of one arm minus that of another, for each `seed` and `n_tokens`."""
    keys = ["seed", "n_tokens"]
    both = (table.filter(pl.col("arm") == arm).select(*keys, pl.col("loss").alias(arm)) for arm in (one, other))
    first, second = both
    return first.join(second, on=keys).with_columns((pl.col(one) - pl.col(other)).alias("apart")).sort(*keys)


def _same_claim(table: pl.DataFrame) -> Claim:
    largest = apart(table, BRANCH, SCRATCH).group_by("seed", maintain_order=True).agg(pl.col("apart").abs().max())
    scratch = table.filter(pl.col("arm") == SCRATCH)
    spread = scratch.group_by("n_tokens", maintain_order=True).agg(pl.col("loss").std())["loss"].mean()
    noise = max(KEPT, float(spread or 0))  # type: ignore[arg-type]  # polars says Any
    return claim_over_seeds(
        largest["apart"].to_list(),
        sentence="A branch ends where a run from scratch of its length does.",
        statistic="final validation loss, branch minus scratch, the largest size over the lengths (nats)",
        threshold=f"below {noise:.3g}, the standard deviation between seeds of runs from scratch, or {KEPT:g} if that "
        "is more",
        high=noise,
        n_runs=table.filter(pl.col("arm").is_in([BRANCH, SCRATCH])).height,
    )


def _moments_claim(table: pl.DataFrame) -> Claim:
    return claim_over_seeds(
        list(by_seed(apart(table, FRESH, SCRATCH), "apart").values()),
        sentence="A branch that begins with fresh moments ends higher.",
        statistic="final validation loss, branch with fresh moments minus scratch, mean over the lengths (nats)",
        threshold="above 0",
        low=0.0,
        n_runs=table.filter(pl.col("arm").is_in([FRESH, SCRATCH])).height,
    )


def _decay_claim(table: pl.DataFrame, curves: pl.DataFrame) -> Claim:
    rows = []
    for (seed,), trunk in curves.filter(pl.col("arm") == TRUNK).sort("tokens").group_by("seed", maintain_order=True):
        branches = table.filter((pl.col("arm") == BRANCH) & (pl.col("seed") == seed))
        for tokens, loss in branches.select("n_tokens", "loss").iter_rows():
            if tokens <= trunk["tokens"].max():
                on_trunk = float(np.interp(tokens, trunk["tokens"].to_numpy(), trunk["val_loss"].to_numpy()))
                rows.append({"seed": seed, "gain": on_trunk - loss})
    gains = pl.DataFrame(rows, schema={"seed": pl.Int64, "gain": pl.Float64})
    return claim_over_seeds(
        list(by_seed(gains, "gain").values()),
        sentence="The decay lowers the loss below that of the constant rate at as many tokens.",
        statistic="validation loss of the trunk minus the final one of the branch at as many tokens, mean over the "
        "lengths that the trunk reaches (nats)",
        threshold="above 0",
        low=0.0,
        n_runs=len(rows) + gains["seed"].n_unique(),
    )


def _saved_claim(table: pl.DataFrame) -> Claim:
    n_lengths = table.filter(pl.col("arm") == BRANCH)["n_tokens"].n_unique()
    saved = []
    for _, rows in table.filter(pl.col("arm").is_in([TRUNK, BRANCH])).group_by("seed", maintain_order=True):
        branches = rows.filter(pl.col("arm") == BRANCH)
        if len(branches) == n_lengths > 0 and len(rows) > n_lengths:  # with its trunk
            own = rows.select((pl.col("flops") - pl.col("flops_inherited")).sum()).item()
            saved.append(1 - own / branches["flops"].sum())
    return claim_over_seeds(
        saved,
        sentence="Sharing the trunk saves half of the compute.",
        statistic="1 minus FLOPs of the trunk and its branches over those of the same runs from scratch, for "
        f"{n_lengths} evenly spaced lengths",
        threshold=f"above {HALF:g}",
        low=HALF,
        n_runs=table.filter(pl.col("arm").is_in([TRUNK, BRANCH])).height,
    )


# --- figure ----------------------------------------------------------------------------------------------


def _draw(curves: pl.DataFrame, table: pl.DataFrame, out: Path) -> None:
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
            own = branches.filter(pl.col("n_tokens") == length)
            start = trunk.filter(pl.col("tokens") < own["tokens"][0]).tail(1)
            tokens, losses = (pl.concat([start[name], own[name]]) for name in ("tokens", "val_loss"))
            label = None if k else "branches, decaying"
            loss.plot(tokens, losses, color=colours[length], label=label)
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
        style.save(figure, out / "cooldowns")
    drawn = curves.select("arm", "seed", "n_tokens", "tokens", "flops", "val_loss")
    write_bytes(out / "cooldowns.csv", drawn.sort("seed", "arm", "n_tokens", "tokens").write_csv().encode())


def _draw_apart(axes: Axes, table: pl.DataFrame) -> None:
    for k, arm in enumerate((BRANCH, FRESH)):
        measured = apart(table, arm, SCRATCH)
        axes.errorbar([], [], [], fmt="o-", color=style.ARMS[k], label=arm)
        if len(measured):
            points = mean_over_seeds(measured, "apart", ("n_tokens",))
            draw_intervals(axes, points["n_tokens"], points, fmt="o-", color=style.ARMS[k], capsize=2)
    axes.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)
    axes.set_xlabel("training tokens")
    axes.xaxis.set_major_formatter(style.count_ticks())
    axes.set_ylabel("final loss minus that from scratch\n(nats per token)")
    axes.set_title("all seeds")
    axes.legend()

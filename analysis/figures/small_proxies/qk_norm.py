"""Figures 1 and 2: loss over learning rates with and without QK-norm, and the attention logits behind it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis import style
from analysis.claims import Claim
from analysis.lr_sweep import (
    by_seed,
    differences,
    failing_lr,
    lr_window,
    read_sweep,
    sensitivity,
    slopes,
    with_metric,
)
from analysis.lr_sweep_plot import draw_lr_sweep, geometric_mean_over_seeds
from analysis.seeds import claim_over_seeds
from analysis.table import read_curves
from train.record import write_bytes

WITHOUT, WITH = "none", "head"
ARMS = {WITHOUT: "without QK-norm", WITH: "with QK-norm"}
LOGIT = "block0/attention_logit_max"
RISE = 0.25  # nats above the best loss at which a rate has failed
SAME = 0.02


def qk_norm(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `sensitivity` (figure 1) and `logits` (figure 2) into `out`, and return the claims.

    Args:
        runs: `analysis.table.read_runs` of both arms over learning rates, sizes and seeds.
    """
    sweep = with_metric(read_sweep(runs, pl.col("model.qk_norm")), LOGIT, lambda x: x.max(), "logit")
    draw_lr_sweep(sweep, out / "sensitivity", arms=ARMS)
    _draw_logits(sweep, out)
    return _claims(sweep)


# --- claims ----------------------------------------------------------------------------------------------


def _claims(sweep: pl.DataFrame) -> list[Claim]:
    lowest, highest = lr_window(sweep)
    without, with_ = (sweep.filter(pl.col("arm") == arm) for arm in ARMS)
    log_loss = sweep.with_columns(pl.col("loss").log())
    log_logit = sweep.with_columns(pl.col("logit").log10())
    n_runs = len(sweep)

    def gap(table: pl.DataFrame, value: str, **where: object) -> list[float]:
        return differences(
            by_seed(table, value, arm=WITHOUT, **where),
            by_seed(table, value, arm=WITH, **where),
        )

    fails = failing_lr(sweep, rise=RISE)
    all_train = f"no curve rises by {RISE:g} nats within the rates" if fails["censored"].all() else None
    fails = fails.with_columns(pl.col("lr_fail").log10())
    sensitive = sensitivity(sweep)
    return [
        claim_over_seeds(
            gap(log_loss, "loss", lr=lowest),
            sentence="At a low learning rate both arms reach the same loss.",
            statistic=f"ln loss without minus with QK-norm at a rate of {lowest:g}, mean over sizes",
            threshold=f"within -{SAME:g} and {SAME:g}",
            low=-SAME,
            high=SAME,
            n_runs=n_runs,
        ),
        claim_over_seeds(
            gap(sensitive, "sensitivity"),
            sentence="Training is less sensitive to the learning rate with QK-norm.",
            statistic="LR sensitivity without minus with QK-norm, mean over sizes, nats",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs,
        ),
        claim_over_seeds(
            [] if all_train else gap(fails, "lr_fail"),
            sentence="Without QK-norm training fails at a lower learning rate.",
            statistic=f"log10 of the rate at which the loss is {RISE:g} nats above its lowest, without minus with, "
            "mean over sizes; where it never is, the highest rate",
            threshold="below 0",
            high=0.0,
            n_runs=n_runs,
            reason=all_train,
        ),
        claim_over_seeds(
            [] if all_train else list(slopes(fails.filter(pl.col("arm") == WITHOUT), "lr_fail").values()),
            sentence="Without QK-norm that learning rate falls with size.",
            statistic="slope of its log10 against log10 of parameters",
            threshold="below 0",
            high=0.0,
            n_runs=len(without),
            reason=all_train,
        ),
        claim_over_seeds(
            [a - b for a, b in _pairs(log_logit.filter(pl.col("arm") == WITHOUT), "logit", highest, lowest)],
            sentence="Without QK-norm the largest attention logit grows by orders of magnitude with the learning rate.",
            statistic=f"log10 of block 0's largest attention logit at a rate of {highest:g} over that at {lowest:g}, "
            "mean over sizes",
            threshold="above 2",
            low=2.0,
            n_runs=len(without),
        ),
        claim_over_seeds(
            [a - b for a, b in _pairs(log_logit.filter(pl.col("arm") == WITH), "logit", highest, lowest)],
            sentence="With QK-norm it does not.",
            statistic="the same with QK-norm",
            threshold="below 1",
            high=1.0,
            n_runs=len(with_),
        ),
        claim_over_seeds(
            list(slopes(sensitive.filter(pl.col("arm") == WITH), "sensitivity").values()),
            sentence="Sensitivity rises with size even with QK-norm.",
            statistic="slope of LR sensitivity against log10 of parameters, nats per decade",
            threshold="above 0",
            low=0.0,
            n_runs=len(with_),
        ),
    ]


def _pairs(table: pl.DataFrame, value: str, one: object, other: object) -> list[tuple[float, float]]:
    """For each seed the value at two learning rates, mean over sizes."""
    first, second = by_seed(table, value, lr=one), by_seed(table, value, lr=other)
    return [(first[seed], second[seed]) for seed in first if seed in second]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_logits(sweep: pl.DataFrame, out: Path) -> None:
    """`logits`: training loss and block 0's largest attention logit over steps for the smallest and the largest model
    at one high rate, and the largest logit of a run against learning rate."""
    high = sweep["lr"].unique().sort()[-2]
    extremes = sweep.filter((pl.col("lr") == high) & pl.col("size").is_in([sweep["size"].min(), sweep["size"].max()]))
    one_seed = extremes.filter(pl.col("seed") == sweep["seed"].min())
    curves = read_curves([Path(folder) for folder in one_seed["folder"]])
    colours = style.size_colours(sweep["size"].to_numpy())
    lines = {WITHOUT: "-", WITH: "--"}
    drawn = []
    with style.paper():
        figure = Figure(figsize=(8.4, 2.9))
        loss_axes, logit_axes, rate_axes = figure.subplots(1, 3)
        highest = 0.0
        for run in one_seed.iter_rows(named=True):
            rows = curves.filter((pl.col("curve") == run["run_id"]) & (pl.col("step") > 0))
            colour = colours[run["size"]]
            look = {"color": colour, "linestyle": lines[run["arm"]]}
            smooth = rows.select("step", pl.col("train_loss").rolling_mean(9, min_samples=1))
            loss_axes.plot(smooth["step"], smooth["train_loss"], linewidth=1.0, **look)
            settled = smooth.filter(pl.col("step") > 0.1 * pl.col("step").max())
            highest = max(highest, settled["train_loss"].to_numpy().max())
            probed = rows.filter(pl.col(LOGIT).is_not_null())
            logit_axes.plot(probed["step"], probed[LOGIT], **look)
            drawn.append(
                rows.select("step", "train_loss", pl.col(LOGIT).alias("logit")).with_columns(
                    pl.lit(run["arm"]).alias("arm"), pl.lit(run["size"]).alias("size"), pl.lit(run["lr"]).alias("lr")
                )
            )
        for arm in ARMS:
            by_rate = geometric_mean_over_seeds(sweep.filter(pl.col("arm") == arm), "logit", by=("size", "lr"))
            for (size,), rows in by_rate.group_by("size", maintain_order=True):
                colour = colours[float(size)]
                rate_axes.plot(rows["lr"], rows["mean"], "o" + lines[arm], color=colour, mec="white", mew=0.5)
            drawn.append(by_rate.rename({"mean": "logit"}).with_columns(pl.lit(arm).alias("arm")))
            loss_axes.plot([], [], lines[arm], color=style.REFERENCE, label=ARMS[arm])
        loss_axes.set_ylim(top=1.1 * highest)  # the first steps fall from ln V
        loss_axes.set_ylabel("training loss (nats per token)")
        loss_axes.set_title(f"learning rate {high:g}")
        loss_axes.legend()
        logit_axes.set_ylabel("largest attention logit, block 0")
        logit_axes.set_title(f"learning rate {high:g}")
        rate_axes.set_ylabel("largest attention logit of a run")
        for axes in (loss_axes, logit_axes):
            axes.set_xlabel("step")
        for axes in (logit_axes, rate_axes):
            axes.set_yscale("log")
        rate_axes.set_xscale("log")
        rate_axes.set_xlabel("learning rate")
        style.size_bar(figure, rate_axes, colours, "parameters without embeddings")
        style.save(figure, out / "logits")
    write_bytes(out / "logits.csv", pl.concat(drawn, how="diagonal_relaxed").write_csv().encode())

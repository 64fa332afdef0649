"""The entropy of attention over steps and learning rates, with and without QK-norm, and under sigma-Reparam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import Sample, arms_apart
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.stability.attention import read_attention, with_attention
from analysis.stability.lr_sweep import RISE, arm_where, curves_of, read_sweep, sensitivity
from analysis.stability.plot_arms import draw_against_lr, draw_losses, draw_over_steps
from analysis.stability.plot_lr_sweep import loss_axis

BASELINE, NORM, SIGMA = "none", "head", "sigma"
ARMS = {BASELINE: "neither", NORM: "QK-norm", SIGMA: "σReparam"}
MARKERS = {BASELINE: "o", NORM: "s", SIGMA: "^"}
COLLAPSED = 0.1  # of the largest entropy
SMOOTH = 9  # steps of the training loss


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `steps`, `learning_rate` and `entropy_and_loss`."""
    arm = arm_where({SIGMA: pl.col("model.sigma_reparam")}, pl.col("model.qk_norm"))
    sweep = read_sweep(runs, arm)
    curves = curves_of(sweep)
    attention = read_attention(sweep, curves, context=runs["data.context"][0])
    sweep = with_attention(sweep, attention)
    _draw_steps(sweep, curves, attention, folder)
    _draw_learning_rate(sweep, folder)
    _draw_entropy_and_loss(sweep, folder)
    return _claims(sweep)


def _claims(sweep: pl.DataFrame) -> list[Claim]:
    baseline = sweep.filter(pl.col("arm") == BASELINE)
    rates = stalled_rates(baseline)
    no_stall = None if rates else f"without QK-norm no loss is {RISE:g} nats above the best one"
    stalled = sweep.filter(pl.col("lr").is_in(rates))
    bare = stalled.filter(pl.col("arm") == BASELINE)
    entropies = bare.group_by("seed").agg(pl.col("entropy").mean()).sort("seed")
    correlations = rank_correlations(baseline)
    kept = "entropy over its largest value at the end of a run, mean over blocks and the rates at which the runs with "
    kept += "neither stall"
    return [
        Claim(
            "Where training stalls without QK-norm, the attention's entropy has collapsed.",
            of=Sample.of(entropies["entropy"].to_list(), bare).or_say(no_stall),
            statistic=f"{kept} ({RISE:g} nats above the best loss)",
            accept=below(COLLAPSED),
        ),
        *(
            Claim(
                f"{name} keeps the attention's entropy where training stalls without it.",
                of=arms_apart(stalled, "entropy", arm, BASELINE).or_say(no_stall),
                statistic=f"{kept}; {name} minus neither",
                accept=above(COLLAPSED),
            )
            for arm, name in ARMS.items()
            if arm != BASELINE
        ),
        Claim(
            "Low entropy goes with a high loss.",
            of=Sample(correlations, len(baseline)).or_say(
                None if correlations else "fewer than three rates from the best one upwards"
            ),
            statistic="rank correlation of entropy with loss over the runs with neither, from their best rate upwards",
            accept=below(0),
        ),
        Claim(
            "Training is less sensitive to the learning rate with σReparam.",
            of=arms_apart(sensitivity(sweep), "sensitivity", BASELINE, SIGMA),
            statistic="LR sensitivity with neither minus with σReparam, nats",
            accept=above(0),
        ),
    ]


def stalled_rates(baseline: pl.DataFrame) -> list[float]:
    """The learning rates above the best one at which the mean loss is `RISE` above the lowest."""
    means = baseline.group_by("lr").agg(pl.col("loss").mean()).sort("lr")
    k = int(means["loss"].arg_min() or 0)
    return means[k:].filter(pl.col("loss") >= means["loss"][k] + RISE)["lr"].to_list()


def rank_correlations(baseline: pl.DataFrame) -> dict[int, float]:
    """For each seed Spearman's correlation of entropy with loss over the rates from its best one upwards, if they are
    three; at lower rates the loss is high for want of steps."""
    found = {}
    for (seed,), rows in baseline.sort("lr").group_by("seed", maintain_order=True):
        faster = rows[int(rows["loss"].arg_min() or 0) :].filter(pl.col("entropy").is_not_null())
        if len(faster) >= 3:
            entropy, loss = (faster[name].rank().to_numpy() for name in ("entropy", "loss"))
            if np.ptp(entropy) > 0 < np.ptp(loss):
                found[int(str(seed))] = float(np.corrcoef(entropy, loss)[0, 1])
    return found


def _draw_steps(sweep: pl.DataFrame, curves: pl.DataFrame, attention: pl.DataFrame, folder: Path) -> None:
    """`steps`: training loss, largest attention logit and entropy over the steps at one high rate, by arm."""
    rates = sweep["lr"].unique().sort()
    high = rates[max(len(rates) - 2, 0)]
    shown = sweep.filter(pl.col("lr") == high)
    curves = curves.filter(pl.col("train_loss").is_not_null())
    smooth = pl.col("train_loss").rolling_mean(SMOOTH, min_samples=1).over("curve", order_by="step")
    losses = shown.join(curves.with_columns(smooth), left_on="run_id", right_on="curve", suffix="_of_row")
    of_blocks = attention.filter(pl.col("lr") == high).group_by("arm", "seed", "step")
    probes = of_blocks.agg(pl.col("logit").max(), pl.col("entropy").mean())
    panels = {
        "train_loss": "training loss (nats per token)",
        "logit": "largest attention logit",
        "entropy": "attention entropy / largest",
    }
    key = ("arm", "seed", "step")
    parts = [table.select(*key, name) for table, name in zip((losses, probes, probes), panels, strict=True)]
    drawn = pl.concat(parts, how="diagonal").with_columns(pl.lit(high).alias("lr")).sort(*key, maintain_order=True)
    with style.panels((9.2, 2.9), 1, 3) as (figure, row):
        draw_over_steps(row, drawn, ARMS, panels)
        row[1].set_yscale("log")
        row[2].set_ylim(-0.02, 1.02)
        figure.suptitle(f"learning rate {high:g}", fontsize=9.5)
    write_picture(figure, drawn, folder / "steps")


def _draw_learning_rate(sweep: pl.DataFrame, folder: Path) -> None:
    """`learning_rate`: loss, largest logit and entropy at the end over learning rates, by arm."""
    with style.panels((9.2, 2.9), 1, 3) as (figure, (loss_axes, logit_axes, entropy_axes)):
        draw_losses(loss_axes, sweep, ARMS)
        draw_against_lr(logit_axes, sweep, ARMS, "logit", log=True)
        logit_axes.set_ylabel("largest attention logit of a run")
        draw_against_lr(entropy_axes, sweep, ARMS, "entropy")
        entropy_axes.set(ylabel="entropy / largest, at the end", ylim=(-0.02, 1.02))
    write_picture(figure, sweep.drop("folder"), folder / "learning_rate")


def _draw_entropy_and_loss(sweep: pl.DataFrame, folder: Path) -> None:
    """`entropy_and_loss`: the final loss of every run against its entropy, coloured by learning rate."""
    colours = style.setting_colours(sweep["lr"].to_numpy())
    with style.panels(style.ONE_PANEL) as (figure, axes):
        for arm, marker in MARKERS.items():
            own = sweep.filter((pl.col("arm") == arm) & pl.col("entropy").is_not_null())
            shades = [colours[lr] for lr in own["lr"]]
            axes.scatter(own["entropy"], own["loss"], c=shades, marker=marker, s=26, edgecolors="white", linewidths=0.5)
            axes.plot([], [], marker, color=style.REFERENCE, label=ARMS[arm])
        for lr, colour in colours.items():
            axes.plot([], [], "o", color=colour, label=f"{lr:g}")
        loss_axis(axes, sweep)
        axes.set(xlabel="attention entropy / largest, at the end", xlim=(-0.03, 1))
        handles, labels = axes.get_legend_handles_labels()
        n_arms = len(MARKERS)
        first = axes.legend(handles[:n_arms], labels[:n_arms], loc="upper right")
        axes.add_artist(first)
        figure.legend(handles[n_arms:], labels[n_arms:], loc="outside right center", title="learning\nrate")
    drawn = sweep.select("arm", "lr", "seed", "entropy", "loss", "run_id")
    write_picture(figure, drawn, folder / "entropy_and_loss")

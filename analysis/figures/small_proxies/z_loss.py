"""Figures 3 and 4: learning-rate sweeps with and without z-loss and weight decay, and the output logits of long runs.

The mean output logit is over the whole vocabulary. Bytes that never occur are pushed down from the start, so that it
says less here than in a vocabulary learned from the text; log Z is carried by the symbols that do occur.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import arm_where, curves_of, lr_window, read_sweep, sensitivity, with_numbers
from analysis.stability.plot_arms import draw_over_steps
from analysis.stability.plot_lr_sweep import draw_lr_sweep

NEITHER, Z_LOSS, DECAY, BOTH = "neither", "z-loss", "decay", "both"
ARMS = {NEITHER: "neither", Z_LOSS: "z-loss", DECAY: "weight decay", BOTH: "z-loss and\nweight decay"}
LONG = "1e5 steps at a rate of 0.1 or more; the paper's drift sets in towards their end"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity` (figure 3) and `log_z` (figure 4), of longer runs of the smallest size at high rates."""
    has_z_loss, decays = pl.col("optim.z_loss") > 0, pl.col("optim.weight_decay") > 0
    arm = arm_where({BOTH: has_z_loss & decays, Z_LOSS: has_z_loss, DECAY: decays}, pl.lit(NEITHER))
    is_long = pl.col("n_steps") > pl.col("n_steps").min()
    sweep = read_sweep(runs.filter(~is_long), arm)
    long = read_sweep(runs.filter(is_long), arm)
    draw_lr_sweep(sweep, folder / "sensitivity", arms=ARMS)
    curves = curves_of(long)
    _draw_log_z(long, curves, folder)
    return _claims(sweep, long, curves)


def _claims(sweep: pl.DataFrame, long: pl.DataFrame, curves: pl.DataFrame) -> list[Claim]:
    sensitive = sensitivity(sweep)
    log_z, logit = pl.col("log_z_mean").drop_nulls(), pl.col("logit_mean").drop_nulls()
    long = with_numbers(
        long, curves, log_z=_last_tenth(log_z).abs(), log_z_change=_late_change(log_z), logit_change=_late_change(logit)
    )
    when = "from the middle to the end of the long runs, each a tenth of their probes"
    return [
        *(
            Claim(
                f"z-loss keeps log Z nearer to 0{words}.",
                of=arms_apart(long, "log_z", without, with_),
                statistic="|mean log Z| over the last tenth of the long runs, without minus with z-loss, nats",
                accept=above(0),
            )
            for without, with_, words in ((NEITHER, Z_LOSS, ""), (DECAY, BOTH, ", also beside weight decay"))
        ),
        Claim(
            "Without z-loss and weight decay mean log Z drifts to negative values late in training.",
            of=by_seed(long, "log_z_change", arm=NEITHER),
            statistic=f"change of mean log Z {when}, nats",
            accept=below(0),
            needs=LONG,
        ),
        # The logits of bytes that never occur sink in every arm; z-loss, which sees log Z alone, lets them.
        Claim(
            "Late in training the mean output logit drifts further to negative values without z-loss.",
            of=arms_apart(long, "logit_change", NEITHER, Z_LOSS),
            statistic=f"change of the mean output logit {when}, without minus with z-loss, both without weight decay",
            accept=below(0),
            needs=LONG,
        ),
        Claim(
            "Without weight decay, z-loss makes training less sensitive to the learning rate.",
            of=arms_apart(sensitive, "sensitivity", NEITHER, Z_LOSS),
            statistic="LR sensitivity with neither minus with z-loss, mean over sizes, nats",
            accept=above(0),
            needs=LONG,
        ),
        Claim(
            "At the largest size weight decay alone makes training less sensitive to the learning rate.",
            of=arms_apart(sensitive, "sensitivity", NEITHER, DECAY, size=sweep["size"].max()),
            statistic="LR sensitivity with neither minus with weight decay, at the largest size, nats",
            accept=above(0),
            needs=LONG,
        ),
    ]


def _last_tenth(values: pl.Expr) -> pl.Expr:
    return values.tail(_tenth(values)).mean()


def _late_change(values: pl.Expr) -> pl.Expr:
    """The mean of the last tenth of the values minus that of as many at the end of their first half."""
    return _last_tenth(values) - values.head(values.len() // 2).tail(_tenth(values)).mean()


def _tenth(values: pl.Expr) -> pl.Expr:
    return pl.max_horizontal(values.len() // 10, 1)


def _draw_log_z(long: pl.DataFrame, curves: pl.DataFrame, folder: Path) -> None:
    """`log_z`: training loss, mean log Z and mean output logit over the steps of the long runs at the highest rate."""
    highest = lr_window(long)[1]
    shown = long.filter(pl.col("lr") == highest)
    arm_of_run = shown.select(pl.col("run_id").alias("curve"), "arm", "seed")
    curves = curves.filter(pl.col("log_z_mean").is_not_null()).join(arm_of_run, on="curve")
    panels = {
        "train_loss": "training loss (nats per token)",
        "log_z_mean": "mean log Z (nats)",
        "logit_mean": "mean output logit",
    }
    with style.panels((9.2, 3.0), 1, 3) as (figure, row):
        draw_over_steps(row, curves, ARMS, panels)
        for axes in row[1:]:
            axes.axhline(0, color=style.REFERENCE, linewidth=0.8)
        figure.suptitle(f"learning rate {highest:g}", fontsize=9.5)
    drawn = curves.select("arm", "seed", "step", *panels).sort("arm", "seed", "step")
    write_picture(figure, drawn, folder / "log_z")

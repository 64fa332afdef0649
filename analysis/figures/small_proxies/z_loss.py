"""Figures 3 and 4: learning-rate sweeps with and without z-loss and weight decay, and the output logits of long runs.

The mean output logit is over the whole vocabulary. Bytes that never occur are pushed down from the start, so that it
says less here than in a vocabulary learned from the text; log Z is carried by the symbols that do occur.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.stability.lr_sweep import arms_apart, by_seed, lr_window, read_sweep, sensitivity, with_metrics
from analysis.stability.plot_lr_sweep import draw_lr_sweep
from analysis.tables.runs import read_curves
from train.record.files import write_bytes

NEITHER, Z_LOSS, DECAY, BOTH = "neither", "z-loss", "decay", "both"
ARMS = {NEITHER: "neither", Z_LOSS: "z-loss", DECAY: "weight decay", BOTH: "z-loss and\nweight decay"}
LONG = "1e5 steps at a rate of 0.1 or more; the paper's drift sets in towards their end"


def z_loss(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `sensitivity` (figure 3) and `log_z` (figure 4) into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of the four arms over learning rates, sizes and seeds; and at the
            smallest size for longer at high rates.
    """
    has_z_loss, decays = pl.col("optim.z_loss") > 0, pl.col("optim.weight_decay") > 0
    arm = (
        pl.when(has_z_loss & decays)
        .then(pl.lit(BOTH))
        .when(has_z_loss)
        .then(pl.lit(Z_LOSS))
        .when(decays)
        .then(pl.lit(DECAY))
        .otherwise(pl.lit(NEITHER))
    )
    is_long = pl.col("n_steps") > pl.col("n_steps").min()
    sweep = read_sweep(runs.filter(~is_long), arm)
    long = read_sweep(runs.filter(is_long), arm)
    draw_lr_sweep(sweep, out / "sensitivity", arms=ARMS)
    _draw_log_z(long, out)
    return _claims(sweep, long)


# --- claims ----------------------------------------------------------------------------------------------


def _claims(sweep: pl.DataFrame, long: pl.DataFrame) -> list[Claim]:
    sensitive = sensitivity(sweep)
    largest = sweep["size"].max()
    long = with_metrics(
        long,
        {
            "log_z": ("log_z_mean", lambda values: _last_tenth(values).abs()),
            "log_z_change": ("log_z_mean", _late_change),
            "logit_change": ("logit_mean", _late_change),
        },
    )
    when = "from the middle to the end of the long runs, each a tenth of their probes"
    return [
        *(
            claim_over_seeds(
                arms_apart(long, "log_z", without, with_),
                sentence=f"z-loss keeps log Z nearer to 0{words}.",
                statistic="|mean log Z| over the last tenth of the long runs, without minus with z-loss, nats",
                threshold="above 0",
                low=0.0,
                n_runs=len(long.filter(pl.col("arm").is_in([without, with_]))),
            )
            for without, with_, words in ((NEITHER, Z_LOSS, ""), (DECAY, BOTH, ", also beside weight decay"))
        ),
        claim_over_seeds(
            list(by_seed(long, "log_z_change", arm=NEITHER).values()),
            sentence="Without z-loss and weight decay mean log Z drifts to negative values late in training.",
            statistic=f"change of mean log Z {when}, nats",
            threshold="below 0",
            high=0.0,
            n_runs=len(long.filter(pl.col("arm") == NEITHER)),
            scale=LONG,
        ),
        # The logits of bytes that never occur sink in every arm; z-loss, which sees log Z alone, lets them.
        claim_over_seeds(
            arms_apart(long, "logit_change", NEITHER, Z_LOSS),
            sentence="Late in training the mean output logit drifts further to negative values without z-loss.",
            statistic=f"change of the mean output logit {when}, without minus with z-loss, both without weight decay",
            threshold="below 0",
            high=0.0,
            n_runs=len(long.filter(pl.col("arm").is_in([NEITHER, Z_LOSS]))),
            scale=LONG,
        ),
        claim_over_seeds(
            arms_apart(sensitive, "sensitivity", NEITHER, Z_LOSS),
            sentence="Without weight decay, z-loss makes training less sensitive to the learning rate.",
            statistic="LR sensitivity with neither minus with z-loss, mean over sizes, nats",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep.filter(pl.col("arm").is_in([NEITHER, Z_LOSS]))),
            scale=LONG,
        ),
        claim_over_seeds(
            arms_apart(sensitive, "sensitivity", NEITHER, DECAY, size=largest),
            sentence="At the largest size weight decay alone makes training less sensitive to the learning rate.",
            statistic="LR sensitivity with neither minus with weight decay, at the largest size, nats",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep.filter(pl.col("arm").is_in([NEITHER, DECAY]) & (pl.col("size") == largest))),
            scale=LONG,
        ),
    ]


def _tenth() -> pl.Expr:
    return pl.max_horizontal(pl.len() // 10, 1)


def _last_tenth(values: pl.Expr) -> pl.Expr:
    return values.tail(_tenth()).mean()


def _late_change(values: pl.Expr) -> pl.Expr:
    """The mean of the last tenth of the values minus that of as many at the end of their first half."""
    return _last_tenth(values) - values.head(pl.len() // 2).tail(_tenth()).mean()


# --- figures ---------------------------------------------------------------------------------------------


def _draw_log_z(long: pl.DataFrame, out: Path) -> None:
    """`log_z`: training loss, mean log Z and mean output logit over the steps of the long runs, by arm; the mean over
    seeds with a band from the lowest to the highest. Where there are several rates, the highest."""
    highest = lr_window(long)[1]
    shown = long.filter(pl.col("lr") == highest)
    curves = read_curves([Path(folder) for folder in shown["folder"]]).filter(pl.col("log_z_mean").is_not_null())
    curves = curves.join(shown.select(pl.col("run_id").alias("curve"), "arm", "seed"), on="curve")
    panels = {
        "train_loss": "training loss (nats per token)",
        "log_z_mean": "mean log Z (nats)",
        "logit_mean": "mean output logit",
    }
    with style.paper():
        figure = Figure(figsize=(9.2, 3.0))
        for axes, (value, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            for colour, (arm, name) in zip(style.ARMS, ARMS.items(), strict=False):
                rows = curves.filter(pl.col("arm") == arm)
                arm_name = name.replace("\n", " ")
                draw_over_seeds(axes, rows, "step", value, colour=colour, line="-", label=arm_name, log=False)
            axes.set_xlabel("step")
            axes.set_ylabel(label)
            if value != "train_loss":
                axes.axhline(0, color=style.REFERENCE, linewidth=0.8)
        figure.axes[0].legend()
        figure.suptitle(f"learning rate {highest:g}", fontsize=9.5)
        style.save(figure, out / "log_z")
    drawn = curves.select("arm", "seed", "step", *panels).sort("arm", "seed", "step")
    write_bytes(out / "log_z.csv", drawn.write_csv().encode())

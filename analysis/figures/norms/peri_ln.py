"""Kim et al. 2025 (arXiv 2502.02732): loss over learning rates, how often training breaks, and variance and gradients
over depth for pre-, Peri- and Post-LN."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.norms.failing import BEARS, CENSORED, bearing_lr, fewer_fail, with_failed
from analysis.figures.norms.layers import at_end, at_start, broke, by_block, over_blocks, read_rows, tilt
from analysis.figures.norms.layers_plot import draw_profile
from analysis.stability.lr_sweep import curves_of, lr_window, read_sweep, sensitivity
from analysis.stability.plot_arms import arm_colours, draw_estimates, draw_losses
from analysis.tables.columns import Array

ARMS = {"pre": "Pre-LN", "peri": "Peri-LN", "post": "Post-LN"}
LARGE = "400M parameters and 3e10 tokens, where the paper finds it at each placement's best rate"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `learning_rate`, `depth` and `seeds`."""
    sweep = read_sweep(runs, pl.col("model.norm_placement"))
    rows = read_rows(sweep)
    sweep = with_failed(broke(sweep, rows))
    pre_best, above_best = _rates(sweep)
    variance, gradient = by_block(rows, "output_variance"), by_block(rows, "gradient_norm")
    _draw_learning_rate(sweep, folder)
    _draw_depth(variance, gradient, above_best, folder)
    _draw_seeds(sweep, above_best, folder)
    return [*_lr_claims(sweep), *_depth_claims(variance, gradient, pre_best, above_best)]


def _rates(sweep: pl.DataFrame) -> tuple[float, float]:
    """Pre-LN's best learning rate, and the next one above it (the same one if there is none)."""
    means = sweep.filter(pl.col("arm") == "pre").group_by("lr").agg(pl.col("loss").mean()).sort("lr")
    k = int(means["loss"].arg_min() or 0)
    return float(means["lr"][k]), float(means["lr"][min(k + 1, len(means) - 1)])


def deeper_growth(variances: Array) -> float:
    """How much the variance grows over the deeper half of the blocks, relative to the first half: 1 on a line, below
    1 where it flattens, above where growth feeds on itself. Growth is counted per block."""
    middle = (len(variances) - 1) // 2
    first = (variances[middle] - variances[0]) / middle
    return float((variances[-1] - variances[middle]) / (len(variances) - 1 - middle) / first)


def _lr_claims(sweep: pl.DataFrame) -> list[Claim]:
    fails = bearing_lr(sweep).with_columns(pl.col("lr_fail").log10())
    sensitive = sensitivity(sweep)
    low, high = lr_window(sweep)
    return [
        Claim(
            "Peri-LN bears a higher learning rate than pre-LN.",
            of=arms_apart(fails, "lr_fail", "peri", "pre"),
            statistic=f"{BEARS}, Peri-LN minus pre-LN; {CENSORED}",
            accept=above(0),
        ),
        Claim(
            "Post-LN fails at a lower learning rate than pre-LN.",
            of=arms_apart(fails, "lr_fail", "post", "pre"),
            statistic=f"{BEARS}, Post-LN minus pre-LN; {CENSORED}",
            accept=below(0),
        ),
        Claim(
            "Training is less sensitive to the learning rate under Peri-LN.",
            of=arms_apart(sensitive, "sensitivity", "pre", "peri"),
            statistic=f"LR sensitivity of pre-LN minus Peri-LN over rates from {low:g} to {high:g}, nats",
            accept=above(0),
        ),
        Claim(
            "Peri-LN reaches a lower loss.",
            of=arms_apart(sensitive, "best_loss", "pre", "peri"),
            statistic="loss of pre-LN minus Peri-LN, each at its best rate, nats per token",
            accept=above(0),
            needs=LARGE,
        ),
        *fewer_fail(
            sweep,
            "peri",
            "pre",
            names=("Peri-LN", "pre-LN"),
            apart="pre-LN minus Peri-LN",
            needs="thousands of steps: a spike needs time, and in so few of them only the highest rates break a run",
        ),
    ]


def _depth_claims(variance: pl.DataFrame, gradient: pl.DataFrame, pre_best: float, above_best: float) -> list[Claim]:
    n_seeds = variance["seed"].n_unique()
    begun, ended = at_start(variance), at_end(variance)
    growth = over_blocks(begun, deeper_growth, "growth")
    ratio = over_blocks(begun, lambda x: float(np.log10(x[-1] / x[0])), "ratio")
    last_begun, last_ended = (over_blocks(t, lambda x: float(np.log10(x[-1])), "last") for t in (begun, ended))
    tilts = over_blocks(at_start(gradient), lambda x: abs(tilt(x)), "tilt")

    def grown(arm: str, lr: float) -> Sample:
        """log10 of the last block's variance after training over that before it."""
        return by_seed(last_ended, "last", arm=arm, lr=lr) - by_seed(last_begun, "last", arm=arm, lr=lr)

    at_init = "at initialisation"
    return [
        Claim(
            "Under Peri-LN the variance of the stream grows linearly with depth.",
            of=by_seed(growth, "growth", arm="peri").behind(n_seeds),
            statistic=f"growth per block in the deeper half of the blocks over that in the first half, {at_init}",
            accept=between(0.5, 2),
        ),
        Claim(
            "Under Post-LN the variance of the stream stays constant over depth.",
            of=by_seed(ratio, "ratio", arm="post").behind(n_seeds),
            statistic=f"log10 of the last block's variance over the first one's, {at_init}",
            accept=between(-0.1, 0.1),
        ),
        Claim(
            "During training the stream of pre-LN grows by orders of magnitude more than that of Peri-LN.",
            of=(grown("pre", pre_best) - grown("peri", pre_best)).behind(2 * n_seeds),
            statistic="log10 of the last block's variance after training over that at initialisation, pre-LN minus "
            f"Peri-LN, at a rate of {pre_best:g}",
            accept=above(1),
        ),
        Claim(
            "At a high learning rate pre-LN ends with massive activations, Peri-LN does not.",
            of=arms_apart(last_ended, "last", "pre", "peri", lr=above_best),
            statistic="log10 of the last block's variance after training in pre-LN over Peri-LN, at a rate of "
            f"{above_best:g}",
            accept=above(0),
        ),
        Claim(
            "The gradient norms of Peri-LN are more even over the blocks.",
            of=arms_apart(tilts, "tilt", "pre", "peri").behind(2 * n_seeds),
            statistic=f"|decades by which the gradient norm changes from the first block to the last|, {at_init}, "
            "pre-LN minus Peri-LN",
            accept=above(0),
        ),
    ]


def _draw_learning_rate(sweep: pl.DataFrame, folder: Path) -> None:
    """`learning_rate`: loss and the share of runs that failed, or spiked on the way (dotted), and LR sensitivity."""
    sensitive = sensitivity(sweep)
    with style.panels((8.8, 3.0), 1, 3, width_ratios=[1.25, 1.25, 1]) as (figure, (loss, share, number)):
        draw_losses(loss, sweep, ARMS)
        rates = sweep.group_by("arm", "lr").agg(pl.col("failed", "broke").mean()).sort("arm", "lr")
        for k, (arm, colour) in enumerate(arm_colours(ARMS).items()):
            own = rates.filter(pl.col("arm") == arm)
            shift = 1.05 ** (k - 1)  # or equal shares would hide each other
            share.plot(own["lr"] * shift, own["failed"], "o-", color=colour, mec="white", mew=0.5)
            share.plot(own["lr"] * shift, own["broke"], ":", color=colour)
        share.plot([], [], ":", color=style.REFERENCE, label="spiked on the way")
        share.legend()
        share.set(xscale="log", ylim=(-0.05, 1.05), xlabel="learning rate", ylabel="share of runs that failed")
        draw_estimates(number, sensitive, ARMS, "sensitivity")
        low, high = lr_window(sweep)
        number.set(ylim=(0, None), ylabel="LR sensitivity (nats)", title=f"rates {low:g} to {high:g}")
    write_picture(figure, sweep.drop("folder"), folder / "learning_rate")


def _draw_depth(variance: pl.DataFrame, gradient: pl.DataFrame, lr: float, folder: Path) -> None:
    """`depth`: variance and gradient norm over the blocks, at initialisation and after training at one high rate."""
    variance, gradient = (table.filter(pl.col("lr") == lr) for table in (variance, gradient))
    drawn = []
    with style.panels((9.6, 2.9), 1, 4) as (figure, panels):
        labelled = ((variance, "variance of the block's output"), (gradient, "gradient norm of the block"))
        for pair, (table, label) in zip((panels[:2], panels[2:]), labelled, strict=True):
            times = {"at initialisation": at_start(table), f"after training at {lr:g}": at_end(table)}
            for axes, (title, rows) in zip(pair, times.items(), strict=True):
                draw_profile(axes, rows, ARMS)
                axes.set_title(title)
                drawn.append(rows.with_columns(pl.lit(label).alias("what"), pl.lit(title).alias("when")))
            pair[0].set_ylabel(label)
            ends = [end for axes in pair for end in axes.get_ylim()]
            for axes in pair:
                axes.set_ylim(min(ends), max(ends))
        panels[0].legend()
    write_picture(figure, pl.concat(drawn).drop("size"), folder / "depth")


def _draw_seeds(sweep: pl.DataFrame, lr: float, folder: Path) -> None:
    """`seeds`: training loss and gradient norm over steps at one high rate, a line for each seed."""
    chosen = sweep.filter(pl.col("lr") == lr)
    curves = curves_of(chosen).filter(pl.col("step") > 0).select("curve", "step", "train_loss", "grad_norm")
    curves = curves.join(chosen.select("arm", "lr", "seed", "run_id"), left_on="curve", right_on="run_id")
    with style.panels((8.4, 4.0), 2, len(ARMS), sharex=True, sharey="row") as (figure, grid):
        for column, arm in zip(grid.T, ARMS, strict=True):
            own = curves.filter(pl.col("arm") == arm)
            for colour, ((seed,), rows) in zip(
                cycle(style.ARMS), own.group_by("seed", maintain_order=True), strict=False
            ):
                for axes, name in zip(column, ("train_loss", "grad_norm"), strict=True):
                    axes.plot(rows["step"], rows[name], color=colour, linewidth=0.8, label=seed)
            column[0].set_title(ARMS[arm])
            column[1].set(yscale="log", xlabel="step")
        grid[0, 0].set_ylabel("training loss (nats)")
        grid[1, 0].set_ylabel("gradient norm")
        grid[0, -1].legend(title="seed", ncols=3)
        figure.suptitle(f"learning rate {lr:g}", fontsize=9.5)
    write_picture(figure, curves, folder / "seeds")

"""Figure 10: loss against the size of attention logits that were planted, beside a table of bigrams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, between
from analysis.claims.sample import Sample, by_seed
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.figures.small_proxies.qk_norm import LOGIT
from analysis.stability.lr_sweep import arm_where, curves_of, read_sweep, with_numbers

LARGE, HUGE = 1e3, 1e4  # where the paper's model gets worse, and where it is worse than bigrams
PLANTED, BIGRAMS = "planted", "bigrams"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `transplanted_logits`: one model over `model.qk_rms`, and bigrams (`model.depth` 0)."""
    kind = arm_where({BIGRAMS: pl.col("model.depth") == 0}, pl.lit(PLANTED))
    kappa = runs.select("run_id", pl.col("model.qk_rms").cast(pl.Float64).alias("kappa"))
    sweep = read_sweep(runs, kind).join(kappa, on="run_id", maintain_order="left")
    planted = sweep.filter(pl.col("arm") == PLANTED)
    planted = with_numbers(planted, curves_of(planted), logit=pl.col(LOGIT).max())
    bigrams = _at_best_rate(sweep.filter(pl.col("arm") == BIGRAMS))
    _draw(planted, bigrams, folder)
    return _claims(planted, bigrams)


def _at_best_rate(sweep: pl.DataFrame) -> pl.DataFrame:
    """For each kappa and seed the lowest loss over learning rates, `loss` and `log_loss`."""
    lowest = sweep.group_by("kappa", "seed", maintain_order=True).agg(pl.col("loss").min())
    return lowest.with_columns(pl.col("loss").log().alias("log_loss"))


def _claims(planted: pl.DataFrame, bigrams: pl.DataFrame) -> list[Claim]:
    best = _at_best_rate(planted)
    share = planted.with_columns((pl.col("logit") / pl.col("kappa")).log10().alias("share"))
    favourite = _favourite(best.filter(pl.col("kappa") < LARGE))
    return [
        Claim(
            "The largest attention logit of a run is about kappa.",
            of=by_seed(share, "share"),
            statistic="log10 of block 0's largest attention logit over kappa, mean over kappas and rates",
            accept=between(-0.3, 0.01),
        ),
        Claim(
            f"Logits of {LARGE:g} spoil a model.",
            of=(by_seed(best, "log_loss", kappa=LARGE) - favourite).behind(planted),
            statistic=f"ln loss with kappa {LARGE:g} minus with the smaller one that is best for the other seeds, each "
            "at its best rate",
            accept=above(0),
        ),
        Claim(
            f"With logits of {HUGE:g} a model is worse than a table of bigrams.",
            of=(by_seed(best, "log_loss", kappa=HUGE) - by_seed(bigrams, "log_loss")).behind(planted),
            statistic=f"ln loss with kappa {HUGE:g} minus that of bigrams, each at its best rate",
            accept=above(0),
        ),
    ]


def _favourite(best: pl.DataFrame) -> Sample:
    """For each seed ln loss at the kappa with the lowest mean over the other seeds. The seed's own lowest would be low
    by luck."""
    losses: dict[Any, float] = {}
    for seed in best["seed"].unique().sort():
        others = best.filter(pl.col("seed") != seed).group_by("kappa").agg(pl.col("loss").mean()).sort("loss", "kappa")
        if len(others):
            losses |= by_seed(best, "log_loss", seed=seed, kappa=others["kappa"][0]).values
    return Sample(losses, len(best))


def _draw(planted: pl.DataFrame, bigrams: pl.DataFrame, folder: Path) -> None:
    """Loss, and the largest logit that was measured, against kappa; a line for each learning rate."""
    level = float(bigrams["log_loss"].mean())  # type: ignore[arg-type]  # polars says Any
    drawn = [bigrams.select(pl.lit(BIGRAMS).alias("drawn"), "seed", "loss")]
    with style.panels(style.TWO_PANELS, 1, 2) as (figure, (loss_axes, logit_axes)):
        swept = planted.filter(pl.col("kappa").n_unique().over("lr") > 1)
        elsewhere = planted.filter(pl.col("kappa").n_unique().over("lr") == 1)
        for colour, lr in zip(style.ARMS, swept["lr"].unique().sort(), strict=False):
            rows = swept.filter(pl.col("lr") == lr)
            for axes, value in ((loss_axes, "loss"), (logit_axes, "logit")):
                points = draw_over_seeds(axes, rows, "kappa", value, colour=colour, label=f"learning rate {lr:g}")
                drawn.append(points.with_columns(pl.lit(lr).alias("lr"), pl.lit(value).alias("drawn")))
        if len(elsewhere):
            at = elsewhere.group_by("kappa", "lr", maintain_order=True).agg(pl.col("loss", "logit").mean())
            loss_axes.plot(at["kappa"], at["loss"], "_", color=style.REFERENCE, markersize=7, label="at other rates")
            drawn.append(at.with_columns(pl.lit("at other rates").alias("drawn")))
        loss_axes.axhline(np.exp(level), color=style.REFERENCE, linestyle="--", label="bigrams: no blocks")
        kappas = planted["kappa"].unique().sort()
        logit_axes.plot(kappas, kappas, "--", color=style.REFERENCE, label="kappa")
        logit_axes.set(ylabel="largest attention logit, block 0", yscale="log")
        for axes in (loss_axes, logit_axes):
            axes.set(xscale="log", xlabel="kappa: the planted size of the largest logit")
            axes.legend()
        style.loss_axis(loss_axes, style.VALIDATION_LOSS)
    write_picture(figure, pl.concat(drawn, how="diagonal_relaxed"), folder / "transplanted_logits")

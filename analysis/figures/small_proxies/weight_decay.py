"""Figures 6 and E.10: independent and coupled weight decay over learning rates, and stronger independent decay."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims import Claim
from analysis.lr_sweep import CURVE, arms_apart, best_lr, read_sweep, sensitivity
from analysis.lr_sweep_plot import draw_lr_sweep
from analysis.seeds import claim_over_seeds

INDEPENDENT, COUPLED, STRONGER = "independent", "coupled", "stronger"
LAMBDA = 1e-4  # of the independent arm


def weight_decay(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `sensitivity` into `out`, and return the claims.

    Args:
        runs: `analysis.table.read_runs` of the three arms over learning rates, sizes and seeds.
    """
    arm = (
        pl.when(pl.col("optim.decay") == "coupled")
        .then(pl.lit(COUPLED))
        .when(pl.col("optim.weight_decay") == LAMBDA)
        .then(pl.lit(INDEPENDENT))
        .otherwise(pl.lit(STRONGER))
    )
    sweep = read_sweep(runs, arm)
    decays = dict(runs.select(arm, "optim.weight_decay").unique().rows())
    arms = {
        INDEPENDENT: f"independent decay of {LAMBDA:g}",
        COUPLED: f"coupled decay of {decays[COUPLED]:g}",
        STRONGER: f"independent decay of {decays[STRONGER]:g}",
    }
    sensitive = _sensitivity(sweep)
    draw_lr_sweep(sweep, out / "sensitivity", arms=arms, sensitivities=sensitive)

    lr_opt = best_lr(sweep).with_columns(pl.col("lr_opt").log(2))
    return [
        claim_over_seeds(
            arms_apart(sensitive, "sensitivity", COUPLED, INDEPENDENT),
            sentence="Training is less sensitive to the learning rate if the decay does not follow it.",
            statistic="LR sensitivity with coupled decay (the smaller of two windows) minus with independent decay, "
            "mean over sizes, nats",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep),
            scale="runs of many times 1/lambda steps, so that decay changes the weights at every rate: the paper's 1e5 "
            "steps at an independent 1e-4",
        ),
        claim_over_seeds(
            arms_apart(lr_opt, "lr_opt", STRONGER, INDEPENDENT),
            sentence="Stronger independent decay moves the best learning rate up.",
            statistic=f"log2 of the best rate at {decays[STRONGER]:g} over that at {LAMBDA:g}, mean over sizes",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep.filter(pl.col("arm") != COUPLED)),
            reason="the best rate lies at an edge of the grid",
        ),
    ]


def _sensitivity(sweep: pl.DataFrame) -> pl.DataFrame:
    """LR sensitivity of every curve; of a coupled one the smaller of those over the others' window and over the
    window of as many rates that begins at its lowest (Wortsman et al. 2023, section 3.2.2)."""
    coupled = pl.col("arm") == COUPLED
    rates = sweep.filter(coupled)["lr"].unique().sort()
    usual = sweep.filter(~coupled)["lr"].unique().sort()
    windows = [usual, rates.head(len(usual))]
    found = [sensitivity(sweep.filter(coupled & pl.col("lr").is_in(window.to_list()))) for window in windows]
    smaller = pl.concat(found).sort("sensitivity").group_by(*CURVE, maintain_order=True).first()
    return pl.concat([sensitivity(sweep.filter(~coupled)), smaller]).sort(*CURVE)

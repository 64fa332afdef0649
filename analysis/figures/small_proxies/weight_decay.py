"""Figures 6 and E.10: independent and coupled weight decay over learning rates, and stronger independent decay."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample, arms_apart
from analysis.stability.lr_sweep import CURVE, best_lr, read_sweep, sensitivity
from analysis.stability.plot_lr_sweep import draw_lr_sweep

INDEPENDENT, COUPLED = "independent", "coupled"
LONG = (
    "runs of many times 1/lambda steps, so that decay changes the weights at every rate: the paper's 1e5 steps at an "
    "independent 1e-4"
)


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity` (the paper's constants) and `acting` (decay that acts)."""
    form, decay = pl.col("optim.decay"), pl.col("optim.weight_decay")
    usual, acting, strongest = runs.filter(form == INDEPENDENT)["optim.weight_decay"].unique().sort()
    coupled, acting_coupled = runs.filter(form == COUPLED)["optim.weight_decay"].unique().sort()
    sweep = read_sweep(runs, pl.format("{} decay of {}", form, decay.map_elements("{:g}".format, pl.String)))
    sensitive = _sensitivity(sweep)
    arms = {value: f"{INDEPENDENT} decay of {value:g}" for value in (usual, acting, strongest)}
    arms |= {value: f"{COUPLED} decay of {value:g}" for value in (coupled, acting_coupled)}
    for name, shown in (("sensitivity", (usual, coupled, strongest)), ("acting", (acting, acting_coupled))):
        names = {arms[value]: arms[value] for value in shown}
        own, of_own = (table.filter(pl.col("arm").is_in(list(names))) for table in (sweep, sensitive))
        draw_lr_sweep(own, folder / name, arms=names, sensitivities=of_own)

    lr_opt = best_lr(sweep).with_columns(pl.col("lr_opt").log(2))

    def apart(table: pl.DataFrame, value: str, decay: float, other: float) -> Sample:
        both = sweep.filter(pl.col("arm").is_in([arms[decay], arms[other]]))
        return arms_apart(table, value, arms[decay], arms[other]).behind(both)

    return [
        *(
            Claim(
                f"Training is less sensitive to the learning rate if the decay does not follow it{words}.",
                of=apart(sensitive, "sensitivity", following, steady),
                statistic=f"LR sensitivity at a coupled {following:g} (the smaller of two windows) minus at an "
                f"independent {steady:g}, mean over sizes, nats",
                accept=above(0),
                needs=needs,
            )
            for steady, following, words, needs in (
                (usual, coupled, ", at the paper's constants", LONG),
                (acting, acting_coupled, ", where decay acts within the run", None),
            )
        ),
        Claim(
            "Stronger independent decay moves the best learning rate up.",
            of=apart(lr_opt, "lr_opt", strongest, usual).or_say("the best rate lies at an edge of the grid"),
            statistic=f"log2 of the best rate at {strongest:g} over that at {usual:g}, mean over sizes",
            accept=above(0),
        ),
    ]


def _sensitivity(sweep: pl.DataFrame) -> pl.DataFrame:
    """LR sensitivity of every curve; of a coupled one the smaller of those over the others' window and over the
    window of as many rates that begins at its lowest (Wortsman et al. 2023, section 3.2.2)."""
    coupled = pl.col("arm").str.starts_with(COUPLED)
    rates = sweep.filter(coupled)["lr"].unique().sort()
    usual = sweep.filter(~coupled)["lr"].unique().sort()
    windows = [usual, rates.head(len(usual))]
    found = [sensitivity(sweep.filter(coupled & pl.col("lr").is_in(window.to_list()))) for window in windows]
    smaller = pl.concat(found).sort("sensitivity").group_by(*CURVE, maintain_order=True).first()
    return pl.concat([sensitivity(sweep.filter(~coupled)), smaller]).sort(*CURVE)

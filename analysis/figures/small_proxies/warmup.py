"""Figure 5: loss over learning rates for three lengths of warm-up, and LR sensitivity."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample, arms_apart
from analysis.stability.lr_sweep import lr_window, read_sweep, sensitivity, span
from analysis.stability.plot_lr_sweep import draw_lr_sweep

SHORT, USUAL, LONG = "1%", "5%", "25%"
ARMS = {share: f"warm-up over {share} of the steps" for share in (SHORT, USUAL, LONG)}


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity`."""
    sweep = read_sweep(runs, pl.col("schedule.warmup"))
    draw_lr_sweep(sweep, folder / "sensitivity", arms=ARMS)

    sensitive = sensitivity(sweep)
    highest = lr_window(sweep)[1]
    smallest, largest = span(sweep, "size")

    def gain(shorter: str, longer: str, **where: float) -> Sample:
        return arms_apart(sensitive, "sensitivity", shorter, longer, **where).behind(sweep)

    return [
        *(
            Claim(
                f"Training is less sensitive to the learning rate with a warm-up over {longer} of the steps than over "
                f"{shorter}.",
                of=gain(shorter, longer),
                statistic=f"LR sensitivity at {shorter} minus at {longer}, mean over sizes, nats",
                accept=above(0),
            )
            for shorter, longer in ((SHORT, USUAL), (USUAL, LONG), (SHORT, LONG))
        ),
        Claim(
            "At the highest learning rate a short warm-up ends at a higher loss than a long one.",
            of=arms_apart(sweep, "loss", SHORT, LONG, lr=highest).behind(sweep),
            statistic=f"loss at {SHORT} minus at {LONG} at a rate of {highest:g}, mean over sizes, nats",
            accept=above(0),
        ),
        Claim(
            "The larger the model, the more a longer warm-up helps.",
            of=(gain(SHORT, LONG, size=largest) - gain(SHORT, LONG, size=smallest)).behind(sweep),
            statistic=f"LR sensitivity at {SHORT} minus at {LONG}, of the largest size minus of the smallest, nats",
            accept=above(0),
            needs="sizes that span decades, up to those that a rate of 0.3 makes unstable after a short warm-up: "
            "the paper's 2.4M to 1.2B parameters over 1e5 steps",
        ),
    ]

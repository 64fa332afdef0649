"""Figure 5: loss over learning rates for three lengths of warm-up, and LR sensitivity."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.stability.lr_sweep import arms_apart, by_seed, differences, lr_window, read_sweep, sensitivity
from analysis.stability.plot_lr_sweep import draw_lr_sweep

SHORT, USUAL, LONG = "1%", "5%", "25%"
ARMS = {share: f"warm-up over {share} of the steps" for share in (SHORT, USUAL, LONG)}


def warmup(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `sensitivity` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of the three lengths over learning rates, sizes and seeds.
    """
    sweep = read_sweep(runs, pl.col("schedule.warmup"))
    draw_lr_sweep(sweep, out / "sensitivity", arms=ARMS)

    sensitive = sensitivity(sweep)
    highest = lr_window(sweep)[1]
    smallest, largest = (float(size) for size in (sweep["size"].min(), sweep["size"].max()))  # type: ignore[arg-type]  # numbers
    n_runs = len(sweep)

    def gain(size: float) -> dict[int, float]:
        short, long = (by_seed(sensitive, "sensitivity", arm=arm, size=size) for arm in (SHORT, LONG))
        return {seed: short[seed] - long[seed] for seed in short if seed in long}

    return [
        *(
            claim_over_seeds(
                arms_apart(sensitive, "sensitivity", shorter, longer),
                sentence=f"Training is less sensitive to the learning rate with a warm-up over {longer} of the steps "
                f"than over {shorter}.",
                statistic=f"LR sensitivity at {shorter} minus at {longer}, mean over sizes, nats",
                threshold="above 0",
                low=0.0,
                n_runs=n_runs,
            )
            for shorter, longer in ((SHORT, USUAL), (USUAL, LONG), (SHORT, LONG))
        ),
        claim_over_seeds(
            arms_apart(sweep, "loss", SHORT, LONG, lr=highest),
            sentence="At the highest learning rate a short warm-up ends at a higher loss than a long one.",
            statistic=f"loss at {SHORT} minus at {LONG} at a rate of {highest:g}, mean over sizes, nats",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs,
        ),
        claim_over_seeds(
            differences(gain(largest), gain(smallest)),
            sentence="The larger the model, the more a longer warm-up helps.",
            statistic=f"LR sensitivity at {SHORT} minus at {LONG}, of the largest size minus of the smallest, nats",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs,
            scale="sizes that span decades, up to those that a rate of 0.3 makes unstable after a short warm-up: "
            "the paper's 2.4M to 1.2B parameters over 1e5 steps",
        ),
    ]

"""Du et al. 2024 (arXiv 2405.15319), figure 41: noise on the weights that grow."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis import style
from analysis.claims import Claim
from analysis.figures.lines import draw_over_seeds
from analysis.growth import FROM_SCRATCH, courses, finals, trace
from analysis.lr_sweep import by_seed, differences
from analysis.lr_sweep_plot import draw_intervals, mean_over_seeds
from analysis.seeds import claim_over_seeds
from conf.door import human
from train.record import write_bytes

DEPTH, WIDTH = "stacked depth", "duplicated width"
NONE, SOME, MUCH = 0.0, 0.2, 0.4


def noise(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `noise` into `out`, and return the claims.

    Args:
        runs: `analysis.table.read_runs` of a target from scratch, and grown in depth and in width with noise.
    """
    by = pl.when(pl.col("base_depth") < pl.col("model.depth")).then(pl.lit(DEPTH)).otherwise(pl.lit(WIDTH))
    ends = finals(trace(runs)).with_columns(pl.when(~FROM_SCRATCH).then(by).alias("arm"))
    grown = ends.filter(~FROM_SCRATCH)
    course = courses(trace(runs), ends["run_id"]).join(
        ends.select("run_id", "arm", "seed", "grow.noise"), on="run_id", how="left", maintain_order="left"
    )
    _draw(course, grown, out)
    return _claims(grown)


def _claims(grown: pl.DataFrame) -> list[Claim]:
    return [
        claim_over_seeds(
            differences(by_seed(grown, "loss", arm=arm, **{"grow.noise": one}), by_seed(grown, "loss", arm=arm, **{"grow.noise": other})),
            sentence=sentence,
            statistic=f"final validation loss of {arm}, noise {one:g} minus {other:g} (nats)",
            threshold="below 0" if worst == 0 else "above 0",
            **({"high": 0.0} if worst == 0 else {"low": 0.0}),
            n_runs=grown.filter((pl.col("arm") == arm) & pl.col("grow.noise").is_in([one, other])).height,
        )
        for arm, one, other, worst, sentence in (
            (WIDTH, SOME, NONE, 0, "A fifth of noise improves duplicated width."),
            (DEPTH, SOME, NONE, 0, "A fifth of noise improves stacked depth."),
            (WIDTH, MUCH, SOME, 1, "More noise than a fifth is worse for duplicated width."),
            (DEPTH, MUCH, SOME, 1, "More noise than a fifth is worse for stacked depth."),
        )
    ]

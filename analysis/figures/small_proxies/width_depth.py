"""Figure 7: LR sensitivity against size for models that grow in width, in depth, and in both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample, arms_apart, slopes
from analysis.stability.lr_sweep import read_sweep, sensitivity
from analysis.stability.plot_lr_sweep import draw_lr_sweep
from conf.command_line import human

WIDTH, DEPTH, BOTH = "width", "depth", "both"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity`. The smallest model belongs to all three families."""
    smallest_width, smallest_depth = (min(runs[name].to_list()) for name in ("model.width", "model.depth"))
    narrow, shallow = pl.col("model.width") == smallest_width, pl.col("model.depth") == smallest_depth
    families = {WIDTH: shallow, DEPTH: narrow, BOTH: ~(narrow ^ shallow)}
    sweep = pl.concat([read_sweep(runs.filter(belongs), pl.lit(name)) for name, belongs in families.items()])
    titles = {
        WIDTH: f"width, at {smallest_depth} block{'s' if smallest_depth != 1 else ''}",
        DEPTH: f"depth, at width {smallest_width}",
        BOTH: "width and depth",
    }
    draw_lr_sweep(sweep, folder / "sensitivity", arms=titles)

    sensitive = sensitivity(sweep)
    steep = {name: slopes(sensitive, "sensitivity", arm=name) for name in families}
    common = min(float(sensitive.filter(pl.col("arm") == name)["size"].max()) for name in families)  # type: ignore[arg-type]  # a number
    best = _best_losses(sensitive, common)
    at_common = f"ln of the best loss at {human(common)} parameters"
    much = "the paper's 2.4M to 1.2B parameters, three decades in which the three ways part"
    return [
        *(
            Claim(
                f"Sensitivity to the learning rate rises faster with depth alone than with {words}.",
                of=(steep[DEPTH] - steep[other]).behind(runs),
                statistic=f"slope of LR sensitivity against log10 of parameters, with depth minus with {words}, nats "
                "per decade",
                accept=above(0),
                needs=much,
            )
            for other, words in ((WIDTH, "width alone"), (BOTH, "width and depth"))
        ),
        Claim(
            "At the largest size depth alone reaches a lower loss than width alone.",
            of=arms_apart(best, "log_loss", WIDTH, DEPTH).behind(runs),
            statistic=f"{at_common}, by width minus by depth; interpolated in ln parameters",
            accept=above(0),
            needs=much,
        ),
        Claim(
            "At the largest size growing in both reaches the lowest loss.",
            of=_lead(best).behind(runs),
            statistic=f"{at_common}, the lower of width's and depth's minus that of both",
            accept=above(0),
            needs=much,
        ),
    ]


def _best_losses(sensitive: pl.DataFrame, size: float) -> pl.DataFrame:
    """`arm`, `seed` and `log_loss`: ln of the lowest loss over learning rates, interpolated to one size in ln size."""
    rows = []
    for (arm, seed), curve in sensitive.sort("size").group_by("arm", "seed", maintain_order=True):
        log_loss = np.interp(np.log(size), np.log(curve["size"].to_numpy()), np.log(curve["best_loss"].to_numpy()))
        rows.append((arm, seed, float(log_loss)))
    return pl.DataFrame(rows, ["arm", "seed", "log_loss"], orient="row")


def _lead(best: pl.DataFrame) -> Sample:
    """For each seed the lower of width's and depth's minus that of both."""
    by_arm = best.pivot("arm", index="seed", values="log_loss").drop_nulls().sort("seed")
    lead = by_arm.select(pl.min_horizontal(WIDTH, DEPTH) - pl.col(BOTH)).to_series()
    return Sample(dict(zip(by_arm["seed"], lead, strict=True)), len(best))

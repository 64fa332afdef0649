"""Du et al. 2024 (arXiv 2405.15319), figures 3 and 11: every way to grow against training from scratch."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.figures.gstack.plots import LOSS, SCRATCH_COLOUR, draw_courses, draw_ranking, show_losses
from analysis.figures.gstack.timing import SAME
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken, speed_ups
from analysis.stability.lr_sweep import arms_apart, by_seed, differences
from analysis.tables.lineage import FROM_SCRATCH, courses, trace
from train.record.files import write_bytes

STACK = "depth/stack"
DEPTH = {
    STACK: "stack (direct)",
    "depth/interpolate": "interpolate",
    "depth/zero": "zero",
    "depth/random": "random",
    "depth/learn": "learn",
}
WIDTH = {"width/direct": "direct", "width/zero": "zero", "width/random": "random", "width/learn": "learn"}
ARMS = {SCRATCH: "scratch"} | {arm: f"{arm.partition('/')[0]}: {name}" for arm, name in (DEPTH | WIDTH).items()}
_COLOUR_OF = dict(zip(("stack", "interpolate", "zero", "random", "learn"), style.ARMS, strict=False))
_COLOUR_OF["direct"] = _COLOUR_OF["stack"]  # as the paper calls it, whose other operators have one name on both axes
COLOURS = {SCRATCH: SCRATCH_COLOUR} | {arm: _COLOUR_OF[arm.partition("/")[2]] for arm in DEPTH | WIDTH}
LARGE = "1.1B parameters and 1e11 tokens, where the paper finds"


def operators(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `operators` and `ranking` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch at several budgets, and grown by every operator
            at one of them.
    """
    operator = (
        pl.when(pl.col("base_depth") < pl.col("model.depth"))
        .then(pl.concat_str(pl.lit("depth/"), "grow.depth"))
        .otherwise(pl.concat_str(pl.lit("width/"), "grow.width"))
    )
    traced = trace(runs).with_columns(arm_of(operator))
    ended = finals(traced)
    at_budget = pl.col("budget") == ended.filter(~FROM_SCRATCH)["budget"].max()
    level = ended.filter(at_budget)
    gains = speed_ups(ended).filter(at_budget)
    n_scratch = ended.filter(FROM_SCRATCH).height
    _draw_courses(traced, level, out)
    _draw_ranking(level, gains, out)
    return name_broken([*_loss_claims(level), _speed_up_claim(gains, n_scratch)], traced)


# --- claims ----------------------------------------------------------------------------------------------


def _loss_claims(level: pl.DataFrame) -> list[Claim]:
    def above(one: str, other: str, sentence: str, scale: str | None = None, low: float = 0.0) -> Claim:
        return claim_over_seeds(
            arms_apart(level, "loss", one, other),
            sentence=sentence,
            statistic=f"loss of {ARMS[one]} minus {ARMS[other]} at equal FLOPs, nats per token",
            threshold=f"above {low:g}",
            low=low,
            n_runs=level.filter(pl.col("arm").is_in([one, other])).height,
            scale=scale,
        )

    best_width = level.filter(pl.col("arm").is_in(list(WIDTH))).group_by("seed").agg(pl.col("loss").min())
    return [
        above(SCRATCH, STACK, "Stacking reaches a lower loss than training from scratch."),
        above("depth/interpolate", STACK, "Stacking is better than interpolating.", "runs beyond the first fifth: "
              "the paper finds both alike early and interpolation behind later"),
        above("depth/zero", STACK, "Stacking is better than adding identity blocks.", f"{LARGE} 0.010 nats"),
        above("depth/learn", STACK, "Stacking is better than a learned map of blocks.", f"{LARGE} 0.005 nats"),
        above("depth/random", STACK, "Stacking is better than new blocks at random."),
        above("depth/random", SCRATCH, "New blocks at random are worse than training from scratch.",
              f"{LARGE} 0.054 nats"),
        claim_over_seeds(
            differences(by_seed(best_width, "loss"), by_seed(level, "loss", arm=STACK)),
            sentence="Stacking is better than every way to grow in width.",
            statistic="lowest loss of the width operators minus that of stacking at equal FLOPs, nats per token",
            threshold="above 0",
            low=0.0,
            n_runs=level.filter(pl.col("arm").is_in([STACK, *WIDTH])).height,
        ),
        *(
            above(arm, SCRATCH, f"Growing in width ({name}) is no better than training from scratch.", low=-SAME)
            for arm, name in WIDTH.items()
        ),
    ]  # fmt: skip


def _speed_up_claim(gains: pl.DataFrame, n_scratch: int) -> Claim:
    own = gains.filter(pl.col("arm") == STACK)
    return claim_over_seeds(
        own["speedup"].to_list(),
        sentence="Stacking reaches its loss with less compute than scratch.",
        statistic="FLOPs of scratch to the stack's loss over those of the stack, minus 1",
        threshold="above 0",
        low=0.0,
        n_runs=len(own) + n_scratch,
        bounds=own["bound"].to_list(),
        reason=None if len(gains) else "scratch was trained at one budget only",
    )


# --- figures ---------------------------------------------------------------------------------------------


def _draw_courses(traced: pl.DataFrame, level: pl.DataFrame, out: Path) -> None:
    """`operators`: loss over cumulative FLOPs, operators in depth and in width beside each other."""
    rows = courses(traced, level["run_id"]).filter("since_growth")
    rows = rows.join(level.select("run_id", "arm", "seed"), on="run_id", how="left", maintain_order="left")
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, names, title in zip(panels, (DEPTH, WIDTH), ("depth", "width"), strict=True):
            draw_courses(axes, rows, {SCRATCH: "scratch"} | names, COLOURS)
            axes.set_title(f"growth in {title}")
            axes.legend()
        show_losses(panels[0], rows.filter(pl.col("arm") != SCRATCH)["val_loss"])
        panels[1].set_ylabel("")
        style.save(figure, out / "operators")
    shown = ["arm", "seed", "run_id", "part", "step", "tokens", "flops", "lr", "train_loss", "val_loss"]
    write_bytes(out / "operators.csv", rows.select(shown).write_csv().encode())


def _draw_ranking(level: pl.DataFrame, gains: pl.DataFrame, out: Path) -> None:
    """`ranking`: the loss at equal FLOPs and the speed-up of each operator."""
    with style.paper():
        figure = Figure(figsize=(7.6, 3.6))
        loss, gain = figure.subplots(1, 2, sharey=True)
        draw_ranking(loss, level, ARMS, COLOURS, "loss")
        draw_ranking(gain, gains, ARMS, COLOURS, "speedup")
        for by in level.filter(pl.col("arm") == SCRATCH).select(pl.col("loss").mean()).to_series().drop_nulls():
            loss.axvline(by, color=style.REFERENCE, linewidth=0.8, linestyle=":")
        gain.axvline(0, color=style.REFERENCE, linewidth=0.8, linestyle=":")
        loss.set_xlabel(LOSS)
        gain.set_xlabel("speed-up over scratch")
        gain.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        style.save(figure, out / "ranking")
    table = level.select("arm", "seed", "run_id", "flops", "base_flops", "loss")
    table = table.join(gains.select("run_id", "speedup", "bound"), on="run_id", how="left").sort("arm", "seed")
    write_bytes(out / "ranking.csv", table.write_csv().encode())

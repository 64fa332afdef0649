"""Du et al. 2024 (arXiv 2405.15319), figures 3 and 11: every way to grow against training from scratch."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, SCRATCH_COLOUR, courses_of, draw_courses, draw_ranking, show_losses
from analysis.figures.gstack.timing import SAME
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken, speed_ups
from analysis.tables.lineage import FROM_SCRATCH, trace

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


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `operators` and `ranking` into `folder`, and return the claims.

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
    _draw_courses(courses_of(traced, level, "arm", "seed").filter("since_growth"), folder)
    _draw_ranking(level, gains, folder)
    return name_broken([*_loss_claims(level), _speed_up_claim(gains, n_scratch)], traced)


# --- claims ----------------------------------------------------------------------------------------------


def _loss_claims(level: pl.DataFrame) -> list[Claim]:
    def higher(arm: str, other: str, sentence: str, needs: str | None = None, low: float = 0.0) -> Claim:
        return Claim(
            sentence,
            of=arms_apart(level, "loss", arm, other),
            statistic=f"loss of {ARMS[arm]} minus {ARMS[other]} at equal FLOPs, nats per token",
            accept=above(low),
            needs=needs,
        )

    best_width = level.filter(pl.col("arm").is_in(list(WIDTH))).group_by("seed").agg(pl.col("loss").min())
    compared = level.filter(pl.col("arm").is_in([STACK, *WIDTH]))
    return [
        higher(SCRATCH, STACK, "Stacking reaches a lower loss than training from scratch."),
        higher("depth/interpolate", STACK, "Stacking is better than interpolating.", "runs beyond the first fifth: "
              "the paper finds both alike early and interpolation behind later"),
        higher("depth/zero", STACK, "Stacking is better than adding identity blocks.", f"{LARGE} 0.010 nats"),
        higher("depth/learn", STACK, "Stacking is better than a learned map of blocks.", f"{LARGE} 0.005 nats"),
        higher("depth/random", STACK, "Stacking is better than new blocks at random."),
        higher("depth/random", SCRATCH, "New blocks at random are worse than training from scratch.",
              f"{LARGE} 0.054 nats"),
        Claim(
            "Stacking is better than every way to grow in width.",
            of=(by_seed(best_width, "loss") - by_seed(level, "loss", arm=STACK)).behind(compared),
            statistic="lowest loss of the width operators minus that of stacking at equal FLOPs, nats per token",
            accept=above(0.0),
        ),
        *(
            higher(arm, SCRATCH, f"Growing in width ({name}) is no better than training from scratch.", low=-SAME)
            for arm, name in WIDTH.items()
        ),
    ]  # fmt: skip


def _speed_up_claim(gains: pl.DataFrame, n_scratch: int) -> Claim:
    stacked = gains.filter(pl.col("arm") == STACK)
    sample = Sample.of(stacked["speedup"].to_list(), len(stacked) + n_scratch, bounds=stacked["bound"].to_list())
    return Claim(
        "Stacking reaches its loss with less compute than scratch.",
        of=sample.or_say(None if len(gains) else "scratch was trained at one budget only"),
        statistic="FLOPs of scratch to the stack's loss over those of the stack, minus 1",
        accept=above(0.0),
    )


# --- figures ---------------------------------------------------------------------------------------------


def _draw_courses(rows: pl.DataFrame, folder: Path) -> None:
    """`operators`: loss over cumulative FLOPs, operators in depth and in width beside each other."""
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, names, title in zip(panels, (DEPTH, WIDTH), ("depth", "width"), strict=True):
            draw_courses(axes, rows, {SCRATCH: "scratch"} | names, COLOURS)
            axes.set_title(f"growth in {title}")
            axes.legend()
        show_losses(panels[0], rows.filter(pl.col("arm") != SCRATCH)["val_loss"])
        panels[1].set_ylabel("")
    shown = ["arm", "seed", "run_id", "part", "step", "tokens", "flops", "lr", "train_loss", "val_loss"]
    write_picture(figure, rows.select(shown), folder / "operators")


def _draw_ranking(level: pl.DataFrame, gains: pl.DataFrame, folder: Path) -> None:
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
    table = level.select("arm", "seed", "run_id", "flops", "base_flops", "loss")
    table = table.join(gains.select("run_id", "speedup", "bound"), on="run_id", how="left").sort("arm", "seed")
    write_picture(figure, table, folder / "ranking")

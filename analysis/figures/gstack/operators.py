"""Du et al. 2024 (arXiv 2405.15319), figures 3 and 11: every way to grow against training from scratch."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis import style
from analysis.claims import Claim
from analysis.figures.gstack.plots import LOSS, SCRATCH_COLOUR, draw_courses, draw_ranking, show_late
from analysis.growth import FROM_SCRATCH, courses, finals, speed_ups, trace
from analysis.lr_sweep import arms_apart, by_seed, differences
from analysis.seeds import claim_over_seeds
from train.record import write_bytes

SCRATCH, STACK = "scratch", "depth/stack"
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
        runs: `analysis.table.read_runs` of a target from scratch at several budgets, and grown by every operator at one
            of them.
    """
    traced = trace(runs)
    ended = finals(traced).with_columns(_arm())
    budget = ended.filter(~FROM_SCRATCH)["budget"].drop_nulls().first()
    level = ended.filter(pl.col("budget") == budget)
    gains = speed_ups(ended)
    _draw_courses(traced, level, out)
    _draw_ranking(level, gains, out)
    return [*_loss_claims(level), *_speed_up_claims(gains)]


def _arm() -> pl.Expr:
    depth = pl.col("base_depth") < pl.col("model.depth")
    grown = (
        pl.when(depth)
        .then(pl.concat_str(pl.lit("depth/"), "grow.depth"))
        .otherwise(pl.concat_str(pl.lit("width/"), "grow.width"))
    )
    return pl.when(FROM_SCRATCH).then(pl.lit(SCRATCH)).otherwise(grown).alias("arm")


# --- claims ----------------------------------------------------------------------------------------------


def _loss_claims(level: pl.DataFrame) -> list[Claim]:
    n_seeds = level["seed"].n_unique()

    def above(one: str, other: str, sentence: str, scale: str | None = None) -> Claim:
        return claim_over_seeds(
            arms_apart(level, "loss", one, other),
            sentence=sentence,
            statistic=f"loss of {ARMS[one]} minus {ARMS[other]} at equal FLOPs, nats per token",
            threshold="above 0",
            low=0.0,
            n_runs=2 * n_seeds,
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
            n_runs=(1 + len(WIDTH)) * n_seeds,
        ),
        *(
            above(arm, SCRATCH, f"Growing in width ({name}) is no better than training from scratch.")
            for arm, name in WIDTH.items()
        ),
    ]  # fmt: skip


def _speed_up_claims(gains: pl.DataFrame) -> list[Claim]:
    return [
        claim_over_seeds(
            list(by_seed(gains, "speedup", arm=STACK).values()),
            sentence="Stacking reaches its loss with less compute than scratch.",
            statistic="FLOPs of scratch to the stack's loss over those of the stack, minus 1",
            threshold="above 0",
            low=0.0,
            n_runs=gains.filter(pl.col("arm") == STACK).height + 3 * gains["seed"].n_unique(),
            reason=None if gains.height else "scratch was trained at one budget only",
        )
    ]


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
            show_late(axes, rows, SCRATCH)
            axes.set_title(f"growth in {title}")
            axes.legend()
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
        by = level.filter(pl.col("arm") == SCRATCH)["loss"].mean()
        loss.axvline(by, color=style.REFERENCE, linewidth=0.8, linestyle=":")
        gain.axvline(0, color=style.REFERENCE, linewidth=0.8, linestyle=":")
        loss.set_xlabel(LOSS)
        gain.set_xlabel("speed-up over scratch")
        gain.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        style.save(figure, out / "ranking")
    table = level.select("arm", "seed", "run_id", "flops", "base_flops", "loss")
    table = table.join(gains.select("run_id", "speedup", "bound"), on="run_id", how="left").sort("arm", "seed")
    write_bytes(out / "ranking.csv", table.write_csv().encode())

"""Wang et al. 2024 (arXiv 2410.23168): a TokenFormer that grows by appending parameter tokens."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, within
from analysis.claims.sample import arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, courses_of, draw_line, flops_axis, show_losses, zero_line
from analysis.figures.gstack.spike import KEPT, jumps
from analysis.growth.speed_up import SCRATCH, finals, name_broken
from analysis.stability.plot_arms import draw_estimates
from analysis.tables.lineage import FROM_SCRATCH, trace

FROZEN, RECOMPUTED, RANDOM = "frozen", "recomputed", "random"
NET2NET, PLAIN = "net2net", "plain"
GROWN = {FROZEN: "zero keys,\nold tau", RECOMPUTED: "zero keys,\nnew tau", RANDOM: "random\nkeys", NET2NET: "Net2Net"}
COLOURS = {
    FROZEN: style.ARMS[0],
    RECOMPUTED: style.ARMS[1],
    RANDOM: style.ARMS[2],
    NET2NET: style.ARMS[3],
    SCRATCH: style.REFERENCE,
    PLAIN: style.REFERENCE,
}


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `tokenformer` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a TokenFormer grown in three ways and from scratch at two budgets, and
            of a transformer grown by Net2Net and from scratch.
    """
    tokens = pl.col("model.param_tokens").is_not_null()
    frozen = pl.col("model.param_tau") < 1
    operator = pl.when(pl.col("grow.width") == "random").then(pl.lit(RANDOM)).otherwise(pl.lit(RECOMPUTED))
    arm = (
        pl.when(FROM_SCRATCH)
        .then(pl.when(tokens).then(pl.lit(SCRATCH)).otherwise(pl.lit(PLAIN)))
        .otherwise(pl.when(~tokens).then(pl.lit(NET2NET)).when(frozen).then(pl.lit(FROZEN)).otherwise(operator))
    )
    traced = trace(runs).with_columns(arm.alias("arm"))
    ends = finals(traced)
    course = courses_of(traced, ends, "arm", "seed")
    jump = jumps(course.filter(pl.col("arm").is_in(list(GROWN))))
    jump = jump.join(ends.select("run_id", "arm", "seed"), on="run_id", maintain_order="left")
    _draw(course, ends, jump, folder)
    return name_broken([*_jump_claims(jump), *_end_claims(ends)], traced)


# --- claims ----------------------------------------------------------------------------------------------


def _jump_claims(jump: pl.DataFrame) -> list[Claim]:
    statistic = "validation loss after growth and before the first step minus the base's last"
    return [
        Claim(
            "With zero keys and tau as it was, the loss is continuous at growth.",
            of=by_seed(jump, "jump", arm=FROZEN),
            statistic=f"{statistic} (nats)",
            accept=within(KEPT),
        ),
        Claim(
            "With zero keys and tau for the new number of tokens, the loss jumps.",
            of=by_seed(jump, "jump", arm=RECOMPUTED),
            statistic=f"{statistic} (nats)",
            accept=above(0.0),
        ),
        Claim(
            "Random keys make it jump higher.",
            of=arms_apart(jump, "jump", RANDOM, RECOMPUTED),
            statistic=f"{statistic}, random minus zero keys, tau for the new number of tokens (nats)",
            accept=above(0.0),
        ),
        Claim(
            "Net2Net keeps the loss of a transformer whose MLP it widens.",
            of=by_seed(jump, "jump", arm=NET2NET),
            statistic=f"{statistic} (nats)",
            accept=within(KEPT),
        ),
    ]


def _end_claims(ends: pl.DataFrame) -> list[Claim]:
    # Of either architecture the largest budget; a TokenFormer from scratch has a smaller one too.
    full = ends.filter(pl.col("budget") == pl.col("budget").max().over("model.depth"))
    grown = by_seed(full, "loss", arm=FROZEN)
    steps = pl.col("n_steps") + pl.col("n_steps_inherited") - pl.col("base_steps")  # at full size
    as_many = full.filter(pl.col("arm") == FROZEN).select("seed", steps.alias("steps"))
    scratch = ends.filter(pl.col("arm") == SCRATCH).with_columns(steps.alias("steps"))
    alike = scratch.join(as_many, on=["seed", "steps"])
    none_alike = None if len(alike) else "no run from scratch made as many steps as a grown one at full size"
    return [
        Claim(
            f"A grown TokenFormer ends below {below}.",
            of=(other - grown).or_say(reason),
            statistic=f"final validation loss {at}, {name} minus grown TokenFormer (nats)",
            accept=above(0.0),
        )
        for other, name, at, below, reason in (
            (
                by_seed(full, "loss", arm=SCRATCH),
                "TokenFormer from scratch",
                "at equal FLOPs",
                "one from scratch of the same FLOPs",
                None,
            ),
            (
                by_seed(alike, "loss"),
                "TokenFormer from scratch",
                "after as many steps of the large model",
                "one from scratch that made as many steps at full size",
                none_alike,
            ),
            (
                by_seed(full, "loss", arm=NET2NET),
                "transformer widened by Net2Net",
                "at equal FLOPs",
                "a transformer that Net2Net widened",
                None,
            ),
        )
    ]


# --- figure ----------------------------------------------------------------------------------------------


def _draw(course: pl.DataFrame, ends: pl.DataFrame, jump: pl.DataFrame, folder: Path) -> None:
    """`tokenformer`: loss against cumulative FLOPs, base and grown, beside scratch, for both architectures; and the
    jump at growth."""
    longest = ends.sort("flops").group_by("arm", "seed", maintain_order=True).last()
    measured = course.drop_nulls("val_loss").filter(pl.col("run_id").is_in(longest["run_id"].implode()))
    grown = measured.filter(pl.col("since_growth") & pl.col("arm").is_in(list(GROWN)))
    drawn = []
    with style.paper():
        figure = Figure(figsize=(11.0, 3.4))
        tokens, plain, at_growth = figure.subplots(1, 3, width_ratios=[1.1, 1.1, 0.9])
        panels: tuple[tuple[Axes, str, tuple[str, ...]], ...] = (
            (tokens, "TokenFormer", (SCRATCH, FROZEN, RECOMPUTED, RANDOM)),
            (plain, "transformer", (PLAIN, NET2NET)),
        )
        for axes, title, arms in panels:
            base = measured.filter(pl.col("arm").is_in(arms) & ~pl.col("since_growth")).unique(["part", "step"])
            lines = [("base", style.ARMS[6], base)]
            lines += [(a, COLOURS[a], measured.filter((pl.col("arm") == a) & pl.col("since_growth"))) for a in arms]
            for name, colour, rows in lines:
                label = GROWN.get(name, "from scratch" if name != "base" else name).replace("\n", " ")
                drawn.append(draw_line(axes, rows, label, colour, model=title, arm=name))
            show_losses(axes, grown["val_loss"])
            axes.set_title(title)
            flops_axis(axes)
            axes.legend()
        tokens.set_ylabel(LOSS)
        there = {arm: name for arm, name in GROWN.items() if arm in set(jump["arm"])}
        if there:
            draw_estimates(at_growth, jump, there, "jump")
        zero_line(at_growth)
        at_growth.set_ylabel("jump of the loss at growth (nats per token)")
    write_picture(figure, pl.concat(drawn), folder / "tokenformer")

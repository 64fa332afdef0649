"""Wang et al. 2024 (arXiv 2410.23168): a TokenFormer that grows by appending parameter tokens."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.figures.gstack.plots import LOSS, flops_axis, show_losses
from analysis.figures.gstack.spike import KEPT, jumps
from analysis.growth.speed_up import SCRATCH, finals, name_broken
from analysis.stability.lr_sweep import arms_apart, by_seed, differences
from analysis.stability.plot_arms import draw_estimates
from analysis.tables.lineage import FROM_SCRATCH, courses, trace
from train.record.files import write_bytes

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


def tokenformer(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `tokenformer` into `out`, and return the claims.

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
    names = ends.select("run_id", "arm", "seed")
    course = courses(traced, ends["run_id"]).join(names, on="run_id", how="left", maintain_order="left")
    jump = jumps(course.filter(pl.col("arm").is_in(list(GROWN)))).join(names, on="run_id", maintain_order="left")
    _draw(course, ends, jump, out)
    return name_broken([*_jump_claims(jump), *_end_claims(ends)], traced)


# --- claims ----------------------------------------------------------------------------------------------


def _jump_claims(jump: pl.DataFrame) -> list[Claim]:
    statistic = "validation loss after growth and before the first step minus the base's last"

    def n_runs(*arms: str) -> int:
        return jump.filter(pl.col("arm").is_in(arms)).height

    kept = [
        claim_over_seeds(
            list(by_seed(jump, "jump", arm=arm).values()),
            sentence=sentence,
            statistic=f"{statistic} (nats)",
            threshold=f"within {KEPT:g}",
            low=-KEPT,
            high=KEPT,
            n_runs=n_runs(arm),
        )
        for arm, sentence in (
            (FROZEN, "With zero keys and tau as it was, the loss is continuous at growth."),
            (NET2NET, "Net2Net keeps the loss of a transformer whose MLP it widens."),
        )
    ]
    return [
        kept[0],
        claim_over_seeds(
            list(by_seed(jump, "jump", arm=RECOMPUTED).values()),
            sentence="With zero keys and tau for the new number of tokens, the loss jumps.",
            statistic=f"{statistic} (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs(RECOMPUTED),
        ),
        claim_over_seeds(
            arms_apart(jump, "jump", RANDOM, RECOMPUTED),
            sentence="Random keys make it jump higher.",
            statistic=f"{statistic}, random minus zero keys, tau for the new number of tokens (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs(RANDOM, RECOMPUTED),
        ),
        kept[1],
    ]


def _end_claims(ends: pl.DataFrame) -> list[Claim]:
    # Of either architecture the largest budget; a TokenFormer from scratch has a smaller one too.
    full = ends.filter(pl.col("budget") == pl.col("budget").max().over("model.depth"))
    grown = by_seed(full, "loss", arm=FROZEN)
    steps = pl.col("n_steps") + pl.col("n_steps_inherited") - pl.col("base_steps")  # at full size
    as_many = full.filter(pl.col("arm") == FROZEN).select("seed", steps.alias("steps"))
    scratch = ends.filter(pl.col("arm") == SCRATCH).with_columns(steps.alias("steps"))
    alike = scratch.join(as_many, on=["seed", "steps"])
    return [
        claim_over_seeds(
            differences(other, grown),
            sentence=sentence,
            statistic=f"final validation loss{at}, {name} minus grown TokenFormer (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=len(grown) + len(other),
            reason=reason,
        )
        for other, name, at, sentence, reason in (
            (
                by_seed(full, "loss", arm=SCRATCH),
                "TokenFormer from scratch",
                " at equal FLOPs",
                "A grown TokenFormer ends below one from scratch of the same FLOPs.",
                None,
            ),
            (
                by_seed(alike, "loss"),
                "TokenFormer from scratch",
                " after as many steps of the large model",
                "A grown TokenFormer ends below one from scratch that made as many steps at full size.",
                None if len(alike) else "no run from scratch made as many steps as a grown one at full size",
            ),
            (
                by_seed(full, "loss", arm=NET2NET),
                "transformer widened by Net2Net",
                " at equal FLOPs",
                "A grown TokenFormer ends below a transformer that Net2Net widened.",
                None,
            ),
        )
    ]


# --- figure ----------------------------------------------------------------------------------------------


def _draw(course: pl.DataFrame, ends: pl.DataFrame, jump: pl.DataFrame, out: Path) -> None:
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
                points = draw_over_seeds(
                    axes, rows, "flops", "val_loss", colour=colour, line="-", label=label, log=False
                )
                drawn.append(points.select(pl.lit(title).alias("model"), pl.lit(name).alias("arm"), pl.all()))
            show_losses(axes, grown["val_loss"])
            axes.set_title(title)
            flops_axis(axes)
            axes.legend()
        tokens.set_ylabel(LOSS)
        there = {arm: name for arm, name in GROWN.items() if arm in set(jump["arm"])}
        if there:
            draw_estimates(at_growth, jump, there, "jump")
        at_growth.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)
        at_growth.set_ylabel("jump of the loss at growth (nats per token)")
        style.save(figure, out / "tokenformer")
    write_bytes(out / "tokenformer.csv", pl.concat(drawn).write_csv().encode())

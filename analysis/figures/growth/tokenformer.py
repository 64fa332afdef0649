"""Wang et al. 2024 (arXiv 2410.23168): a TokenFormer that grows by appending parameter tokens."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import style
from analysis.claims import Claim
from analysis.figures.arms_plot import draw_estimates
from analysis.figures.gstack.plots import LOSS, flops_axis
from analysis.figures.gstack.spike import KEPT, jumps
from analysis.figures.lines import draw_over_seeds
from analysis.growth import FROM_SCRATCH, courses, finals, trace
from analysis.lr_sweep import arms_apart, by_seed, differences
from analysis.seeds import claim_over_seeds
from conf.door import human
from train.record import write_bytes

FROZEN, RECOMPUTED, RANDOM, SCRATCH = "frozen", "recomputed", "random", "scratch"
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
        runs: `analysis.table.read_runs` of a TokenFormer grown in three ways and from scratch at two budgets, and of a
            transformer grown by Net2Net and from scratch.
    """
    tokens = pl.col("model.param_tokens").is_not_null()
    frozen = pl.col("model.param_tau") < 1
    operator = pl.when(pl.col("grow.width") == "random").then(pl.lit(RANDOM)).otherwise(pl.lit(RECOMPUTED))
    arm = (
        pl.when(FROM_SCRATCH)
        .then(pl.when(tokens).then(pl.lit(SCRATCH)).otherwise(pl.lit(PLAIN)))
        .otherwise(pl.when(~tokens).then(pl.lit(NET2NET)).when(frozen).then(pl.lit(FROZEN)).otherwise(operator))
    )
    traced = trace(runs)
    ends = finals(traced).with_columns(arm.alias("arm"))
    names = ends.select("run_id", "arm", "seed")
    course = courses(traced, ends["run_id"]).join(names, on="run_id", how="left", maintain_order="left")
    jump = jumps(course.filter(pl.col("arm").is_in(list(GROWN)))).join(names, on="run_id", maintain_order="left")
    _draw(course, ends, jump, out)
    return [*_jump_claims(jump), *_end_claims(ends)]


# --- claims ----------------------------------------------------------------------------------------------


def _jump_claims(jump: pl.DataFrame) -> list[Claim]:
    statistic = "validation loss after growth and before the first step minus the base's last"
    n_seeds = jump["seed"].n_unique()
    kept = [
        claim_over_seeds(
            list(by_seed(jump, "jump", arm=arm).values()),
            sentence=sentence,
            statistic=f"{statistic} (nats)",
            threshold=f"within {KEPT:g}",
            low=-KEPT,
            high=KEPT,
            n_runs=n_seeds,
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
            n_runs=n_seeds,
        ),
        claim_over_seeds(
            arms_apart(jump, "jump", RANDOM, RECOMPUTED),
            sentence="Random keys make it jump higher.",
            statistic=f"{statistic}, random minus zero keys, tau for the new number of tokens (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=2 * n_seeds,
        ),
        kept[1],
    ]


def _end_claims(ends: pl.DataFrame) -> list[Claim]:
    most = pl.col("flops") > 0.9 * pl.col("flops").max()  # scratch has a shorter run too
    full, alike = ends.filter(most), ends.filter((pl.col("arm") == SCRATCH) & ~most)
    grown = by_seed(full, "loss", arm=FROZEN)
    n_runs = 2 * len(grown)
    return [
        claim_over_seeds(
            differences(other, grown),
            sentence=sentence,
            statistic=f"final validation loss{at}, {name} minus grown TokenFormer (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs,
        )
        for other, name, at, sentence in (
            (
                by_seed(full, "loss", arm=SCRATCH),
                "TokenFormer from scratch",
                " at equal FLOPs",
                "A grown TokenFormer ends below one from scratch of the same FLOPs.",
            ),
            (
                by_seed(alike, "loss", arm=SCRATCH),
                "TokenFormer from scratch",
                " after as many steps of the large model",
                "A grown TokenFormer ends below one from scratch that made as many steps at full size.",
            ),
            (
                by_seed(full, "loss", arm=NET2NET),
                "transformer widened by Net2Net",
                " at equal FLOPs",
                "A grown TokenFormer ends below a transformer that Net2Net widened.",
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
    low, high = float(measured["val_loss"].min()), float(grown["val_loss"].max())  # type: ignore[arg-type]
    drawn = []
    with style.paper():
        figure = Figure(figsize=(11.0, 3.4))
        tokens, plain, at_growth = figure.subplots(1, 3, width_ratios=[1.1, 1.1, 0.9])
        panels: tuple[tuple[Axes, str, tuple[str, ...]], ...] = (
            (tokens, "TokenFormer", (SCRATCH, FROZEN, RECOMPUTED, RANDOM)),
            (plain, "transformer", (PLAIN, NET2NET)),
        )
        for axes, title, arms in panels:
            base = measured.filter((pl.col("arm") == arms[1]) & ~pl.col("since_growth"))
            lines = [("base", style.ARMS[6], base)]
            lines += [(a, COLOURS[a], measured.filter((pl.col("arm") == a) & pl.col("since_growth"))) for a in arms]
            for name, colour, rows in lines:
                label = GROWN.get(name, "from scratch" if name != "base" else name).replace("\n", " ")
                points = draw_over_seeds(
                    axes, rows, "flops", "val_loss", colour=colour, line="-", label=label, log=False
                )
                drawn.append(points.select(pl.lit(title).alias("model"), pl.lit(name).alias("arm"), pl.all()))
            axes.set_ylim(low - 0.05, max(high, low + 0.5) + 0.05)
            axes.set_title(title)
            flops_axis(axes)
            axes.xaxis.set_major_formatter(lambda value, _: human(value))
            axes.legend()
        tokens.set_ylabel(LOSS)
        draw_estimates(at_growth, jump, GROWN, "jump")
        at_growth.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)
        at_growth.set_ylabel("jump of the loss at growth (nats per token)")
        style.save(figure, out / "tokenformer")
    write_bytes(out / "tokenformer.csv", pl.concat(drawn).write_csv().encode())

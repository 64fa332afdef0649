"""Du et al. 2024 (arXiv 2405.15319), figure 10: loss against the growth factor."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, draw_line
from analysis.growth.speed_up import arm_of, finals, name_broken
from analysis.tables.lineage import trace
from conf.command_line import SI, human


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `factor` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch and stacked from bases of several depths, each
            at several budgets.
    """
    g = (pl.col("model.depth") / pl.col("base_depth")).fill_null(1.0).alias("factor")
    traced = trace(runs).with_columns(g).with_columns(arm_of(pl.format("g = {}", pl.col("factor").cast(pl.Int64))))
    table = finals(traced).sort("budget", "factor", "seed")
    _draw(table, folder)
    return name_broken(_claims(table.filter(pl.col("budget") == pl.col("budget").max())), traced)


def _claims(table: pl.DataFrame) -> list[Claim]:
    depth = int(table["model.depth"][0])
    single = float(depth)  # the factor of a base of one block
    loss = {g: by_seed(table, "loss", factor=g) for g in (1.0, 2.0, 4.0, single)}

    def lower(g: float, other: float) -> Sample:
        values, others = loss[g].values, loss[other].values
        return Sample({seed: min(values[seed], others[seed]) for seed in values if seed in others}, n_runs=0)

    def better(g: float, other: float, sentence: str, needs: str | None = None) -> Claim:
        names = [f"g = {factor:g}" if factor > 1 else "scratch" for factor in (other, g)]
        return Claim(
            sentence,
            of=loss[other] - loss[g],
            statistic=f"loss of {names[0]} minus {names[1]} at the largest budget, nats per token",
            accept=above(0.0),
            needs=needs,
        )

    between = (lower(1.0, single) - lower(2.0, 4.0)).behind(table.filter(pl.col("factor").is_in(list(loss))))
    return [
        *(better(g, 1.0, f"Growing by a factor of {g:g} is better than training from scratch.") for g in (2.0, 4.0)),
        Claim(
            "The best growth factor lies between 2 and 4.",
            of=between.unless(None if depth > 4 else "no factor is larger than 4"),
            statistic=f"the lower loss of g = 1 and g = {depth} minus the lower one of g = 2 and g = 4 at the largest "
            "budget, nats per token",
            accept=above(0.0),
        ),
        better(
            1.0,
            single,
            "A base of one block is worse than training from scratch.",
            None if depth >= 24 else f"24 blocks, of which one is a 24th; here it is one of {depth}",
        ),
    ]


def _draw(table: pl.DataFrame, folder: Path) -> None:
    """`factor`: loss against the growth factor, a curve for each budget."""
    shades = style.setting_colours(table["budget"].to_numpy())
    factors = table["factor"].unique().sort()
    depth = int(table["model.depth"][0])
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        for (budget,), rows in table.group_by("budget", maintain_order=True):
            label = f"{human(float(budget), SI)} FLOPs"
            draw_line(axes, rows, label, shades[float(budget)], x="factor", y="loss", line="o-")
        axes.set_xscale("log", base=2)
        axes.set_xticks(factors.to_list(), [f"{g:g}\n({depth / g:g})" for g in factors])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("growth factor (blocks of the base); 1 is scratch")
        axes.set_ylabel(LOSS)
        axes.legend()
    shown = ["budget", "factor", "base_depth", "seed", "run_id", "flops", "base_flops", "loss"]
    write_picture(figure, table.select(shown), folder / "factor")

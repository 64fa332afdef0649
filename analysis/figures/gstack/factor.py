"""Du et al. 2024 (arXiv 2405.15319), figure 10: loss against the growth factor."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.figures.gstack.plots import LOSS
from analysis.growth.speed_up import arm_of, finals, name_broken
from analysis.stability.lr_sweep import by_seed, differences
from analysis.tables.lineage import trace
from conf.command_line import SI, human
from train.record.files import write_bytes


def factor(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `factor` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a target from scratch and stacked from bases of several depths, each
            at several budgets.
    """
    g = (pl.col("model.depth") / pl.col("base_depth")).fill_null(1.0).alias("factor")
    traced = trace(runs).with_columns(g).with_columns(arm_of(pl.format("g = {}", pl.col("factor").cast(pl.Int64))))
    table = finals(traced).sort("budget", "factor", "seed")
    _draw(table, out)
    return name_broken(_claims(table.filter(pl.col("budget") == pl.col("budget").max())), traced)


def _claims(table: pl.DataFrame) -> list[Claim]:
    depth = int(table["model.depth"][0])
    one_block = float(depth)
    loss = {g: by_seed(table, "loss", factor=g) for g in (1.0, 2.0, 4.0, one_block)}

    def lower(one: float, other: float) -> dict[int, float]:
        return {seed: min(value, loss[other][seed]) for seed, value in loss[one].items() if seed in loss[other]}

    def n_runs(*factors: float) -> int:
        return table.filter(pl.col("factor").is_in(factors)).height

    def better(one: float, other: float, sentence: str, scale: str | None = None) -> Claim:
        names = [f"g = {g:g}" if g > 1 else "scratch" for g in (other, one)]
        return claim_over_seeds(
            differences(loss[other], loss[one]),
            sentence=sentence,
            statistic=f"loss of {names[0]} minus {names[1]} at the largest budget, nats per token",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs(one, other),
            scale=scale,
        )

    return [
        *(better(g, 1.0, f"Growing by a factor of {g:g} is better than training from scratch.") for g in (2.0, 4.0)),
        claim_over_seeds(
            differences(lower(1.0, one_block), lower(2.0, 4.0)) if depth > 4 else [],
            sentence="The best growth factor lies between 2 and 4.",
            statistic=f"the lower loss of g = 1 and g = {depth} minus the lower one of g = 2 and g = 4 at the largest "
            "budget, nats per token",
            threshold="above 0",
            low=0.0,
            n_runs=n_runs(1.0, 2.0, 4.0, one_block),
            reason=None if depth > 4 else "no factor is larger than 4",
        ),
        better(
            1.0,
            one_block,
            "A base of one block is worse than training from scratch.",
            None if depth >= 24 else f"24 blocks, of which one is a 24th; here it is one of {depth}",
        ),
    ]


def _draw(table: pl.DataFrame, out: Path) -> None:
    """`factor`: loss against the growth factor, a curve for each budget."""
    shades = style.setting_colours(table["budget"].to_numpy())
    factors = table["factor"].unique().sort()
    depth = int(table["model.depth"][0])
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        for (budget,), rows in table.group_by("budget", maintain_order=True):
            label = f"{human(float(budget), SI)} FLOPs"
            draw_over_seeds(axes, rows, "factor", "loss", colour=shades[float(budget)], label=label, log=False)
        axes.set_xscale("log", base=2)
        axes.set_xticks(factors.to_list(), [f"{g:g}\n({depth / g:g})" for g in factors])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("growth factor (blocks of the base); 1 is scratch")
        axes.set_ylabel(LOSS)
        axes.legend()
        style.save(figure, out / "factor")
    shown = ["budget", "factor", "base_depth", "seed", "run_id", "flops", "base_flops", "loss"]
    write_bytes(out / "factor.csv", table.select(shown).write_csv().encode())

"""Sun et al. 2025 (arXiv 2502.05795): the variance of the stream, what the deep blocks do, and the loss over depths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import arms_apart, by_seed, slopes
from analysis.drawing import style
from analysis.drawing.lines import over_seeds_at
from analysis.drawing.pictures import write_picture
from analysis.figures.norms.layers import angles, at_end, at_start, by_block, over_blocks, read_rows
from analysis.figures.norms.layers_plot import draw_angles, draw_bars, draw_profile
from analysis.stability.lr_sweep import CURVE, arm_where, read_sweep, span
from analysis.stability.plot_arms import arm_colours, draw_arms, draw_estimates
from analysis.stability.plot_lr_sweep import loss_limits
from analysis.tables.columns import Array

ARMS = {"pre": "Pre-LN", "lns": "LayerNorm Scaling", "scaled": "Scaled Init", "post": "Post-LN", "peri": "Peri-LN"}
SEVERAL = float(np.log10(2))  # "several times" is at least twice
LARGE = "130M parameters and 2.2e9 tokens, where the paper finds it; a few hundred steps of a narrow model are too few"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `variance` (figure 4), `layers` (figures 3 and 7) and `loss` (table 1); the size of a run is its depth."""
    changed = {"lns": pl.col("model.layernorm_scaling"), "scaled": pl.col("param.scaled_residual_init")}
    arm = arm_where(changed, pl.col("model.norm_placement"))
    sweep = read_sweep(runs, arm, size=pl.col("model.depth"))
    measured = _deepest_at_one_rate(sweep)
    rows = read_rows(sweep)
    variance = by_block(rows, "output_variance")
    deep_variance = variance.filter(pl.col("run_id").is_in(measured["run_id"].implode()))
    rows_measured = [run for run in rows if run.keys["run_id"] in set(measured["run_id"])]
    removal, angle = by_block(rows_measured, "removal_loss"), angles(rows_measured)
    _draw_variance(deep_variance, folder)
    _draw_layers(removal, angle, folder)
    _draw_loss(sweep, measured, folder)
    return [
        *_variance_claims(variance.filter(pl.col("lr") == measured["lr"][0]), deep_variance),
        *_loss_claims(sweep),
        *_deep_block_claims(removal, angle),
    ]


def _deepest_at_one_rate(sweep: pl.DataFrame) -> pl.DataFrame:
    """The runs of the greatest depth at the rate that most arms have."""
    deepest = sweep.filter(pl.col("size") == pl.col("size").max())
    arms = deepest.group_by("lr").agg(pl.col("arm").n_unique()).sort("arm", "lr")
    return deepest.filter(pl.col("lr") == arms["lr"][-1])


def best_of_rates(sweep: pl.DataFrame) -> pl.DataFrame:
    """The lowest `loss` over the learning rates for each arm, size and seed."""
    return sweep.group_by(CURVE).agg(pl.col("loss").min()).sort(CURVE)


def power_of_block(variances: Array) -> float:
    """The slope of ln variance against ln l: p where the variance grows like l^p."""
    return float(np.polyfit(np.log(np.arange(1, len(variances) + 1)), np.log(variances), 1)[0])


def _variance_claims(one_rate: pl.DataFrame, deep: pl.DataFrame) -> list[Claim]:
    last = over_blocks(at_end(one_rate), lambda x: float(np.log10(x[-1])), "last")
    first = over_blocks(at_start(one_rate), lambda x: float(np.log10(x[-1])), "last")
    power = over_blocks(at_end(deep), power_of_block, "power")
    depth, lr = int(deep["size"][0]), deep["lr"][0]
    begun, ended = (by_seed(table, "last", arm="pre", size=depth) for table in (first, last))
    at = f"at depth {depth} and a rate of {lr:g}"
    return [
        Claim(
            "In pre-LN the variance of the last block's output grows during training.",
            of=(ended - begun).behind(ended.n_runs),
            statistic=f"log10 of the variance after training over that at initialisation, {at}",
            accept=above(0),
        ),
        Claim(
            "In pre-LN the variance of the last block's output grows with the depth of the model.",
            of=slopes(last, "last", arm="pre"),
            statistic=f"slope of log10 variance after training against log10 of depth, at a rate of {lr:g}",
            accept=above(0),
        ),
        Claim(
            "LayerNorm Scaling makes the variance of the last block's output several times smaller.",
            of=arms_apart(last, "last", "pre", "lns", size=depth),
            statistic=f"log10 of the last block's variance after training in pre-LN over LayerNorm Scaling, {at}",
            accept=above(SEVERAL, "a factor of 2", form=".2f"),
        ),
        Claim(
            "Scaled Init does not bound the variance as LayerNorm Scaling does.",
            of=arms_apart(last, "last", "scaled", "lns", size=depth),
            statistic=f"log10 of the last block's variance after training under Scaled Init over the same, {at}",
            accept=above(SEVERAL, "a factor of 2", form=".2f"),
        ),
        Claim(
            "Under LayerNorm Scaling the variance grows more slowly than the square of the block's index.",
            of=by_seed(power, "power", arm="lns"),
            statistic=f"p of variance ∝ l^p over the blocks after training, {at}",
            accept=below(2),
        ),
        Claim(
            "The variance grows faster over the blocks of pre-LN than under LayerNorm Scaling.",
            of=arms_apart(power, "power", "pre", "lns"),
            statistic=f"the same p in pre-LN minus LayerNorm Scaling, {at}",
            accept=above(0),
        ),
    ]


def _loss_claims(sweep: pl.DataFrame) -> list[Claim]:
    both = sweep.filter(pl.col("arm").is_in(["pre", "lns"]))
    wide = best_of_rates(both).pivot("arm", index=["size", "seed"], values="loss")
    gain = wide.with_columns(gain=pl.col("pre") - pl.col("lns"))
    deepest = span(both, "size")[1]
    return [
        Claim(
            "LayerNorm Scaling reaches a lower loss than pre-LN.",
            of=by_seed(gain, "gain", size=deepest).behind(both.filter(pl.col("size") == deepest)),
            statistic=f"loss of pre-LN minus LayerNorm Scaling at depth {deepest:.0f}, each at the best of its rates, "
            "nats",
            accept=above(0),
            needs=f"{LARGE} to tell a gain of a few per cent from a better bearing of high rates",
        ),
        Claim(
            "The gain grows with depth.",
            of=slopes(gain, "gain").behind(both),
            statistic="slope of that difference against log10 of depth, nats per decade",
            accept=above(0),
            needs=LARGE,
        ),
    ]


def _deep_block_claims(removal: pl.DataFrame, angle: pl.DataFrame) -> list[Claim]:
    deeper = pl.col("block") > pl.col("block").max() / 2
    adjacent = angle.filter(pl.col("ahead") == 1).with_columns(pl.lit(0).alias("step"))
    turned, missed = (
        over_blocks(table.filter(deeper), lambda x: float(x.mean()), "mean") for table in (adjacent, removal)
    )
    return [
        Claim(
            "Deep blocks turn the stream further under LayerNorm Scaling.",
            of=arms_apart(turned, "mean", "lns", "pre"),
            statistic="angular distance between the inputs of adjacent blocks, mean over the deeper half, LayerNorm "
            "Scaling minus pre-LN, units of pi",
            accept=above(0),
            needs=LARGE,
        ),
        Claim(
            "Removing a deep block costs more under LayerNorm Scaling.",
            of=arms_apart(missed, "mean", "lns", "pre"),
            statistic="rise of the loss without a block, mean over the deeper half, LayerNorm Scaling minus pre-LN, "
            "nats",
            accept=above(0),
            needs=LARGE,
        ),
    ]


def _draw_variance(deep: pl.DataFrame, folder: Path) -> None:
    """`variance`: of each block's output over steps for three arms, and after training over the blocks for all."""
    shown = {arm: ARMS[arm] for arm in ("pre", "scaled", "lns")}
    colours = style.size_colours(deep["block"].to_numpy())
    with style.panels((9.6, 2.9), 1, 4, sharey=True, width_ratios=[1, 1, 1, 1.25]) as (figure, panels):
        for axes, (arm, name) in zip(panels, shown.items(), strict=False):
            for block, colour in colours.items():
                rows = deep.filter((pl.col("arm") == arm) & (pl.col("block") == block))
                points = over_seeds_at(rows, "step", "value", log=True)
                axes.plot(points["step"], points["mean"], color=colour, linewidth=1.0)
            axes.set(yscale="log", xlabel="step", title=name)
        draw_profile(panels[-1], at_end(deep), ARMS)
        panels[-1].set_title("after training")
        panels[-1].legend(fontsize=6.5, ncols=2, columnspacing=0.8, handlelength=1.2)
        low, high = panels[0].get_ylim()
        panels[0].set(ylim=(low, high * 4), ylabel="variance of the block's output")  # room for the legend
        style.size_bar(figure, panels[2], colours, "block")
    write_picture(figure, deep.drop("size"), folder / "variance")


def _draw_layers(removal: pl.DataFrame, angle: pl.DataFrame, folder: Path) -> None:
    """`layers`: angles between all blocks' inputs, those of adjacent blocks, and the loss without each block."""
    shown = [arm for arm in ("post", "pre", "lns") if arm in set(removal["arm"])]
    colours = arm_colours(ARMS)
    adjacent = angle.filter(pl.col("ahead") == 1)
    how: dict[str, Any] = {"squeeze": False, "sharey": "row", "height_ratios": [1.7, 1, 1]}
    with style.panels((2.6 * len(shown) + 0.8, 6.4), 3, len(shown), **how) as (figure, grid):
        means = angle.filter(pl.col("arm").is_in(shown)).group_by("arm", "block", "ahead").agg(pl.col("value").mean())
        highest = float(means["value"].max())  # type: ignore[arg-type]  # polars says Any
        for column, arm in zip(grid.T, shown, strict=True):
            image = draw_angles(column[0], angle.filter(pl.col("arm") == arm), highest=highest)
            column[0].set_title(ARMS[arm])
            for axes, table in ((column[1], adjacent), (column[2], removal)):
                draw_bars(axes, table.filter(pl.col("arm") == arm), {arm: ARMS[arm]}, colours)
        for axes in grid[0, 1:]:
            axes.set_ylabel("")
        grid[1, 0].set_ylabel("distance of adjacent\nblocks (units of π)")
        grid[2, 0].set_yscale("symlog", linthresh=0.01)
        lowest = min(-1e-3, float(removal["value"].min()))  # type: ignore[arg-type]  # polars says Any
        grid[2, 0].set(ylim=(lowest, None), ylabel="loss without the block\nminus loss (nats)")
        bar = figure.colorbar(image, ax=grid[0, :], aspect=20, pad=0.02)
        bar.set_label("angular distance\n(units of π)")
        bar.outline.set_visible(False)
    named = {"angular distance": angle, "loss without the block minus loss": removal.drop("step")}
    numbers = [table.with_columns(pl.lit(what).alias("what")) for what, table in named.items()]
    write_picture(figure, pl.concat(numbers, how="diagonal").drop("size"), folder / "layers")


def _draw_loss(sweep: pl.DataFrame, measured: pl.DataFrame, folder: Path) -> None:
    """`loss`: pre-LN and LayerNorm Scaling over depths, each at its best rate, and all arms at the greatest depth."""
    best = best_of_rates(sweep).filter(pl.col("arm").is_in(["pre", "lns"]))
    with style.panels((8.4, 3.1), 1, 2, width_ratios=[1, 1.5]) as (figure, (left, right)):
        draw_arms(left, best, ARMS, "size", "loss")
        left.set_xticks(best["size"].unique().sort().to_list())
        left.set(xlabel="depth (blocks)", title="at the best of the rates", ylabel=style.VALIDATION_LOSS)
        left.legend()
        draw_estimates(right, measured, {arm: name.replace(" ", "\n") for arm, name in ARMS.items()}, "loss")
        right.set_ylim(*loss_limits(measured))  # the interval of seeds that stall or do not is wider than all losses
        right.set_title(f"depth {measured['size'][0]:.0f}, learning rate {measured['lr'][0]:g}")
    write_picture(figure, sweep.drop("folder"), folder / "loss")

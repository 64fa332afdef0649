"""Figures 11 and E.12: the RMS of single matrices' gradients against size, learning rate and block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import Region, below
from analysis.claims.sample import Sample
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.figures.small_proxies.probes import LAST_SHARE, exponents, with_last_probes
from analysis.stability.lr_sweep import curves_of, lr_window, read_sweep
from analysis.tables.select import FINISHED

EPSILON = 1e-8  # AdamW's default
TENSORS = {"up": "the first MLP matrix", "key": "the key projection"}


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `gradient_rms` (figure 11, the first MLP matrix) and `key_gradient_rms` (E.12, the key projection)."""
    finished = runs.filter(FINISHED)
    deepest = int(finished["model.depth"].max())  # type: ignore[arg-type]  # polars says Any
    metrics = [_name(tensor, block) for tensor in TENSORS for block in range(deepest)]
    sweep = with_last_probes(read_sweep(finished, pl.lit("recipe")), curves_of(finished), metrics)
    for tensor, stem in (("up", "gradient_rms"), ("key", "key_gradient_rms")):
        _draw(sweep, tensor, deepest, folder / stem)
    return [*(claim for tensor in TENSORS for claim in _falls(sweep, tensor)), _reaches_epsilon(sweep)]


def _name(tensor: str, block: int = 0) -> str:
    return f"block{block}/{tensor}/gradient_rms"


def _falls(sweep: pl.DataFrame, tensor: str) -> list[Claim]:
    return [
        Claim(
            f"The gradient of {TENSORS[tensor]} falls with the {words}.",
            of=exponents(sweep, _name(tensor), against, at=at),
            statistic=f"slope of log10 of the RMS of block 0's, mean over the last {LAST_SHARE:.0%} of the probes, "
            f"against log10 of the {words}, mean over {at_words}",
            accept=below(0),
        )
        for against, at, words, at_words in (
            ("size", "lr", "number of parameters", "learning rates"),
            ("lr", "size", "learning rate", "sizes"),
        )
    ]


def _reaches_epsilon(sweep: pl.DataFrame) -> Claim:
    """The size at which the power law of the highest learning rate meets AdamW's epsilon."""
    highest = lr_window(sweep)[1]
    fastest = sweep.filter(pl.col("lr") == highest)
    sizes = {}
    for (seed,), rows in fastest.group_by("seed", maintain_order=True):
        if rows["size"].n_unique() > 1:
            x, y = np.log10(rows["size"].to_numpy()), np.log10(rows[_name("up")].to_numpy())
            slope, level = np.polyfit(x, y, 1)
            sizes[seed] = float((np.log10(EPSILON) - level) / slope) if slope < 0 else np.inf
    never = "the gradient does not fall with size" if np.inf in sizes.values() else None
    return Claim(
        "At the highest learning rate the gradient falls to Adam's epsilon at billions of parameters.",
        of=Sample(sizes, len(fastest)).unless(never),
        statistic=f"log10 of the parameters at which block 0's first MLP matrix is extrapolated to an RMS of "
        f"{EPSILON:g}, at a rate of {highest:g}",
        accept=Region("9 to 10.5", 9.0, 10.5),
        needs="the paper's runs of 1e5 steps, in which 4.8B parameters reach 1e-8 at a rate of 0.3; a power law of "
        "short runs of small models is drawn out over four decades or more",
    )


def _draw(sweep: pl.DataFrame, tensor: str, deepest: int, stem: Path) -> None:
    """Block 0's gradient against size, by rate; against rate, by size; each block's of the largest size, by rate."""
    sizes, rates = style.size_colours(sweep["size"].to_numpy()), style.setting_colours(sweep["lr"].to_numpy())
    metric = _name(tensor)
    largest = sweep.filter(pl.col("size") == pl.col("size").max())
    of_blocks = pl.concat(
        largest.select("lr", "seed", pl.lit(block).alias("block"), pl.col(_name(tensor, block)).alias("value"))
        for block in range(deepest)
    )
    drawn = []
    with style.panels((9.2, 2.9), 1, 3, sharey=True) as (figure, (size_axes, rate_axes, block_axes)):
        for lr, colour in rates.items():
            at_rate = pl.col("lr") == lr
            for axes, rows, x, value in ((size_axes, sweep, "size", metric), (block_axes, of_blocks, "block", "value")):
                points = draw_over_seeds(axes, rows.filter(at_rate), x, value, colour=colour)
                drawn.append(points.with_columns(pl.lit(lr).alias("lr")))
        for size, colour in sizes.items():
            draw_over_seeds(rate_axes, sweep.filter(pl.col("size") == size), "lr", metric, colour=colour)
        style.count_axis(size_axes, sweep["size"].to_numpy())
        size_axes.set(yscale="log", ylabel=f"gradient RMS of {TENSORS[tensor]}")
        size_axes.set(xlabel="parameters without embeddings", title="block 0")
        rate_axes.set(xscale="log", xlabel="learning rate", title="block 0")
        block_axes.set(xlabel="block", title="the largest size", xticks=range(deepest))
        style.size_bar(figure, rate_axes, sizes, "parameters")
        style.size_bar(figure, block_axes, rates, "learning rate")
    write_picture(figure, pl.concat(drawn, how="diagonal_relaxed"), stem)

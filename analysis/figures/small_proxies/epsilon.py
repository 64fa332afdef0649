"""Figures 12 and 13: what happens where Adam's epsilon meets the RMS of the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, by_seed
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.figures.small_proxies.probes import with_last_probes
from analysis.stability.lr_sweep import curves_of, read_sweep

GRADIENT, UPDATE = "block0/up/gradient_rms", "block0/up/adam_rms"
SMALLEST, DEFAULT = 1e-15, 1e-8
SAME = 0.01
NEAR = 0.5  # decades between the epsilon that halves the update and the gradient's RMS
MARKERS = ("o-", "s--", "^:", "v-.")


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `epsilon` (figure 13) and `collapse` (figure 12): one recipe over `optim.eps`."""
    curves = curves_of(runs)
    sweep = read_epsilons(runs, curves)
    _draw(sweep, folder)
    _draw_collapse(sweep, curves, folder)
    return _claims(sweep)


def read_epsilons(runs: pl.DataFrame, curves: pl.DataFrame) -> pl.DataFrame:
    """The sweep with `eps`; `x`, epsilon over the run's RMS of the gradient; and `update`, the RMS of Adam's direction
    relative to that with the smallest epsilon. All are of block 0's first MLP matrix at the end of a run; the gradient
    is the one before clipping."""
    eps = runs.select("run_id", pl.col("optim.eps").alias("eps"))
    sweep = read_sweep(runs, pl.lit("recipe")).join(eps, on="run_id", maintain_order="left")
    sweep = with_last_probes(sweep, curves, [GRADIENT, UPDATE])
    whole = pl.col(UPDATE).sort_by("eps").first().over("size", "lr", "seed")
    return sweep.with_columns((pl.col("eps") / pl.col(GRADIENT)).alias("x"), (pl.col(UPDATE) / whole).alias("update"))


def _claims(sweep: pl.DataFrame) -> list[Claim]:
    log_loss = sweep.with_columns(pl.col("loss").log().alias("log_loss"))
    largest = float(sweep["eps"].max())  # type: ignore[arg-type]  # polars says Any
    x = sweep.filter(pl.col("eps") == largest)["x"].to_numpy()
    distance = (pl.col("update") - 1 / (1 + pl.col("x"))).abs()
    raised = sweep.filter(pl.col("eps") > DEFAULT).with_columns(distance=distance)

    def gain(eps: float, other: float) -> Sample:
        return (by_seed(log_loss, "log_loss", eps=eps) - by_seed(log_loss, "log_loss", eps=other)).behind(sweep)

    return [
        Claim(
            f"Where gradients are far above {DEFAULT:g}, a smaller epsilon changes nothing.",
            of=gain(DEFAULT, SMALLEST),
            statistic=f"ln loss at {DEFAULT:g} minus at {SMALLEST:g}, mean over sizes and rates",
            accept=between(-SAME, SAME),
            needs="gradients near 1e-8, to see the paper's gain from 1e-15: 4.8B parameters at a rate of 0.3",
        ),
        Claim(
            "An epsilon above the gradients' RMS spoils training.",
            of=gain(largest, DEFAULT),
            statistic=f"ln loss at {largest:g} minus at {DEFAULT:g}, mean over sizes and rates; {largest:g} is "
            f"{x.min():.2g} to {x.max():.2g} times the RMS of the gradient of block 0's first MLP matrix",
            accept=above(0),
        ),
        Claim(
            "Updates collapse where epsilon meets the RMS of the gradient.",
            of=_halving(sweep).or_say("some updates never fall to a half"),
            statistic="log10 of the epsilon at which the RMS of Adam's direction is half of that with the smallest "
            "epsilon, over the RMS of the gradient; mean over sizes and rates",
            accept=between(-NEAR, NEAR),
        ),
        Claim(
            "Updates shrink as g / (g + eps), g the RMS of the gradient.",
            of=by_seed(raised, "distance"),
            statistic="|relative RMS of Adam's direction minus g / (g + eps)|, mean over raised epsilons, sizes, rates",
            accept=below(0.1),
        ),
    ]


def _halving(sweep: pl.DataFrame) -> Sample:
    """For each seed the mean over sizes and rates of log10 eps / g where the relative update crosses a half; empty if
    one does not."""
    crossings: dict[Any, list[float]] = {}
    for key, rows in sweep.sort("eps").group_by("seed", "size", "lr", maintain_order=True):
        x, update = np.log10(rows["x"].to_numpy()), rows["update"].to_numpy()
        small = np.flatnonzero(update < 0.5)
        if not len(small):
            return Sample({}, len(sweep))
        k = int(small[0])  # not 0: relative to the first, which is 1
        share = (update[k - 1] - 0.5) / (update[k - 1] - update[k])
        crossings.setdefault(key[0], []).append(float(x[k - 1] + share * (x[k] - x[k - 1])))
    return Sample({seed: float(np.mean(found)) for seed, found in crossings.items()}, len(sweep))


def _draw(sweep: pl.DataFrame, folder: Path) -> None:
    """`epsilon`: loss and relative update against epsilon over the gradient's RMS, from the default epsilon on."""
    sizes = style.size_colours(sweep["size"].to_numpy())
    rates = dict(zip(sweep["lr"].unique().sort(), MARKERS, strict=False))
    # One place on the axis for all seeds of an epsilon.
    place = pl.col("x").log().mean().over("eps", "size", "lr").exp()
    shown = sweep.filter((pl.col("eps") >= DEFAULT) & (pl.col("x") > 0)).with_columns(place)
    ratio = np.geomspace(float(shown["x"].min()), float(shown["x"].max()), 200)  # type: ignore[arg-type]  # numbers
    drawn = []
    with style.panels((8.2, 3.2), 1, 2) as (figure, (loss_axes, update_axes)):
        for (lr, size), rows in shown.sort("lr", "size").group_by("lr", "size", maintain_order=True):
            for axes, value in ((loss_axes, "loss"), (update_axes, "update")):
                points = draw_over_seeds(axes, rows, "x", value, colour=sizes[float(size)], line=rates[lr])
                drawn.append(points.with_columns(drawn=pl.lit(value), lr=pl.lit(lr), size=pl.lit(size)))
        for lr, line in rates.items():
            loss_axes.plot([], [], line, color=style.REFERENCE, mec="white", mew=0.5, label=f"learning rate {lr:g}")
        update_axes.plot(ratio, 1 / (1 + ratio), color=style.HELD_OUT, linewidth=1.0, label="g / (g + eps)")
        update_axes.set_ylabel(f"update RMS, over that with epsilon {SMALLEST:g}")
        for axes in (loss_axes, update_axes):
            axes.axvline(1.0, color=style.REFERENCE, linestyle=":", linewidth=0.9)
            axes.set(xscale="log", xlabel="epsilon / RMS g of the gradient")
            axes.legend()
        style.loss_axis(loss_axes, style.VALIDATION_LOSS)
        style.size_bar(figure, update_axes, sizes, "parameters without embeddings")
    write_picture(figure, pl.concat(drawn, how="diagonal_relaxed"), folder / "epsilon")


def _draw_collapse(sweep: pl.DataFrame, curves: pl.DataFrame, folder: Path) -> None:
    """`collapse`: one seed of the largest model at the highest learning rate over steps, for every epsilon."""
    most = (pl.col("size") == pl.col("size").max()) & (pl.col("lr") == pl.col("lr").max())
    one_seed = sweep.filter(most & (pl.col("seed") == pl.col("seed").min())).sort("eps")
    colours = style.setting_colours(one_seed["eps"].to_numpy())
    drawn = []
    with style.panels((9.2, 2.9), 1, 3) as (figure, (loss_axes, *probe_axes)):
        for run in one_seed.iter_rows(named=True):
            rows = curves.filter((pl.col("curve") == run["run_id"]) & (pl.col("step") > 0))
            probed = rows.filter(pl.col(UPDATE).is_not_null())
            # The smallest epsilon is drawn first and wide, or the default would hide it.
            look = {"color": colours[run["eps"]], "linewidth": 3.0 if run["eps"] == SMALLEST else 1.1}
            loss_axes.plot(rows["step"], rows["train_loss"].rolling_mean(9, min_samples=1), **look)
            for axes, metric in zip(probe_axes, (GRADIENT, UPDATE), strict=True):
                axes.plot(probed["step"], probed[metric], **look)
            named = {name: pl.lit(run[name]) for name in ("eps", "size", "lr", "seed")}
            drawn.append(rows.select("step", "train_loss", GRADIENT, UPDATE, **named))
        title = f"learning rate {one_seed['lr'][0]:g}"
        loss_axes.set(xlabel="step", ylabel="training loss (nats per token)", title=title)
        for axes, label in zip(probe_axes, ("gradient RMS", "RMS of Adam's direction"), strict=True):
            axes.set(xlabel="step", ylabel=label, title="first MLP matrix, block 0", yscale="log")
        style.size_bar(figure, probe_axes[-1], colours, "epsilon")
    write_picture(figure, pl.concat(drawn), folder / "collapse")

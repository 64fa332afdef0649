"""Du et al. 2024 (arXiv 2405.15319), figure 8: loss against the steps of the base, at several budgets."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import LOSS, draw_line
from analysis.growth.speed_up import arm_of, finals, name_broken
from analysis.tables.columns import Array
from analysis.tables.lineage import FROM_SCRATCH, trace
from conf.command_line import SI, human

STACK = "stack"
SAME = 0.02  # nats, or of ln L: less apart is alike
MOST = 0.5
NEEDED = 3  # lengths of a base that a parabola takes

CURVE = ("size", "budget")


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `timing` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of targets from scratch and stacked from bases of several lengths, each
            at several budgets.
    """
    traced = trace(runs).with_columns(arm_of(pl.lit(STACK)))
    table = read_sweep(finals(traced))
    _draw(table, folder)
    return name_broken(_claims(table), traced)


def read_sweep(ended: pl.DataFrame) -> pl.DataFrame:
    """Of `analysis.growth.speed_up.finals`: `size` (parameters without embeddings), `budget` (FLOPs), `d` (tokens that
    the base saw; null from scratch), `seed`, `loss`, `flops`, `base_flops`, `run_id`."""
    d = pl.when(FROM_SCRATCH).then(None).otherwise("base_tokens").cast(pl.Float64).alias("d")
    shown = (pl.col("n_params_non_embedding").cast(pl.Float64).alias("size"), "budget", d)
    return ended.select(*shown, "seed", "loss", "flops", "base_flops", "run_id").sort(*CURVE, "d", "seed")


class Parabola(NamedTuple):
    """loss = bend x^2 + tilt x + height, x = log10 d from `first` to `last`."""

    bend: float
    tilt: float
    height: float
    first: float
    last: float

    def slope(self, x: float) -> float:
        return 2 * self.bend * x + self.tilt

    @property
    def valley(self) -> float | None:
        """Where the loss is lowest; None if that is at an end."""
        if self.slope(self.first) < 0 < self.slope(self.last):
            return -self.tilt / (2 * self.bend)
        return None


def parabola(d: Array, loss: Array) -> Parabola | None:
    """Least squares in log10 d over d > 0, as the paper fits its IsoFLOP curves; None for fewer than three d."""
    x, y = np.log10(d[d > 0]), loss[d > 0]
    if len(np.unique(x)) < NEEDED:
        return None
    bend, tilt, height = (float(constant) for constant in np.polyfit(x, y, 2))
    return Parabola(bend, tilt, height, float(x.min()), float(x.max()))


# --- claims ----------------------------------------------------------------------------------------------


def _claims(table: pl.DataFrame) -> list[Claim]:
    stacks = table.drop_nulls("d")
    whole = table.filter(pl.col("size") == pl.col("size").max())
    largest = whole.filter(pl.col("budget") == pl.col("budget").max()).with_columns(pl.col("loss").log())
    slopes = _end_slopes(stacks)
    where = "mean over sizes and budgets, nats per decade"
    return [
        Claim(
            "Stacking an untrained base equals training from scratch.",
            of=by_seed(largest, "loss", d=0.0) - by_seed(largest.filter(pl.col("d").is_null()), "loss"),
            statistic="ln of the loss with d = 0 minus ln of that of scratch, at the largest budget",
            accept=between(-SAME, SAME),
        ),
        Claim(
            "A base can be too short.",
            of=by_seed(slopes, "first"),
            statistic=f"slope over log10 d of the parabola at the shortest trained base, {where}",
            accept=below(0.0),
        ),
        Claim(
            "A base can be too long.",
            of=by_seed(slopes, "last"),
            statistic=f"slope over log10 d of the parabola at the longest base, {where}",
            accept=above(0.0),
        ),
        Claim(
            "The shortest trained base already has most of the gain.",
            of=by_seed(_most_of_the_gain(whole), "most"),
            statistic=f"loss of scratch minus that with the shortest base, less {MOST:g} of the same for the best one, "
            "mean over budgets, nats per token",
            accept=above(0.0),
            needs="runs so long that a base of a hundredth of the tokens is past its warm-up",
        ),
    ]


def _end_slopes(stacks: pl.DataFrame) -> pl.DataFrame:
    """`first` and `last`, the slopes at the ends of each curve that has a parabola, of `n_runs`."""
    rows = []
    for (_, _, seed), curve in stacks.filter(pl.col("d") > 0).group_by(*CURVE, "seed", maintain_order=True):
        fitted = parabola(curve["d"].to_numpy(), curve["loss"].to_numpy())
        if fitted is not None:
            rows.append((seed, len(curve), fitted.slope(fitted.first), fitted.slope(fitted.last)))
    kinds = {"seed": pl.Int64, "n_runs": pl.Int64, "first": pl.Float64, "last": pl.Float64}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def _most_of_the_gain(table: pl.DataFrame) -> pl.DataFrame:
    """`most` for each budget and `seed`, of `n_runs`; the best length is that of the mean over seeds."""
    rows = []
    for _, curve in table.group_by("budget", maintain_order=True):
        trained = curve.filter(pl.col("d") > 0)
        if trained["d"].n_unique() < 2:
            continue
        means = trained.group_by("d").agg(pl.col("loss").mean()).sort("loss", "d")
        scratch = by_seed(curve.filter(pl.col("d").is_null()), "loss").values
        losses = {d: by_seed(trained, "loss", d=d).values for d in (trained["d"].min(), means["d"][0])}
        first, best = losses[trained["d"].min()], losses[means["d"][0]]
        for seed in scratch.keys() & first.keys() & best.keys():
            gain, most = scratch[seed] - first[seed], scratch[seed] - best[seed]
            rows.append((seed, 2 if first is best else 3, gain - MOST * most))
    return pl.DataFrame(rows, schema={"seed": pl.Int64, "n_runs": pl.Int64, "most": pl.Float64}, orient="row")


# --- figure ----------------------------------------------------------------------------------------------


def _draw(table: pl.DataFrame, folder: Path) -> None:
    """`timing`: loss against the tokens of the base, a curve for each budget with its parabola's valley, a panel for
    each size; the dotted line is scratch at that budget."""
    sizes = table.drop_nulls("d")["size"].unique().sort(descending=True)
    with style.paper():
        figure = Figure(figsize=(3.8 * len(sizes), 3.6))
        for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
            _draw_size(axes, table.filter(pl.col("size") == size))
            axes.set_title(f"target of {human(size)} parameters")
    write_picture(figure, table, folder / "timing")


def _draw_size(axes: Axes, table: pl.DataFrame) -> None:
    shades = style.setting_colours(table["budget"].to_numpy())
    lengths = table["d"].drop_nulls().unique().sort().to_list()
    valleys = []
    for (budget,), whole in table.group_by("budget", maintain_order=True):
        colour = shades[float(budget)]
        seeds = whole.filter(pl.col("d") > 0)["seed"]  # of d = 0 and scratch there may be more
        rows = whole.filter(pl.col("seed").is_in(seeds.implode()))
        label = f"{human(float(budget), SI)} FLOPs"
        points = draw_line(axes, rows.drop_nulls("d"), label, colour, x="d", y="loss", line="o-")
        fitted = parabola(points["d"].to_numpy(), points["mean"].to_numpy())
        if fitted is not None and fitted.valley is not None:
            lowest = fitted.bend * fitted.valley**2 + fitted.tilt * fitted.valley + fitted.height
            valleys.append((10**fitted.valley, lowest, colour))
        for loss in rows.filter(pl.col("d").is_null()).select(pl.col("loss").mean()).to_series().drop_nulls():
            axes.axhline(loss, color=colour, linestyle=":", linewidth=1)
    axes.plot([], [], color=style.REFERENCE, linestyle=":", linewidth=1, label="from scratch")
    for k, (d, lowest, colour) in enumerate(valleys):
        label = "" if k else "lowest of a parabola"
        axes.plot([d], [lowest], "v", color=colour, mec="black", mew=0.6, markersize=7, label=label)
    axes.set_xscale("symlog", linthresh=min((d for d in lengths if d > 0), default=1.0), linscale=0.5)
    axes.set_xticks(lengths, [human(d) if d else "0" for d in lengths])
    axes.minorticks_off()
    axes.set_xlabel("tokens of the base before stacking, d")
    axes.set_ylabel(LOSS)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)

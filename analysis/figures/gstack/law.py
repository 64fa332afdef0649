"""Du et al. 2024 (arXiv 2405.15319), figures 5 to 8: how the gain of stacking goes on with compute, and the rule for
when to stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Measured, Sample, by_seed, slopes
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import (
    FLOPS,
    LOSS,
    MEASURED,
    SCRATCH_COLOUR,
    UPWARDS,
    draw_line,
    draw_speed_ups,
    name_bounds,
)
from analysis.figures.gstack.timing import STACK, read_sweep
from analysis.figures.gstack.valleys import FOUND, PUBLISHED, Rule, find_valleys, fit_rule
from analysis.fitter.options import FitOptions
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken, speed_ups
from analysis.laws.registry import find_law
from analysis.tables.lineage import FROM_SCRATCH, trace
from conf.command_line import COUNTS, SI, human

LAW = "power_law_no_offset"
BEYOND = 10  # times the most tokens of a run
STEADY = 0.1  # a decade: a speed-up that shrinks by less has not shrunk
LARGE = "3B and 7B parameters; at 410M the paper's speed-up too falls, from 53 to 31 %"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `law` and `rule` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of targets from scratch and stacked, at several budgets, and of a sweep
            over the length of the base.
    """
    traced = trace(runs).with_columns(arm_of(pl.lit(STACK)))
    ended = finals(traced)
    table = _read(ended)
    constants = _fit_laws(table)
    gaps, gains = _gaps(table), speed_ups(table)
    sweep = read_sweep(ended)
    valleys, draws = find_valleys(sweep)
    rule = fit_rule(valleys, draws)
    _draw_law(table, constants, gaps, gains, folder)
    _draw_rule(valleys, rule, folder)
    largest = pl.col("size") == table["size"].max()
    claims = [
        *_claims(*(part.filter(largest) for part in (table, constants, gaps, gains))),
        *_rule_claims(valleys, rule, sweep.filter(pl.col("d") > 0)),
    ]
    return name_broken(claims, traced)


def _read(ended: pl.DataFrame) -> pl.DataFrame:
    """Scratch, and the stack of that base which has most budgets, with `size`; `shared` are the budgets that both have
    of a size and seed."""
    table = ended.with_columns(pl.col("n_params_non_embedding").cast(pl.Float64).alias("size"))
    bases = table.filter(~FROM_SCRATCH).group_by("base_steps").agg(pl.col("budget").n_unique())
    usual = bases.sort("budget", "base_steps")["base_steps"][-1]
    shared = (pl.col("arm").n_unique().over("size", "seed", "budget") == 2).alias("shared")
    chosen = table.filter(FROM_SCRATCH | (pl.col("base_steps") == usual))
    return chosen.with_columns(shared).sort("size", "arm", "flops", "seed")


# --- statistics ------------------------------------------------------------------------------------------


def _fit_laws(table: pl.DataFrame) -> pl.DataFrame:
    """L = A C^-alpha of each size, arm and seed: `A`, `alpha`, and `height`, ln L in the `middle` of its budgets. Both
    arms have the same budgets, at least three, since a straight line through a bent one depends on where it is fit."""
    rows = []
    for (size, arm, seed), part in table.filter("shared").group_by("size", "arm", "seed", maintain_order=True):
        if part["budget"].n_unique() >= 3:
            asked = FitOptions(x="flops", objective="lsq_log", bootstrap=0)
            fitted = find_law(LAW).fit(part.select("flops", "loss"), asked).values
            middle = float(np.exp(np.log(part["budget"].to_numpy()).mean()))
            height = float(np.log(fitted["A"]) - fitted["alpha"] * np.log(middle))
            rows.append({"size": size, "arm": arm, "seed": seed, **fitted, "middle": middle, "height": height})
    kinds = {"size": pl.Float64, "arm": pl.String, "seed": pl.Int64}
    return pl.DataFrame(rows, schema=kinds | dict.fromkeys(("A", "alpha", "middle", "height"), pl.Float64))


def _gaps(table: pl.DataFrame) -> pl.DataFrame:
    """`gap`: loss of scratch minus that of the stack at equal FLOPs, for each size, seed and `budget`, with the
    `tokens` of scratch."""
    key = ["size", "seed", "budget"]
    scratch = table.filter(pl.col("arm") == SCRATCH).select(*key, "n_tokens", pl.col("loss").alias("scratch"))
    stack = table.filter(pl.col("arm") == STACK).select(*key, "loss")
    gap = (pl.col("scratch") - pl.col("loss")).alias("gap")
    return scratch.join(stack, on=key).select(*key, pl.col("n_tokens").alias("tokens"), gap).sort(key)


# --- claims ----------------------------------------------------------------------------------------------


def _claims(table: pl.DataFrame, constants: pl.DataFrame, gaps: pl.DataFrame, gains: pl.DataFrame) -> list[Claim]:
    heights = by_seed(constants, "height", arm=SCRATCH) - by_seed(constants, "height", arm=STACK)
    most = max(gaps["tokens"].to_list(), default=0)
    last = gains.filter(pl.col("budget") == pl.col("budget").max())
    measured = gains.filter(MEASURED.all().over("budget"))
    n_budgets, n_measured = gains["budget"].n_unique(), measured["budget"].n_unique()
    where = f"the {n_measured} of {n_budgets} budgets where it is not only bounded"
    return [
        Claim(
            "The law of stacked targets lies below that of targets from scratch.",
            of=heights.behind(table.filter("shared")).or_say(
                None if len(constants) else "there are not three budgets that both have"
            ),
            statistic="ln L of scratch minus that of the stack by L = a C^b, in the middle of the budgets that both "
            "have",
            accept=above(0.0),
        ),
        Claim(
            f"The gap to scratch, straight over log tokens, is still there at {BEYOND} times the tokens.",
            of=_gap_at(BEYOND * most, gaps),
            statistic=f"loss of scratch minus that of the stack, extrapolated to {human(BEYOND * most)} tokens, nats",
            accept=above(0.0),
            needs="runs beyond the first tokens per parameter, where the gap falls steeply",
        ),
        Claim(
            "Stacking saves compute up to the largest budget.",
            of=Sample.of(last["speedup"].to_list(), gains, bounds=last["bound"].to_list()),
            statistic="FLOPs of scratch to the stack's loss over those of the stack, minus 1, at the largest budget",
            accept=above(0.0),
        ),
        Claim(
            "The speed-up does not shrink with the budget.",
            of=slopes(measured, "speedup", "budget").or_say(
                None if n_measured > 1 else f"there is no slope over {where}"
            ),
            statistic="slope of the speed-up over log10 of the budget, per decade"
            + (f", over {where}" if n_measured < n_budgets else ""),
            accept=above(-STEADY),
            needs=LARGE,
        ),
    ]


def _gap_at(tokens: float, gaps: pl.DataFrame) -> Sample:
    """The gap of each seed that has all budgets, from a straight line over log10 of the tokens."""
    reached = []
    for _, rows in gaps.group_by("seed", maintain_order=True):
        if len(rows) == gaps["budget"].n_unique() > 1:
            tilt, level = np.polyfit(np.log10(rows["tokens"].to_numpy()), rows["gap"].to_numpy(), 1)
            reached.append(float(tilt * np.log10(tokens) + level))
    reason = None if gaps["budget"].n_unique() > 1 else "the gap was not measured at two budgets"
    return Sample.of(reached, 2 * len(gaps)).or_say(reason)


def _rule_claims(valleys: pl.DataFrame, rule: Rule, trained: pl.DataFrame) -> list[Claim]:
    sentences = {
        "a": "The best time to stack is the later the larger the target.",
        "b": "The best time to stack is the earlier the more FLOPs there are.",
    }
    return [
        Claim(
            sentence,
            of=Measured(
                estimate=None if rule.values is None else rule.values[name],
                interval=None if rule.intervals is None else rule.intervals[name],
                n_seeds=trained["seed"].n_unique(),
                n_runs=len(trained),
                reason=rule.reason,
            ),
            statistic=f"{name} of log10 d = a log10 N + b / log10 C + c through {rule.n_valleys} of {len(valleys)} "
            f"valleys ({PUBLISHED[name]:g} in the paper)",
            accept=above(0.0),
        )
        for name, sentence in sentences.items()
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_law(
    table: pl.DataFrame, constants: pl.DataFrame, gaps: pl.DataFrame, gains: pl.DataFrame, folder: Path
) -> None:
    """`law`: loss against FLOPs with L = a C^b through the budgets that both arms have; the gap against tokens, with a
    line over their logarithm; the speed-up against FLOPs, every seed where one is only bounded. One shade for each
    size."""
    with style.paper():
        figure = Figure(figsize=(10.4, 3.3))
        loss, gap, gain = figure.subplots(1, 3)
        _draw_losses(loss, table, constants)
        shades = style.size_colours(table["size"].to_numpy())
        for (size,), rows in gaps.group_by("size", maintain_order=True):
            colour, label = shades[float(size)], human(float(size))
            if rows["tokens"].n_unique() >= 2:
                tokens = rows["tokens"].to_numpy()
                tilt, level = np.polyfit(np.log10(tokens), rows["gap"].to_numpy(), 1)
                x = np.geomspace(tokens.min(), tokens.max(), 50)
                gap.plot(x, tilt * np.log10(x) + level, "--", color=colour)
                label += f": {tilt:+.2f} per decade"
            draw_line(gap, rows, label, colour, x="tokens", y="gap", line="o")
        for (size,), rows in gains.group_by("size", maintain_order=True):
            draw_speed_ups(gain, rows, "budget", fmt="o-", colour=shades[float(size)], label=human(float(size)))
        name_bounds(gain, gains["bound"])
        for axes, counts, prefixes in ((gap, gaps["tokens"], COUNTS), (gain, gains["budget"], SI)):
            axes.axhline(0, color=style.REFERENCE, linewidth=0.8, linestyle=":")
            if len(counts):
                style.count_axis(axes, counts.to_numpy(), prefixes)
                axes.legend(title="parameters")
        gap.set_xlabel("tokens of scratch")
        gap.set_ylabel("loss of scratch minus stack (nats)")
        gain.set_xlabel(FLOPS)
        gain.set_ylabel("speed-up over scratch")
        gain.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    shown = ["size", "arm", "seed", "run_id", "flops", "budget", "n_tokens", "base_flops", "loss"]
    drawn = table.select(shown).join(gains.select("run_id", "speedup", "bound"), on="run_id", how="left")
    drawn = drawn.join(
        gaps.drop("tokens").with_columns(pl.lit(STACK).alias("arm")), on=["size", "seed", "budget", "arm"], how="left"
    )
    drawn = drawn.join(constants.drop("middle", "height"), on=["size", "arm", "seed"], how="left")
    write_picture(figure, drawn, folder / "law")


def _draw_losses(axes: Axes, table: pl.DataFrame, constants: pl.DataFrame) -> None:
    colours = {SCRATCH: SCRATCH_COLOUR, STACK: style.ARMS[0]}
    lines = ("-", "--", ":")
    for k, size in enumerate(table["size"].unique().sort(descending=True)):
        for arm, colour in colours.items():
            part = table.filter((pl.col("size") == size) & (pl.col("arm") == arm))
            fitted = constants.filter((pl.col("size") == size) & (pl.col("arm") == arm))
            if part.is_empty():
                continue
            look, label = lines[k % len(lines)], f"{arm}, {human(size)}"
            if len(fitted):
                alpha, height = (float(values.to_numpy().mean()) for values in (fitted["alpha"], fitted["A"].log()))
                flops = part.filter("shared")["flops"].to_numpy()
                x = np.geomspace(flops.min(), flops.max(), 50)
                axes.plot(x, np.exp(height) * x**-alpha, look, color=colour)
                label += f": $C^{{{-alpha:.3f}}}$"
            axes.plot([], [], look, color=colour, label=label)
            draw_line(axes, part, None, colour, y="loss", line="o")
    style.count_axis(axes, table["flops"].to_numpy(), SI)
    style.loss_axis(axes)
    axes.set_xlabel(FLOPS)
    axes.set_ylabel(LOSS)
    axes.legend(loc="lower left")


def _draw_rule(valleys: pl.DataFrame, rule: Rule, folder: Path) -> None:
    """`rule`: the d of the lowest loss against FLOPs by size, with the middle 95 % of the resamples; a triangle where
    that is an end of the sweep, so that the best d lies there or beyond; hollow and not in the fit where some resamples
    have no valley in the sweep; the line is the fitted rule."""
    shades = style.size_colours(valleys["size"].to_numpy())
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        for size, colour in shades.items():
            part = valleys.filter(pl.col("size") == size)
            for row in part.iter_rows(named=True):
                d, marker = 10 ** row["log_d"], UPWARDS.get(row["bound"], "o")
                if row["bound"] is None and row["low"] is not None:
                    axes.plot([row["budget"]] * 2, [10 ** row["low"], 10 ** row["high"]], color=colour, linewidth=1)
                sure = row["bound"] is None and row["found"] >= FOUND
                axes.plot(row["budget"], d, marker, color=colour, mfc=colour if sure else "white")
            axes.plot([], [], "s", color=colour, label=human(size))
            if rule.values is not None and len(part):
                budgets = part["budget"].to_numpy()
                x = np.geomspace(budgets.min(), budgets.max(), 50)
                axes.plot(x, 10 ** rule.log_d(size, x), "--", color=colour, linewidth=1)
        name_bounds(axes, valleys["bound"])
        if len(valleys):
            style.count_axis(axes, valleys["budget"].to_numpy(), SI)
            axes.set_yscale("log")
            for places in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                places(style.count_ticks())
            axes.legend(title="parameters")
        axes.set_xlabel(FLOPS)
        axes.set_ylabel("tokens of the base with the lowest loss, d")
        n_inside = int((valleys["found"] >= FOUND).sum())
        title = f"lowest inside the sweep, in {FOUND:.0%} of the resamples: {n_inside} of {len(valleys)}"
        if rule.values is not None:
            title = ", ".join(f"{name} = {value:.3g}" for name, value in rule.values.items())
        axes.set_title(title, fontsize="small")
    write_picture(figure, valleys, folder / "rule")

"""Du et al. 2024 (arXiv 2405.15319), figures 5 to 8: how the gain of stacking goes on with compute, and the rule for
when to stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis import style
from analysis.claims import Claim
from analysis.figures.gstack.plots import FLOPS, LOSS, SCRATCH_COLOUR
from analysis.figures.gstack.timing import read_sweep
from analysis.figures.gstack.valleys import FOUND, PUBLISHED, Rule, find_valleys, fit_rule
from analysis.figures.lines import draw_over_seeds
from analysis.fit import fit
from analysis.growth import FROM_SCRATCH, finals, speed_ups, trace
from analysis.lr_sweep import slopes
from analysis.lr_sweep_plot import draw_intervals, mean_over_seeds
from analysis.seeds import claim_over_seeds
from conf.door import human
from train.record import write_bytes

SCRATCH, STACK = "scratch", "stack"
LAW = "power_law_no_offset"
BOUNDS = {"at least": "^", "at most": "v"}
BEYOND = 10  # times the most tokens of a run
LARGE = "3B and 7B parameters; at 410M the paper's speed-up too falls, from 53 to 31 %"


def law(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `law` and `rule` into `out`, and return the claims.

    Args:
        runs: `analysis.table.read_runs` of targets from scratch and stacked, at several budgets, and of a sweep over
            the length of the base.
    """
    table = _read(runs)
    constants = _fit_laws(table)
    gaps, gains = _gaps(table), speed_ups(table)
    valleys, draws = find_valleys(read_sweep(runs))
    rule = fit_rule(valleys, draws)
    _draw_law(table, constants, gaps, gains, out)
    _draw_rule(valleys, rule, out)
    return [
        *_law_claims(table, constants),
        _gap_claim(gaps),
        *_speed_up_claims(gains),
        *_rule_claims(valleys, rule, runs),
    ]


def _read(runs: pl.DataFrame) -> pl.DataFrame:
    """Scratch, and the stack of the base that went on to the largest budget, with `arm` and `size`."""
    ended = finals(trace(runs)).with_columns(
        pl.when(FROM_SCRATCH).then(pl.lit(SCRATCH)).otherwise(pl.lit(STACK)).alias("arm"),
        pl.col("n_params_non_embedding").cast(pl.Float64).alias("size"),
    )
    grown = ended.filter(~FROM_SCRATCH)
    reach = grown.group_by("base_steps").agg(pl.col("flops").max()).sort("flops", "base_steps")
    chosen = FROM_SCRATCH | (pl.col("base_steps") == reach["base_steps"][-1])
    return ended.filter(chosen).sort("size", "arm", "flops", "seed")


# --- statistics ------------------------------------------------------------------------------------------


def _fit_laws(table: pl.DataFrame) -> pl.DataFrame:
    """L = A C^-alpha of each size, arm and seed with at least three budgets: `A`, `alpha`."""
    rows = []
    for (size, arm, seed), own in table.group_by("size", "arm", "seed", maintain_order=True):
        if own["flops"].n_unique() >= 3:
            found = fit(LAW, own.select("flops", "loss"), x="flops", objective="lsq_log", bootstrap=0).values
            rows.append({"size": size, "arm": arm, "seed": seed, **found})
    kinds = {"size": pl.Float64, "arm": pl.String, "seed": pl.Int64, "A": pl.Float64, "alpha": pl.Float64}
    return pl.DataFrame(rows, schema=kinds)


def _gaps(table: pl.DataFrame) -> pl.DataFrame:
    """`gap`: loss of scratch minus that of the stack at equal FLOPs, for each size, seed and `budget`, with the
    `tokens` of scratch."""
    key = ["size", "seed", "budget"]
    paired = table.drop_nulls("budget")
    scratch = paired.filter(pl.col("arm") == SCRATCH).select(*key, "n_tokens", pl.col("loss").alias("scratch"))
    stack = paired.filter(pl.col("arm") == STACK).select(*key, "loss")
    gap = (pl.col("scratch") - pl.col("loss")).alias("gap")
    return scratch.join(stack, on=key).select(*key, pl.col("n_tokens").alias("tokens"), gap).sort(key)


def _largest(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("size") == pl.col("size").max())


# --- claims ----------------------------------------------------------------------------------------------


def _law_claims(table: pl.DataFrame, constants: pl.DataFrame) -> list[Claim]:
    shared = _largest(table).drop_nulls("budget").filter(pl.col("arm") == STACK)["budget"]
    middle = float(np.exp(np.log(shared.to_numpy()).mean()))
    height = _largest(constants).with_columns((pl.col("A").log() - pl.col("alpha") * np.log(middle)).alias("height"))
    own = height.pivot("arm", index="seed", values="height").sort("seed")
    both = {SCRATCH, STACK} <= set(own.columns)
    return [
        claim_over_seeds(
            (own[SCRATCH] - own[STACK]).drop_nulls().to_list() if both else [],
            sentence="The law of stacked targets lies below that of targets from scratch.",
            statistic="ln L of scratch minus that of the stack by L = a C^b, in the middle of the budgets",
            threshold="above 0",
            low=0.0,
            n_runs=len(_largest(table)),
            reason=None if both else "an arm has fewer than three budgets",
        )
    ]


def _gap_claim(gaps: pl.DataFrame) -> Claim:
    own = _largest(gaps)
    most = max(own["tokens"].to_list(), default=0)
    reached = []
    for _, rows in own.group_by("seed", maintain_order=True):
        if rows["tokens"].n_unique() >= 2:
            tilt, level = np.polyfit(np.log10(rows["tokens"].to_numpy()), rows["gap"].to_numpy(), 1)
            reached.append(float(tilt * np.log10(BEYOND * most) + level))
    return claim_over_seeds(
        reached,
        sentence=f"The gap to scratch, straight over log tokens, is still there at {BEYOND} times the tokens.",
        statistic=f"loss of scratch minus that of the stack, extrapolated to {human(BEYOND * most)} tokens, nats",
        threshold="above 0",
        low=0.0,
        n_runs=2 * len(own),
        scale="runs beyond the first tokens per parameter, where the gap falls steeply",
        reason=None if reached else "the gap was measured at one budget",
    )


def _speed_up_claims(gains: pl.DataFrame) -> list[Claim]:
    own = _largest(gains)
    last = own.filter(pl.col("budget") == pl.col("budget").max())
    measured = own.filter(pl.col("bound").is_null())
    return [
        claim_over_seeds(
            last["speedup"].to_list(),
            sentence="Stacking saves compute up to the largest budget.",
            statistic="FLOPs of scratch to the stack's loss over those of the stack, minus 1, at the largest budget",
            threshold="above 0",
            low=0.0,
            n_runs=len(own),
        ),
        claim_over_seeds(
            list(slopes(measured, "speedup", "budget").values()),
            sentence="The speed-up does not shrink with the budget.",
            statistic="slope of the speed-up over log10 of the budget, per decade",
            threshold="at least 0",
            low=0.0,
            n_runs=len(measured),
            scale=LARGE,
            reason="seeds whose speed-up is bounded only" if len(measured) < len(own) else "one budget",
        ),
    ]


def _rule_claims(valleys: pl.DataFrame, rule: Rule, runs: pl.DataFrame) -> list[Claim]:
    sentences = {
        "a": "The best time to stack is the later the larger the target.",
        "b": "The best time to stack is the earlier the more FLOPs there are.",
    }
    return [
        Claim(
            sentence=sentence,
            statistic=f"{name} of log10 d = a log10 N + b / log10 C + c through {rule.n_valleys} of {len(valleys)} "
            f"valleys ({PUBLISHED[name]:g} in the paper)",
            estimate=None if rule.values is None else rule.values[name],
            interval=None if rule.intervals is None else rule.intervals[name],
            threshold="above 0",
            low=0.0,
            n_seeds=runs["seed"].n_unique(),
            n_runs=len(runs),
            reason=rule.reason,
        )
        for name, sentence in sentences.items()
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_law(table: pl.DataFrame, constants: pl.DataFrame, gaps: pl.DataFrame, gains: pl.DataFrame, out: Path) -> None:
    """`law`: loss against FLOPs with L = a C^b; the gap against tokens, with a line over their logarithm; the speed-up
    against FLOPs, a hollow triangle where it is only bounded. One shade for each size."""
    with style.paper():
        figure = Figure(figsize=(10.4, 3.3))
        loss, gap, gain = figure.subplots(1, 3)
        _draw_losses(loss, table, constants)
        shades = style.size_colours(table["size"].to_numpy())
        for (size,), rows in gaps.group_by("size", maintain_order=True):
            colour = shades[float(size)]
            draw_over_seeds(gap, rows, "tokens", "gap", colour=colour, line="o", log=False)
            if rows["tokens"].n_unique() >= 2:
                tilt, level = np.polyfit(np.log10(rows["tokens"].to_numpy()), rows["gap"].to_numpy(), 1)
                x = np.geomspace(rows["tokens"].min(), rows["tokens"].max(), 50)  # type: ignore[arg-type]
                label = f"{human(float(size))}: {tilt:+.2f} per decade"
                gap.plot(x, tilt * np.log10(x) + level, "--", color=colour, label=label)
        for (size,), rows in gains.group_by("size", maintain_order=True):
            colour, measured = shades[float(size)], pl.col("bound").is_null().all().over("budget")
            points = mean_over_seeds(rows.filter(measured), "speedup", ("budget",))
            draw_intervals(gain, points["budget"], points, fmt="o-", color=colour, capsize=3, label=human(float(size)))
            for bound, marker in BOUNDS.items():
                own = rows.filter(pl.col("bound") == bound)
                gain.plot(own["budget"], own["speedup"], marker, color=colour, mfc="white")
        for axes in (gap, gain):
            axes.axhline(0, color=style.REFERENCE, linewidth=0.8, linestyle=":")
            axes.legend(title="parameters")
        style.count_axis(gap, gaps["tokens"].to_numpy())
        style.count_axis(gain, gains["budget"].to_numpy())
        gap.set_xlabel("tokens of scratch")
        gap.set_ylabel("loss of scratch minus stack (nats)")
        gain.set_xlabel(FLOPS)
        gain.set_ylabel("speed-up over scratch")
        gain.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        style.save(figure, out / "law")
    shown = ["size", "arm", "seed", "run_id", "flops", "budget", "n_tokens", "base_flops", "loss"]
    drawn = table.select(shown).join(gains.select("run_id", "speedup", "bound"), on="run_id", how="left")
    drawn = drawn.join(
        gaps.drop("tokens").with_columns(pl.lit(STACK).alias("arm")), on=["size", "seed", "budget", "arm"], how="left"
    )
    drawn = drawn.join(constants, on=["size", "arm", "seed"], how="left")
    write_bytes(out / "law.csv", drawn.write_csv().encode())


def _draw_losses(axes: Axes, table: pl.DataFrame, constants: pl.DataFrame) -> None:
    colours = {SCRATCH: SCRATCH_COLOUR, STACK: style.ARMS[0]}
    lines = ("-", "--", ":")
    for k, size in enumerate(table["size"].unique().sort(descending=True)):
        for arm, colour in colours.items():
            own = table.filter((pl.col("size") == size) & (pl.col("arm") == arm))
            fitted = constants.filter((pl.col("size") == size) & (pl.col("arm") == arm))
            if own.is_empty():
                continue
            if len(fitted):
                alpha, height = float(fitted["alpha"].mean()), float(fitted["A"].log().mean())  # type: ignore[arg-type]
                x = np.geomspace(own["flops"].min(), own["flops"].max(), 50)  # type: ignore[arg-type]
                label = f"{arm}, {human(size)}: $C^{{{-alpha:.3f}}}$"
                axes.plot(x, np.exp(height) * x**-alpha, lines[k % len(lines)], color=colour, label=label)
            draw_over_seeds(axes, own, "flops", "loss", colour=colour, line="o", log=False)
    style.count_axis(axes, table["flops"].to_numpy())
    style.loss_axis(axes)
    axes.set_xlabel(FLOPS)
    axes.set_ylabel(LOSS)
    axes.legend()


def _draw_rule(valleys: pl.DataFrame, rule: Rule, out: Path) -> None:
    """`rule`: the d of the lowest loss against FLOPs by size, with the middle 95 % of the resamples; a triangle where
    that is an end of the sweep, so that the best d lies there or beyond; hollow and not in the fit where some resamples
    have no valley in the sweep; the line is the fitted rule."""
    shades = style.size_colours(valleys["size"].to_numpy())
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        for size, colour in shades.items():
            own = valleys.filter(pl.col("size") == size)
            for row in own.iter_rows(named=True):
                d, marker = 10 ** row["log_d"], BOUNDS.get(row["bound"], "o")
                if row["bound"] is None and row["low"] is not None:
                    axes.plot([row["budget"]] * 2, [10 ** row["low"], 10 ** row["high"]], color=colour, linewidth=1)
                sure = row["bound"] is None and row["found"] >= FOUND
                axes.plot(row["budget"], d, marker, color=colour, mfc=colour if sure else "white")
            axes.plot([], [], "s", color=colour, label=human(size))
            if rule.values is not None and len(own):
                x = np.geomspace(own["budget"].min(), own["budget"].max(), 50)  # type: ignore[arg-type]
                axes.plot(x, 10 ** rule.log_d(size, x), "--", color=colour, linewidth=1)
        for bound in valleys["bound"].drop_nulls().unique().sort():
            axes.plot([], [], BOUNDS[bound], color=style.REFERENCE, mfc="white", label=f"{bound} this")
        if len(valleys):
            style.count_axis(axes, valleys["budget"].to_numpy())
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
        style.save(figure, out / "rule")
    write_bytes(out / "rule.csv", valleys.write_csv().encode())

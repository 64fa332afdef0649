"""The known floor: does a free fit find the entropy of the source, and the exponents that theory says?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from analysis.claims import student
from analysis.claims.claim import Claim
from analysis.claims.region import between, containing
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.fitted import Estimate, finished, measured
from analysis.fits.words import print_fit
from analysis.fitter.fit_json import to_json
from analysis.fitter.law import FitResult
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from conf.command_line import counted, human
from train.record.files import write_json

LAW = "chinchilla"
CONSTANTS = 5
# Least squares for ordinary runs, whose ln loss departs less from the law; one that went wrong pulls only so much.
DELTA = 0.02
BOOTSTRAP = 1000
E_TOLERANCE = 0.02  # of the floor
EXPONENT_TOLERANCE = 0.2  # of the theory's value
SLOPE_TOLERANCE = 0.1


class Truth(NamedTuple):
    """What is known of the source: its entropy in nats per token, and the theory's exponents."""

    floor: float
    alpha: float
    beta: float


def known_truth(runs: pl.DataFrame) -> Truth:
    """From the records: a table with p_c ∝ c^-(1 + a) has alpha = a and beta = a/(1 + a) (Michaud et al. 2023,
    arXiv 2303.13506, section 2; Hutter 2021, arXiv 2102.04074).
    """
    a = float(runs["data.exponent"][0])
    return Truth(float(runs["data_entropy"][0]), a, a / (1 + a))


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `known_floor` into `folder`, print the law, and return the claims.

    N counts the weights of the blocks: embedding and readout grow with the number of symbols, and hold none of the
    table beyond what is additive in the digits.

    Args:
        runs: `analysis.tables.runs.read_runs` of sizes times budgets on one Zipf source.
    """
    console = Console(highlight=False)
    done = finished(runs, console)
    if done.is_empty():
        return _claims(done, None, Fits(None, None), None, "no run has finished")
    truth = known_truth(done)
    points = done.select(
        "run_id",
        pl.col("n_params_non_embedding").cast(pl.Float64).alias("n_params"),
        pl.col("n_tokens").cast(pl.Float64),
        "loss",
        (pl.col("loss") - truth.floor).alias("excess"),
    ).sort("n_params", "n_tokens")
    fits, reason = Fits(None, None), None
    if len(points) <= CONSTANTS or any(points[name].n_unique() == 1 for name in ("n_params", "n_tokens")):
        reason = (
            f"{counted(len(points), 'finished run')} cannot determine the {CONSTANTS} constants of the law; "
            f"at least {CONSTANTS + 1} that differ in size and in tokens are needed"
        )
    else:
        asked = FitOptions(objective="huber_log", delta=DELTA, bootstrap=BOOTSTRAP)
        free = find_law(LAW).fit(points, asked)
        held = find_law(LAW).fit(points, dataclasses.replace(asked, fixed={"E": truth.floor}))
        fits = Fits(free, held)
        for name, result in (("fit", free), ("fit_known_floor", held)):
            write_json(folder / f"{name}.json", to_json(result))
            print_fit(result, console)
        console.print(f"Known: E {truth.floor:.4f}, alpha {truth.alpha:.3g}, beta {truth.beta:.3g}.")
    _draw(points, truth, fits.free, folder)
    return _claims(done, truth, fits, largest_model_slope(points), reason)


class Fits(NamedTuple):
    """The law with E free and with E held at the floor; None: impossible."""

    free: FitResult | None
    held: FitResult | None


def largest_model_slope(points: pl.DataFrame) -> Estimate | None:
    """-d ln(excess) / d ln D of the largest model, the floor being known: least squares in ln, Student's interval.

    None where fewer than three losses lie above the floor.
    """
    rows = points.filter((pl.col("n_params") == pl.col("n_params").max()) & (pl.col("excess") > 0))
    x, y = np.log(rows["n_tokens"].to_numpy()), np.log(rows["excess"].to_numpy())
    if len(np.unique(x)) < 3:
        return None
    x, y = x - x.mean(), y - y.mean()
    value = -float(x @ y / (x @ x))
    error = float(np.sqrt(((y + value * x) ** 2).sum() / (len(x) - 2) / (x @ x)))
    half = student.reach(len(x) - 2) * error
    return value, (value - half, value + half)


# --- claims ----------------------------------------------------------------------------------------------


def _claims(
    done: pl.DataFrame, truth: Truth | None, fits: Fits, slope: Estimate | None, reason: str | None
) -> list[Claim]:
    def constant(result: FitResult | None, name: str, sentence: str, statistic: str, known: float | None) -> Claim:
        """The interval must contain the known value, and lie within the tolerance around it."""
        estimate = result.params[name] if result is not None else None
        return Claim(
            sentence,
            of=measured((estimate.value, estimate.ci95) if estimate and estimate.ci95 else None, done, reason),
            statistic=statistic,
            accept=containing(known, share=E_TOLERANCE if name == "E" else EXPONENT_TOLERANCE),
        )

    floor, alpha, beta = truth or (None, None, None)
    few = "the largest model has fewer than three losses above the floor" if truth else reason
    apart = (slope[0] - beta, (slope[1][0] - beta, slope[1][1] - beta)) if slope and beta else None
    return [
        constant(fits.free, "E", "A free fit of E + A/N^alpha + B/D^beta finds the entropy of the source.",
                 "E, nats per token", floor),
        constant(fits.free, "alpha", "A free fit finds the parameter exponent a of theory.",
                 "alpha, N without embedding and readout", alpha),
        constant(fits.free, "beta", "A free fit finds the data exponent a/(1 + a) of theory.", "beta", beta),
        constant(fits.held, "alpha", "With E held at the entropy, the fit finds the parameter exponent a of theory.",
                 "alpha, N without embedding and readout, E held", alpha),
        constant(fits.held, "beta", "With E held at the entropy, the fit finds the data exponent a/(1 + a) of theory.",
                 "beta, E held", beta),
        Claim(
            "Above the entropy, the loss of the largest model falls with tokens as theory says.",
            of=measured(apart, done, few),
            statistic="-d ln(loss - entropy) / d ln D of the largest model, minus a/(1 + a)",
            accept=between(-SLOPE_TOLERANCE, SLOPE_TOLERANCE),
        ),
    ]  # fmt: skip


# --- figure ----------------------------------------------------------------------------------------------


def _draw(points: pl.DataFrame, truth: Truth, result: FitResult | None, folder: Path) -> None:
    """`known_floor`: the excess over the true floor against tokens and against parameters, with the slopes of theory
    and the fitted law; and the bootstrap of E beside the true floor. Without a fit the first two are drawn alone."""
    colours = style.size_colours(points["n_params"].to_numpy())
    lines = _law_lines(points, truth, result) if result else None
    with style.paper():
        figure = Figure(figsize=(10.4, 3.3) if result else style.TWO_PANELS)
        panels = figure.subplots(1, 3 if result else 2, width_ratios=[1.15, 1.15, 0.9] if result else None)
        _draw_over_tokens(panels[0], points, lines, truth, colours)
        _draw_over_params(panels[1], points, lines, truth, colours)
        style.size_bar(figure, panels[1], colours, "parameters of the blocks")
        if result:
            _draw_floor(panels[2], points, truth, result)
    parts = [points.with_columns(kind=pl.lit("run"))]
    if result and lines is not None:
        draws = pl.DataFrame({"bootstrap_E": result.bootstrap["params"]["E"]})
        parts += [lines.with_columns(kind=pl.lit("law")), draws.with_columns(kind=pl.lit("bootstrap"))]
    table = pl.concat(parts, how="diagonal").with_columns(true_floor=pl.lit(truth.floor))
    write_picture(figure, table, folder / "known_floor")


def _law_lines(points: pl.DataFrame, truth: Truth, result: FitResult) -> pl.DataFrame:
    """The fitted law minus the true floor, at each size over the tokens and at each budget over the sizes."""
    parts = []
    for fixed, free in (("n_params", "n_tokens"), ("n_tokens", "n_params")):
        reach = points[free].to_numpy()
        grid = np.geomspace(reach.min(), reach.max(), 40)
        for value in points[fixed].unique().sort():
            line = pl.DataFrame({fixed: np.full(len(grid), value), free: grid}).select("n_params", "n_tokens")
            law = result.predict(line)["predicted"] - truth.floor
            parts.append(line.with_columns(pl.Series("excess", law), pl.lit(free).alias("along")))
    return pl.concat(parts)


def _draw_over_tokens(
    axes: Axes, points: pl.DataFrame, lines: pl.DataFrame | None, truth: Truth, colours: dict[float, Any]
) -> None:
    for size, colour in colours.items():
        rows = points.filter(pl.col("n_params") == size)
        axes.plot(rows["n_tokens"], rows["excess"], "o", color=colour, mec="white", mew=0.6, markersize=5.5, zorder=4)
        if lines is not None:
            law = lines.filter((pl.col("along") == "n_tokens") & (pl.col("n_params") == size))
            axes.plot(law["n_tokens"], law["excess"], color=colour, linewidth=1.0)
    largest = points.filter(pl.col("n_params") == points["n_params"].max())
    _draw_theory(axes, largest["n_tokens"].to_numpy(), largest["excess"].to_numpy(), truth.beta, "D", "a/(1+a)")
    axes.set_xlabel("training tokens D")
    axes.set_ylabel("loss minus entropy (nats per token)")
    _finish(axes, points["n_tokens"].to_numpy(), points, fitted=lines is not None, legend="lower left")


def _draw_over_params(
    axes: Axes, points: pl.DataFrame, lines: pl.DataFrame | None, truth: Truth, colours: dict[float, Any]
) -> None:
    for tokens in points["n_tokens"].unique().sort():
        rows = points.filter(pl.col("n_tokens") == tokens)
        if lines is not None:
            law = lines.filter((pl.col("along") == "n_params") & (pl.col("n_tokens") == tokens))
            axes.plot(law["n_params"], law["excess"], color=style.REFERENCE, linewidth=1.0, alpha=0.7)
        last = rows.tail(1)
        place: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        at = last["n_params"][0], last["excess"][0]
        axes.annotate(human(tokens), at, fontsize=7.5, color=style.REFERENCE, **place)
        for row in rows.iter_rows(named=True):
            colour = colours[row["n_params"]]
            axes.plot(row["n_params"], row["excess"], "o", color=colour, mec="white", mew=0.6, markersize=5.5, zorder=4)
    longest = points.filter(pl.col("n_tokens") == points["n_tokens"].max())
    _draw_theory(axes, longest["n_params"].to_numpy(), longest["excess"].to_numpy(), truth.alpha, "N", "a")
    axes.set_xlabel("parameters of the blocks N")
    _finish(axes, points["n_params"].to_numpy(), points, fitted=lines is not None, legend="upper right")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.14)  # room for the labels of the budgets


def _draw_theory(axes: Axes, x: Any, excess: Any, exponent: float, symbol: str, name: str) -> None:
    """A dashed line with the slope of theory, a little below the points, through their first one."""
    line = 0.72 * excess[0] * (x / x[0]) ** -exponent
    label = rf"theory: ${symbol}^{{-{name}}}$, slope $-{exponent:.3g}$"
    axes.plot(x, line, "--", color=style.HELD_OUT, linewidth=1.1, label=label)


def _finish(
    axes: Axes, x: Any, points: pl.DataFrame, *, fitted: bool, legend: Literal["lower left", "upper right"]
) -> None:
    style.count_axis(axes, x)
    above = points["excess"].to_numpy()
    above = above[above > 0]
    if len(above):
        axes.set_yscale("log")
        axes.set_ylim(above.min() / 1.9, above.max() * 1.7)
    axes.plot([], [], "o", color=style.REFERENCE, mec="white", label="run")
    if fitted:
        axes.plot([], [], "-", color=style.REFERENCE, linewidth=1.0, label="fitted law")
    axes.legend(loc=legend)


def _draw_floor(axes: Axes, points: pl.DataFrame, truth: Truth, result: FitResult) -> None:
    """The bootstrap of the fitted floor, its 95 % interval, the true floor, and the lowest loss seen."""
    draws = np.array(result.bootstrap["params"]["E"])
    fitted, lowest = result.params["E"], float(points["loss"].to_numpy().min())
    low = min(float(np.quantile(draws, 0.005)), truth.floor * (1 - 1.5 * E_TOLERANCE))
    high = max(float(np.quantile(draws, 0.995)), truth.floor * (1 + 1.5 * E_TOLERANCE), lowest)
    margin = 0.06 * (high - low)
    axes.axvspan(*(truth.floor * (1 + sign * E_TOLERANCE) for sign in (-1, 1)), color="#f3f3f3", zorder=0)
    counts, edges = np.histogram(draws, bins=40, range=(low - margin, high + margin))
    axes.stairs(counts, edges, fill=True, color=style.ARMS[0], alpha=0.45)
    top = 1.08 * counts.max()
    for value, colour, line, label in (
        (truth.floor, style.HELD_OUT, "-", f"entropy of the source, {truth.floor:.4f}"),
        (fitted.value, style.ARMS[0], "-", f"fitted E, {fitted.value:.4f}, and its 95% interval"),
        (lowest, style.REFERENCE, ":", f"lowest loss, {lowest:.4f}"),
    ):
        axes.vlines(value, 0, top, color=colour, linestyle=line, linewidth=1.4, label=label)
    if fitted.ci95:
        axes.hlines(0.5 * top, *fitted.ci95, color=style.ARMS[0], linewidth=1.4)
        axes.plot(fitted.ci95, [0.5 * top] * 2, "|", color=style.ARMS[0], markersize=8)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(0, 1.38 * top)
    axes.set_yticks([])
    axes.set_xlabel("floor E (nats per token)")
    axes.legend(loc="upper right")

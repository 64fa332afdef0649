"""The ladder: does a law fitted to the smaller runs tell the loss of the largest one?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from analysis.claims.claim import Claim
from analysis.claims.region import between
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.fitted import Estimate, finished, measured
from analysis.fits.words import print_fit
from analysis.fitter.fit_json import to_json
from analysis.fitter.law import FitResult
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law, get_law
from analysis.tables import select
from analysis.tables.runs import read_curves
from conf.command_line import human
from train.record.files import write_json

LAW = "chinchilla"
# Huber's loss turns linear beyond a delta of ln loss. Chinchilla's 1e-3 lies below the noise of a small run (0.002
# to 0.01), where the fit passes exactly through some five of its few points; 0.02 is least squares for ordinary
# runs, and still keeps a run that went wrong from bending the law.
DELTA = 0.02
BOOTSTRAP = 1000
TOLERANCE = 0.02
_NORMAL_95 = 1.959964


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `curves` and `law` into `folder`, print the law and its prediction, and return the two claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of a ladder of sizes and token budgets. The largest model at its most
            tokens is held out of the fit.
    """
    console = Console(highlight=False)
    # Split first: if the largest run broke, another one must not quietly take its place.
    fitted, held = (select.with_loss(part) for part in select.hold_out_largest(runs))
    finished(runs, console)
    done = pl.concat([fitted, held])
    if done.is_empty():
        return _claims(done, reason="no run has finished")
    result, reason = _fit(fitted)
    if held.is_empty():
        result, reason = None, "the held-out run has not finished, so there is nothing to compare with"
    _draw_curves(done, folder)
    _draw_law(fitted, held, result, folder)
    if result is None:
        return _claims(done, reason=reason)

    write_json(folder / "fit.json", to_json(result))
    print_fit(result, console)
    prediction = {name: float(values[0]) for name, values in result.predict(held).items()}
    loss = float(np.exp(np.log(held["loss"].to_numpy()).mean()))
    error, low, high = (prediction[name] / loss - 1 for name in ("predicted", "pi_lo95", "pi_hi95"))
    largest = f"{human(held['n_params'][0])} parameters after {human(held['n_tokens'][0])} tokens"
    console.print(
        f"The held-out run ({largest}, not in the fit): predicted loss {prediction['predicted']:.4f} nats per token, "
        f"95% interval of a measurement {prediction['pi_lo95']:.4f} to {prediction['pi_hi95']:.4f}; "
        f"measured {loss:.4f}; error {100 * error:+.2f}%."
    )
    deviation = standardised_deviation(loss, prediction, degrees_of_freedom=result.n - len(result.params))
    return _claims(done, error=(error, (low, high)), deviation=deviation)


def _fit(fitted: pl.DataFrame) -> tuple[FitResult | None, str | None]:
    """The law fitted to the runs, or why that is impossible."""
    constants = len(get_law(LAW).parameters)
    if len(fitted) <= constants or any(fitted[name].n_unique() == 1 for name in ("n_params", "n_tokens")):
        return None, (
            f"{len(fitted)} finished runs beside the held-out one cannot determine the {constants} constants of the "
            f"law; at least {constants + 1} runs that differ in size and in tokens are needed"
        )
    return find_law(LAW).fit(fitted, FitOptions(objective="huber_log", delta=DELTA, bootstrap=BOOTSTRAP)), None


# --- claims ----------------------------------------------------------------------------------------------


def _claims(
    done: pl.DataFrame, *, error: Estimate | None = None, deviation: Estimate | None = None, reason: str | None = None
) -> list[Claim]:
    return [
        Claim(
            "A law fitted to the smaller runs predicts the loss of the largest run within 2 per cent.",
            of=measured(error, done, reason),
            statistic="predicted over measured loss of the held-out run, minus 1",
            accept=between(-TOLERANCE, TOLERANCE),
        ),
        Claim(
            "The law's 95% prediction interval contains the measured loss of the largest run.",
            of=measured(deviation, done, reason),
            statistic="measured minus predicted ln loss of the held-out run, in predictive standard deviations",
            accept=between(-_NORMAL_95, _NORMAL_95, form=".2f"),
        ),
    ]


def standardised_deviation(loss: float, prediction: dict[str, float], *, degrees_of_freedom: int) -> Estimate:
    """How far a measurement lies from its prediction, in predictive standard deviations z, with a 95 % interval.

    |z| < 1.96 says that the prediction interval contains the measurement. What is uncertain about z is the standard
    deviation itself, known from few residuals: its square follows chi² with n - p degrees of freedom. That is an
    approximation, as part of the width is the bootstrap's spread of the law. A law with wide intervals passes easily;
    the first claim, which has a tolerance, is the one that it fails.
    """
    from scipy.special import chdtri

    width = math.log(prediction["pi_hi95"] / prediction["pi_lo95"])
    centre = math.log(prediction["pi_hi95"] * prediction["pi_lo95"]) / 2
    z = (math.log(loss) - centre) / (width / (2 * _NORMAL_95))
    nu = degrees_of_freedom
    ends = sorted(z * math.sqrt(float(chdtri(nu, tail)) / nu) for tail in (0.975, 0.025))
    return z, (ends[0], ends[1])


# --- figures ---------------------------------------------------------------------------------------------


def _draw_curves(runs: pl.DataFrame, folder: Path) -> None:
    """`curves`: smoothed training loss (lines) and validation loss (markers) against training FLOPs."""
    metrics = read_curves([Path(folder) for folder in runs["folder"]])
    sizes = dict(zip(runs["run_id"], runs["n_params"], strict=True))
    colours = style.size_colours(runs["n_params"].to_numpy())
    drawn = []
    with style.paper():
        figure = Figure(figsize=style.ONE_PANEL)
        axes = figure.subplots()
        for (curve,), rows in metrics.group_by("curve", maintain_order=True):
            colour = colours[float(sizes[str(curve)])]
            smooth = smooth_over_flops(rows)
            axes.plot(smooth["flops"], smooth["train_loss"], color=colour, linewidth=0.9, alpha=0.75)
            validated = rows.filter(pl.col("val_loss").is_not_null() & (pl.col("flops") > 0))
            x, y, last = validated["flops"], validated["val_loss"], slice(len(validated) - 1, None)
            axes.plot(x, y, "o", color=colour, markersize=2.6, alpha=0.55, mew=0)
            axes.plot(x[last], y[last], "o", color=colour, markersize=5, mec="white", mew=0.6, zorder=4)
            for kind, part, loss in (("training", smooth, "train_loss"), ("validation", validated, "val_loss")):
                flops = pl.col("flops").cast(pl.Float64)
                named = part.select(pl.lit(str(curve)).alias("curve"), flops, pl.col(loss).alias("loss"))
                drawn.append(named.with_columns(kind=pl.lit(kind), n_params=pl.lit(sizes[str(curve)])))
        # The first steps fall from ln V; the axis leaves them out to show how the curves part.
        table = pl.concat(drawn)
        ends = runs["loss"].to_numpy()
        axes.set_xscale("log")
        axes.set_xlim(_reach(table["flops"].to_numpy(), ends.max() * 1.35, table["loss"].to_numpy()))
        axes.set_ylim(min(ends.min(), table["loss"].to_numpy().min()) * 0.97, ends.max() * 1.35)
        style.loss_axis(axes)
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("loss (nats per token)")
        axes.plot([], [], "-", color=style.REFERENCE, linewidth=0.9, label="training, smoothed")
        axes.plot([], [], "o", color=style.REFERENCE, markersize=2.6, label="validation")
        axes.plot([], [], "o", color=style.REFERENCE, markersize=5, label="validation at the end")
        axes.legend(loc="upper right")
        style.size_bar(figure, axes, colours, "parameters")
    write_picture(figure, table, folder / "curves")


def smooth_over_flops(rows: pl.DataFrame, per_decade: int = 12) -> pl.DataFrame:
    """Mean training loss, and geometric mean of FLOPs, in bins of equal width in log FLOPs."""
    rows = rows.filter(pl.col("train_loss").is_not_null() & (pl.col("flops") > 0))
    binned = rows.group_by((pl.col("flops").log10() * per_decade).floor().alias("bin")).agg(
        pl.col("flops").log().mean().exp(), pl.col("train_loss").mean()
    )
    return binned.sort("bin").select("flops", "train_loss")


def _reach(flops: Any, ceiling: float, loss: Any) -> tuple[float, float]:
    seen = flops[loss <= ceiling]
    return seen.min() / 1.3, seen.max() * 1.6


def _draw_law(fitted: pl.DataFrame, held: pl.DataFrame, result: FitResult | None, folder: Path) -> None:
    """`law`: loss against tokens with the law and its 95 % band, and the residuals against training FLOPs.

    Without a fit the points alone are drawn.
    """
    both = pl.concat([fitted, held])
    colours = style.size_colours(both["n_params"].to_numpy())
    points = both.select("run_id", "n_params", "n_tokens", "flops", "loss").with_columns(
        pl.col("n_params", "n_tokens", "flops").cast(pl.Float64),
        pl.Series("kind", ["fitted"] * len(fitted) + ["held out"] * len(held)),
    )
    drawn = points if result is None else points.with_columns(_as_columns(result.predict(points)))
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS if result else style.ONE_PANEL)
        panels = figure.subplots(1, 2 if result else 1, width_ratios=[1.25, 1] if result else None, squeeze=False)
        left, *right = panels[0]
        if result:
            drawn = pl.concat([drawn, _draw_lines(left, both, held, result, colours)], how="diagonal")
            _draw_residuals(right[0], drawn.filter(pl.col("kind") != "line"), colours)
        for row in points.iter_rows(named=True):
            _draw_point(left, row["n_tokens"], row["loss"], row["kind"], colours[float(row["n_params"])])
        style.count_axis(left, both["n_tokens"].to_numpy())
        style.loss_axis(left)
        left.set_xlabel("training tokens")
        left.set_ylabel("validation loss (nats per token)")
        left.plot([], [], "o", color=style.REFERENCE, label="run in the fit" if result else "run")
        if len(held):
            left.plot([], [], "*", color=style.HELD_OUT, markersize=9, mec="white", label="held-out run")
        if result:
            left.set_title(_in_numbers(result))
            left.plot([], [], "-", color=style.REFERENCE, label="law, 95% band")
            left.errorbar([], [], yerr=[], fmt="none", color=style.HELD_OUT, capsize=2.5, label="its 95% prediction")
        left.legend(loc="upper right")
        style.size_bar(figure, right[-1] if right else left, colours, "parameters")
    write_picture(figure, drawn, folder / "law")


def _in_numbers(result: FitResult) -> str:
    E, A, B, alpha, beta = (result.params[name].value for name in get_law(LAW).names)
    floor = f"{E:.3g}" if E > 1e-3 else "0"
    return rf"$L = {floor} + {A:.3g}\,N^{{-{alpha:.3g}}} + {B:.3g}\,D^{{-{beta:.3g}}}$"


def _draw_lines(
    axes: Axes, both: pl.DataFrame, held: pl.DataFrame, result: FitResult, colours: dict[float, Any]
) -> pl.DataFrame:
    """The law at each size over the tokens of the whole ladder, and the prediction of the held-out run."""
    tokens = both["n_tokens"].to_numpy()
    lines = []
    for size, colour in colours.items():
        grid = np.geomspace(tokens.min() / 1.25, tokens.max() * 1.25, 60)
        line = pl.DataFrame({"n_params": [size] * len(grid), "n_tokens": grid})
        line = line.with_columns(*_as_columns(result.predict(line)), pl.lit("line").alias("kind"))
        axes.plot(grid, line["predicted"], color=colour)
        axes.fill_between(grid, line["lo95"], line["hi95"], color=colour, alpha=0.16, linewidth=0)
        lines.append(line)
    axes.set_xlim(tokens.min() / 1.25, tokens.max() * 1.25)
    at = result.predict(held[:1])
    bar = [at["predicted"] - at["pi_lo95"], at["pi_hi95"] - at["predicted"]]
    look: dict[str, Any] = {"color": style.HELD_OUT, "capsize": 4.5, "linewidth": 1.1, "zorder": 5}
    axes.errorbar(held["n_tokens"][:1], at["predicted"], yerr=bar, fmt="none", **look)
    loss = both["loss"].to_numpy()
    axes.set_ylim(min(loss.min(), at["pi_lo95"].min()) * 0.98, loss.max() * 1.05)
    return pl.concat(lines)


def _draw_point(axes: Axes, x: float, y: float, kind: str, colour: Any) -> None:
    if kind == "fitted":
        axes.plot(x, y, "o", color=colour, mec="white", mew=0.6, markersize=5.5, zorder=4)
    else:
        axes.plot(x, y, "*", color=style.HELD_OUT, mec="white", mew=0.6, markersize=9, zorder=6)


def _draw_residuals(axes: Axes, points: pl.DataFrame, colours: dict[float, Any]) -> None:
    """Measured over predicted loss, in per cent, against training FLOPs."""
    flops = points["flops"].to_numpy()
    error = 100 * (points["loss"] / points["predicted"] - 1).to_numpy()
    low = 100 * (points["pi_lo95"] / points["predicted"] - 1).to_numpy()
    high = 100 * (points["pi_hi95"] / points["predicted"] - 1).to_numpy()
    axes.axhspan(-100 * TOLERANCE, 100 * TOLERANCE, color="#f3f3f3", zorder=0)
    axes.axhline(0, color=style.REFERENCE, linewidth=0.8)
    for k, row in enumerate(points.iter_rows(named=True)):
        if row["kind"] == "held out":
            bar = [[-low[k]], [high[k]]]
            axes.errorbar(flops[k], 0, yerr=bar, fmt="none", color=style.HELD_OUT, capsize=3, linewidth=1.1)
        _draw_point(axes, flops[k], error[k], row["kind"], colours[float(row["n_params"])])
    reach = 1.25 * max(100 * TOLERANCE, np.abs(error).max(), np.abs(low).max(), high.max())
    axes.set_ylim(-reach, reach)
    axes.set_xscale("log")
    axes.set_xlim(flops.min() / 1.8, flops.max() * 1.8)
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("measured over predicted loss (%)")
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "top"}
    axes.text(0.03, 100 * TOLERANCE, "±2%", fontsize=7.5, color=style.REFERENCE, **place)


def _as_columns(values: dict[str, Any]) -> list[pl.Series]:
    return [pl.Series(name, column) for name, column in values.items()]

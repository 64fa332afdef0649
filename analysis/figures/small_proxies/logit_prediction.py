"""Figure 9: the largest attention logit at an early step against size, a fit for each learning rate, and the next
size that the fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, around, below
from analysis.claims.sample import Measured, Sample
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.small_proxies.probes import exponents
from analysis.figures.small_proxies.qk_norm import LOGIT
from analysis.fitter.law import FitResult
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from analysis.laws.tasks import UNSTABLE_LOGIT
from analysis.stability.lr_sweep import RISE, curves_of, read_sweep, with_numbers
from conf.command_line import human

LAW = "logit_growth"
BOOTSTRAP = 1000
FACTOR = 2.0  # by which a prediction may be wrong
WIDEST = 3.0  # factor on either side that an interval may span and still say something


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `logit_prediction`. Some runs are trained to the end; the others end at the early step."""
    sweep, step = _read_early_logits(runs)
    held_out = float(sweep["size"].max())  # type: ignore[arg-type]  # polars says Any
    fits = {
        float(lr): _fit(rows.filter(pl.col("size") < held_out), bootstrap=BOOTSTRAP)
        for (lr,), rows in sweep.sort("lr").group_by("lr", maintain_order=True)
    }
    _draw(sweep, fits, step, folder)
    return _claims(sweep, fits, held_out, step)


def _read_early_logits(runs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The sweep with `logit` at the early step, and that step: the last one that the shortest runs have probed.

    `whole` says that a run was trained to the end, and `fails` that its loss then is `RISE` nats above the lowest of
    its size and seed, at a higher learning rate than that one's.
    """
    lengths = runs.select("run_id", "n_steps")
    sweep = read_sweep(runs, pl.lit("early")).join(lengths, on="run_id", maintain_order="left")
    curves = curves_of(sweep).filter(pl.col(LOGIT).is_not_null())
    shortest = sweep.filter(pl.col("n_steps") == pl.col("n_steps").min()).select(curve="run_id")
    step = int(curves.join(shortest, on="curve", how="semi")["step"].max())  # type: ignore[arg-type]  # a number
    early = (pl.col("step") == step) & pl.col(LOGIT).is_finite() & (pl.col(LOGIT) > 0)
    sweep = with_numbers(sweep, curves, logit=pl.col(LOGIT).filter(early).first()).drop_nulls("logit")
    curve = ("size", "seed")
    high = pl.col("loss") >= pl.col("loss").min().over(curve) + RISE
    too_fast = pl.col("lr") > pl.col("lr").sort_by("loss").first().over(curve)
    sweep = sweep.with_columns(whole=pl.col("n_steps") == pl.col("n_steps").max())
    return sweep.with_columns(fails=pl.col("whole") & high & too_fast), step


def _fit(rows: pl.DataFrame, *, bootstrap: int) -> FitResult:
    columns = {"n_params": rows["size"].to_numpy(), "max_logit": rows["logit"].to_numpy()}
    return find_law(LAW).fit(columns, FitOptions(bootstrap=bootstrap))


def _claims(sweep: pl.DataFrame, fits: Mapping[float, FitResult], held_out: float, step: int) -> list[Claim]:
    logit = f"block 0's largest attention logit at step {step}"
    return [
        *(_held_out(sweep.filter(pl.col("lr") == lr), lr, fitted, held_out, logit) for lr, fitted in fits.items()),
        Claim(
            f"The smaller sizes predict the logits of the largest within a factor of {FACTOR:g}.",
            of=_misses(sweep, held_out),
            statistic="|log10 predicted / measured|, the largest of all rates, each seed fitted alone",
            accept=below(float(np.log10(FACTOR)), form=".2f"),
        ),
        Claim(
            "At a fixed learning rate early logits grow with size.",
            of=exponents(sweep, "logit", "size", at="lr"),
            statistic=f"slope of log10 of {logit} against log10 of parameters, mean over rates",
            accept=above(0),
        ),
        Claim(
            "At a fixed size early logits grow with the learning rate.",
            of=exponents(sweep, "logit", "lr", at="size"),
            statistic=f"slope of log10 of {logit} against log10 of the rate, mean over sizes",
            accept=above(0),
        ),
        Claim(
            "The runs with large early logits are those that fail.",
            of=_ranks(sweep.filter("whole")),
            statistic="share of all pairs of a failing and a sound run in which the failing one has the larger early "
            f"logit; a run fails if its loss is {RISE:g} nats above the lowest of its size",
            accept=above(0.9),
        ),
    ]


def _held_out(rows: pl.DataFrame, lr: float, fitted: FitResult, held_out: float, logit: str) -> Claim:
    """Whether the interval of the prediction contains what was measured."""
    new = rows.filter(pl.col("size") == held_out)
    logits = new["logit"].to_numpy()
    measured = float(np.log10(logits).mean()) if len(logits) else float("nan")
    answer = fitted.predict({"n_params": [held_out]})
    value, low, high = (float(np.log10(answer[name][0])) for name in ("predicted", "pi_lo95", "pi_hi95"))
    return Claim(
        f"At a rate of {lr:g} a fit to the smaller sizes predicts the logit of {human(held_out)} parameters.",
        of=Measured(estimate=value, interval=(low, high), n_seeds=len(new), n_runs=len(rows)),
        statistic=f"log10 of {logit}, predicted for a new run by a quadratic in ln N; {measured:.2f} is measured",
        accept=around(measured, float(np.log10(WIDEST)), form=".2f"),
    )


def _misses(sweep: pl.DataFrame, held_out: float) -> Sample:
    """For each seed the largest |log10 predicted / measured| over the learning rates at which the run of the largest
    size lived to the early step."""
    misses: dict[Any, float] = {}
    for (seed, _), rows in sweep.group_by("seed", "lr", maintain_order=True):
        known, new = rows.filter(pl.col("size") < held_out), rows.filter(pl.col("size") == held_out)
        if new.is_empty():
            continue
        answer = _fit(known, bootstrap=0).predict({"n_params": [held_out]})
        miss = abs(float(np.log10(answer["predicted"][0] / new["logit"][0])))
        misses[seed] = max(miss, misses.get(seed, 0.0))
    return Sample(misses, len(sweep))


def _ranks(whole: pl.DataFrame) -> Sample:
    """For each seed the probability that a failing run has a larger early logit than a sound one (ties count half);
    empty where some seed lacks either."""
    shares = {}
    for (seed,), rows in whole.group_by("seed", maintain_order=True):
        failing = rows.filter("fails")["logit"].to_numpy()[:, None]
        sound = rows.filter(~pl.col("fails"))["logit"].to_numpy()[None]
        if not failing.size or not sound.size:
            several = whole["seed"].n_unique() > 1
            return Sample({}, len(whole), lacking="no run fails, or all do" if several else None)
        shares[seed] = float(((failing > sound) + 0.5 * (failing == sound)).mean())
    return Sample(shares, len(whole))


def _draw(sweep: pl.DataFrame, fits: Mapping[float, FitResult], step: int, folder: Path) -> None:
    """Points of every seed with the fit and its interval for each rate; runs that fail have a cross, the held-out size
    is red. The numbers of the lines are in the same file as those of the points."""
    colours = style.setting_colours(sweep["lr"].to_numpy())
    held_out = float(sweep["size"].max())  # type: ignore[arg-type]  # a number
    sizes = np.geomspace(float(sweep["size"].min()) / 1.2, 2 * held_out, 60)  # type: ignore[arg-type]  # a number
    drawn = [sweep.drop("folder", "arm", "run_id")]
    with style.panels((5.4, 3.6)) as (figure, axes):
        for lr, found in fits.items():
            line = found.predict({"n_params": sizes})
            seen = sizes <= sweep.filter(pl.col("size") < held_out)["size"].max()  # type: ignore[operator]  # a number
            axes.fill_between(sizes, line["pi_lo95"], line["pi_hi95"], color=colours[lr], alpha=0.13, linewidth=0)
            axes.plot(sizes[seen], line["predicted"][seen], color=colours[lr])
            axes.plot(sizes[~seen], line["predicted"][~seen], ":", color=colours[lr])
            numbers = {name: line[name] for name in ("predicted", "pi_lo95", "pi_hi95")}
            drawn.append(pl.DataFrame({"size": sizes, **numbers}).select(pl.lit(lr).alias("lr"), pl.all()))
            points = sweep.filter(pl.col("lr") == lr)
            known = points.filter((pl.col("size") < held_out) & ~pl.col("fails"))
            failed, new = points.filter("fails"), points.filter(pl.col("size") == held_out)
            axes.plot(known["size"], known["logit"], "o", color=colours[lr], mec="white", mew=0.4, markersize=4)
            axes.plot(failed["size"], failed["logit"], "X", color=colours[lr], mec="white", mew=0.4, markersize=6)
            axes.plot(new["size"], new["logit"], "D", color=colours[lr], mec=style.HELD_OUT, mew=1.0, markersize=4)
        style.count_axis(axes, sizes)
        axes.axhline(UNSTABLE_LOGIT, color=style.REFERENCE, linestyle="--", linewidth=0.9)
        axes.annotate(
            "1e4: beyond it all of the paper's runs diverge", (sizes[0], UNSTABLE_LOGIT), (3, 3),
            textcoords="offset points", fontsize=7.5, color=style.REFERENCE,
        )  # fmt: skip
        axes.set(xlabel="parameters without embeddings", ylabel=f"largest attention logit, block 0, step {step}")
        axes.set(yscale="log", ylim=(None, 6 * UNSTABLE_LOGIT))
        for marker, label in (("o", "in the fit"), ("X", "in the fit; fails later"), ("D", "held out")):
            edge = style.HELD_OUT if marker == "D" else "white"
            axes.plot([], [], marker, color=style.REFERENCE, mec=edge, mew=0.5, markersize=7, label=label)
        figure.legend(loc="outside upper center", ncols=3)
        style.size_bar(figure, axes, colours, "learning rate")
    write_picture(figure, pl.concat(drawn, how="diagonal_relaxed"), folder / "logit_prediction")

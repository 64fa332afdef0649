"""Figure 9: the largest attention logit at an early step against size, a fit for each learning rate, and the next
size that the fit has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.figures.small_proxies.probes import exponents
from analysis.figures.small_proxies.qk_norm import LOGIT
from analysis.fitter.law import FitResult
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from analysis.laws.tasks import UNSTABLE_LOGIT
from analysis.stability.lr_sweep import RISE, read_sweep
from analysis.tables.runs import read_curves
from conf.command_line import human
from train.record.files import write_bytes

LAW = "logit_growth"
BOOTSTRAP = 1000
FACTOR = 2.0  # by which a prediction may be wrong
WIDEST = 3.0  # factor on either side that an interval may span and still say something


def logit_prediction(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `logit_prediction` into `out`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of models without QK-norm over sizes, learning rates and seeds. Some are
            trained to the end; the others end at the early step.
    """
    sweep, step = _read_early_logits(runs)
    held_out = float(sweep["size"].max())  # type: ignore[arg-type]  # polars says Any
    fits = {
        float(lr): _fit(rows.filter(pl.col("size") < held_out), bootstrap=BOOTSTRAP)
        for (lr,), rows in sweep.sort("lr").group_by("lr", maintain_order=True)
    }
    _draw(sweep, fits, step, out)
    return _claims(sweep, fits, held_out, step)


def _read_early_logits(runs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The sweep with `logit` at the early step, and that step: the last one that the shortest runs have probed.

    `whole` says that a run was trained to the end, and `fails` that its loss then is `RISE` nats above the lowest of
    its size and seed, at a higher learning rate than that one's.
    """
    own = runs.select("run_id", "n_steps")
    sweep = read_sweep(runs, pl.lit("early")).join(own, on="run_id", maintain_order="left")
    curves = read_curves([Path(folder) for folder in sweep["folder"]])
    probed = curves.filter(pl.col(LOGIT).is_not_null()).select(
        pl.col("curve").alias("run_id"), "step", pl.col(LOGIT).alias("logit")
    )
    shortest = sweep.filter(pl.col("n_steps") == pl.col("n_steps").min())
    step = int(probed.join(shortest, on="run_id", how="semi")["step"].max())  # type: ignore[arg-type]  # a number
    early = probed.filter((pl.col("step") == step) & pl.col("logit").is_finite() & (pl.col("logit") > 0))
    curve = ("size", "seed")
    sweep = (
        sweep.join(early.drop("step"), on="run_id", maintain_order="left")
        .with_columns((pl.col("n_steps") == pl.col("n_steps").max()).alias("whole"))
        .with_columns(
            (
                pl.col("whole")
                & (pl.col("loss") >= pl.col("loss").min().over(curve) + RISE)
                & (pl.col("lr") > pl.col("lr").sort_by("loss").first().over(curve))
            ).alias("fails")
        )
    )
    return sweep, step


def _fit(rows: pl.DataFrame, *, bootstrap: int) -> FitResult:
    columns = {"n_params": rows["size"].to_numpy(), "max_logit": rows["logit"].to_numpy()}
    return find_law(LAW).fit(columns, FitOptions(bootstrap=bootstrap))


# --- claims ----------------------------------------------------------------------------------------------


def _claims(sweep: pl.DataFrame, fits: Mapping[float, FitResult], held_out: float, step: int) -> list[Claim]:
    logit = f"block 0's largest attention logit at step {step}"
    n_seeds = sweep["seed"].n_unique()
    by_size = exponents(sweep, "logit", "size", at="lr")
    by_lr = exponents(sweep, "logit", "lr", at="size")
    ranks = _ranks(sweep.filter("whole"))
    return [
        *(_held_out(sweep.filter(pl.col("lr") == lr), lr, found, held_out, logit) for lr, found in fits.items()),
        claim_over_seeds(
            _misses(sweep, held_out),
            sentence=f"The smaller sizes predict the logits of the largest within a factor of {FACTOR:g}.",
            statistic="|log10 predicted / measured|, the largest of all rates, each seed fitted alone",
            threshold=f"below {np.log10(FACTOR):.2f}",
            high=float(np.log10(FACTOR)),
            n_runs=len(sweep),
        ),
        claim_over_seeds(
            list(by_size.values()),
            sentence="At a fixed learning rate early logits grow with size.",
            statistic=f"slope of log10 of {logit} against log10 of parameters, mean over rates",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep),
        ),
        claim_over_seeds(
            list(by_lr.values()),
            sentence="At a fixed size early logits grow with the learning rate.",
            statistic=f"slope of log10 of {logit} against log10 of the rate, mean over sizes",
            threshold="above 0",
            low=0.0,
            n_runs=len(sweep),
        ),
        claim_over_seeds(
            ranks,
            sentence="The runs with large early logits are those that fail.",
            statistic="share of all pairs of a failing and a sound run in which the failing one has the larger early "
            f"logit; a run fails if its loss is {RISE:g} nats above the lowest of its size",
            threshold="above 0.9",
            low=0.9,
            n_runs=int(sweep["whole"].sum()),
            reason=None if ranks or n_seeds < 2 else "no run fails, or all do",
        ),
    ]


def _held_out(rows: pl.DataFrame, lr: float, found: FitResult, held_out: float, logit: str) -> Claim:
    """Whether the interval of the prediction contains what was measured."""
    new = rows.filter(pl.col("size") == held_out)
    logits = new["logit"].to_numpy()
    measured = float(np.log10(logits).mean()) if len(logits) else float("nan")
    answer = found.predict({"n_params": [held_out]})
    value, low, high = (float(np.log10(answer[name][0])) for name in ("predicted", "pi_lo95", "pi_hi95"))
    room = float(np.log10(WIDEST))
    return Claim(
        sentence=f"At a rate of {lr:g} a fit to the smaller sizes predicts the logit of {human(held_out)} parameters.",
        statistic=f"log10 of {logit}, predicted for a new run by a quadratic in ln N; {measured:.2f} is measured",
        estimate=value,
        interval=(low, high),
        threshold=f"contains {measured:.2f}, and within {room:.2f} of it",
        low=measured - room,
        high=measured + room,
        truth=measured,
        n_seeds=len(new),
        n_runs=len(rows),
    )


def _misses(sweep: pl.DataFrame, held_out: float) -> list[float]:
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
    return list(misses.values())


def _ranks(whole: pl.DataFrame) -> list[float]:
    """For each seed the probability that a failing run has a larger early logit than a sound one (ties count half);
    empty where some seed lacks either."""
    shares = []
    for _, rows in whole.group_by("seed", maintain_order=True):
        failing = rows.filter("fails")["logit"].to_numpy()[:, None]
        sound = rows.filter(~pl.col("fails"))["logit"].to_numpy()[None]
        if not failing.size or not sound.size:
            return []
        shares.append(float(((failing > sound) + 0.5 * (failing == sound)).mean()))
    return shares


# --- figure ----------------------------------------------------------------------------------------------


def _draw(sweep: pl.DataFrame, fits: Mapping[float, FitResult], step: int, out: Path) -> None:
    """Points of every seed with the fit and its interval for each rate; runs that fail have a cross, the held-out size
    is red. The numbers of the lines are in the same file as those of the points."""
    colours = style.setting_colours(sweep["lr"].to_numpy())
    held_out = float(sweep["size"].max())  # type: ignore[arg-type]  # a number
    sizes = np.geomspace(float(sweep["size"].min()) / 1.2, 2 * held_out, 60)  # type: ignore[arg-type]  # a number
    drawn = [sweep.drop("folder", "arm", "run_id")]
    with style.paper():
        figure = Figure(figsize=(5.4, 3.6))
        axes = figure.subplots()
        for lr, found in fits.items():
            line = found.predict({"n_params": sizes})
            seen = sizes <= sweep.filter(pl.col("size") < held_out)["size"].max()  # type: ignore[operator]  # a number
            axes.fill_between(sizes, line["pi_lo95"], line["pi_hi95"], color=colours[lr], alpha=0.13, linewidth=0)
            axes.plot(sizes[seen], line["predicted"][seen], color=colours[lr])
            axes.plot(sizes[~seen], line["predicted"][~seen], ":", color=colours[lr])
            drawn.append(
                pl.DataFrame({"size": sizes, **{name: line[name] for name in ("predicted", "pi_lo95", "pi_hi95")}})
                .with_columns(pl.lit(lr).alias("lr"))
                .select("lr", pl.all().exclude("lr"))
            )
            points = sweep.filter(pl.col("lr") == lr)
            known = points.filter((pl.col("size") < held_out) & ~pl.col("fails"))
            failed, new = points.filter("fails"), points.filter(pl.col("size") == held_out)
            axes.plot(known["size"], known["logit"], "o", color=colours[lr], mec="white", mew=0.4, markersize=4)
            axes.plot(failed["size"], failed["logit"], "X", color=colours[lr], mec="white", mew=0.4, markersize=6)
            axes.plot(new["size"], new["logit"], "D", color=colours[lr], mec=style.HELD_OUT, mew=1.0, markersize=4)
        axes.set_yscale("log")
        style.count_axis(axes, sizes)
        axes.axhline(UNSTABLE_LOGIT, color=style.REFERENCE, linestyle="--", linewidth=0.9)
        axes.annotate(
            "1e4: beyond it all of the paper's runs diverge", (sizes[0], UNSTABLE_LOGIT), (3, 3),
            textcoords="offset points", fontsize=7.5, color=style.REFERENCE,
        )  # fmt: skip
        axes.set_ylim(top=6 * UNSTABLE_LOGIT)
        axes.set_xlabel("parameters without embeddings")
        axes.set_ylabel(f"largest attention logit, block 0, step {step}")
        grey = style.REFERENCE
        for marker, label in (("o", "in the fit"), ("X", "in the fit; fails later"), ("D", "held out")):
            edge = style.HELD_OUT if marker == "D" else "white"
            axes.plot([], [], marker, color=grey, mec=edge, mew=0.5, markersize=7, label=label)
        figure.legend(loc="outside upper center", ncols=3)
        style.size_bar(figure, axes, colours, "learning rate")
        style.save(figure, out / "logit_prediction")
    write_bytes(out / "logit_prediction.csv", pl.concat(drawn, how="diagonal_relaxed").write_csv().encode())

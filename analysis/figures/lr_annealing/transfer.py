"""Loss curves under schedules that the law has not seen: fitted to a constant rate and a cosine, put to late decays."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from analysis.claims.claim import Claim
from analysis.claims.region import at_most, below, between
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.fitted import Estimate, finished, measured
from analysis.fits.words import print_fit
from analysis.fitter.fit_json import to_json
from analysis.fitter.law import FitResult
from analysis.fitter.options import FitOptions
from analysis.laws.annealing import lr_annealing, read_areas
from analysis.laws.power import power_law
from analysis.laws.registry import find_law
from analysis.tables.columns import Array
from analysis.tables.curves import Curves
from analysis.tables.runs import read_curves
from train.record.files import write_json

FITTED = ("constant", "cosine")
# S2 remembers a reduction for 1/(1 - decay) steps. The published 0.999 is a twentieth of the 20000 steps of its runs;
# these shares of a run are tried, and the one that the fitted curves like best is taken.
MEMORIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
# Before this share of a run the loss falls from guessing, which is no power law.
FIRST = 0.1
BOOTSTRAP = 1000
# A fifth of the 1.5 % by which a cosine ends below a constant rate here, and not much above the scatter of a curve.
MOST_ERROR = 0.003
# Most points of a curve lie before its decay, so the decay is judged by itself too.
FALL = (0.75, 1.25)
SEGMENT = 0.1  # of a curve; points are drawn anew within each


@dataclass(frozen=True)
class Held:
    """Measured ln loss of the held-out runs, and what the laws fitted to the other runs of the same seed say.

    Shape letters: L schedules, K seeds, N points of a curve, R resamples of the fits.
    """

    log_loss_LKN: Array
    law_RLKN: Array
    forward_RLKN: Array
    decaying_LN: NDArray[np.bool_]

    def statistics(self) -> dict[str, Estimate]:
        """`error`, the mean absolute relative error of the law over all points; `ratio`, its ratio to that of the law
        without S2; and `fall`, by how much the loss falls during the decays, predicted over measured.

        The intervals hold the uncertainty of the fit, whose resamples are taken in turn, and that of few points, drawn
        anew within each segment of a curve: where along a curve an error lies is no accident. The first resample is
        the fit itself, and takes all points.
        """
        N = self.log_loss_LKN.shape[-1]
        at_RLKN = _redrawn(self.law_RLKN.shape)
        at_RLKN[0] = np.arange(N)

        def mean(law_RLKN: Array) -> Array:
            error_RLKN = np.abs(law_RLKN - self.log_loss_LKN)
            return np.asarray(np.take_along_axis(error_RLKN, at_RLKN, axis=3).mean(axis=(1, 2, 3)))

        def fall(log_loss_RLKN: Array) -> Array:
            """From the mean of the last tenth of the curve before the decay to that of its last two points."""
            drawn_RLKN = np.take_along_axis(np.broadcast_to(log_loss_RLKN, at_RLKN.shape), at_RLKN, axis=3)
            begins = self.decaying_LN.argmax(axis=1)
            return np.asarray(
                np.mean(
                    [
                        drawn_RLKN[:, k, :, max(0, begin - N // 10) : begin].mean(axis=2).mean(axis=1)
                        - drawn_RLKN[:, k, :, -2:].mean(axis=2).mean(axis=1)
                        for k, begin in enumerate(begins)
                    ],
                    axis=0,
                )
            )

        error_R, forward_R = mean(self.law_RLKN), mean(self.forward_RLKN)
        return {
            "error": _interval(error_R),
            "ratio": _interval(error_R / forward_R),
            "fall": _interval(fall(self.law_RLKN) / fall(self.log_loss_LKN)),
        }


def _interval(values_R: Array) -> Estimate:
    low, high = np.quantile(values_R[1:], [0.025, 0.975])
    return float(values_R[0]), (float(low), float(high))


def _redrawn(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Indices of points, each replaced by one of its segment."""
    N = shape[-1]
    length = max(1, round(SEGMENT * N))
    begin_N = np.arange(N) // length * length
    return np.random.default_rng(0).integers(begin_N, np.minimum(begin_N + length, N), size=shape)


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `transfer` and `memory` into `folder`, print the law and its errors, and return the three claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of schedules times seeds, all of one length. Those of `FITTED` are
        fitted.
    """
    console = Console(highlight=False)
    done = finished(runs, console)
    done = done.with_columns(_schedule_names(done))
    reason = _missing(runs.with_columns(_schedule_names(runs)), done)
    if reason is not None:
        return _claims(done, reason=reason)

    points, schedules = _read_points(done)
    memory = _scan(points, schedules, n_steps=int(done["n_steps"][0]))
    best = memory.sort("objective").row(0, named=True)
    laws = _fit(points, schedules, best["decay"], bootstrap=BOOTSTRAP)
    forward = _fit(points, schedules, None, bootstrap=BOOTSTRAP)
    for seed, result in laws.items():
        write_json(folder / f"fit_seed_{seed}.json", to_json(result))
        print_fit(result, console)
    drawn = points.with_columns(
        pl.when(pl.col("schedule").is_in(FITTED)).then(pl.lit("fitted")).otherwise(pl.lit("held out")).alias("kind"),
        pl.Series("predicted", _predict(laws, points, schedules)),
        pl.Series("without_S2", _predict(forward, points, schedules)),
    )
    statistics = _held_out(drawn.filter(pl.col("kind") == "held out"), schedules, laws, forward).statistics()
    _draw_transfer(drawn, folder)
    _draw_memory(memory, best, folder)
    console.print(
        f"decay {best['decay']:.6g}, a memory of {100 * best['memory']:g}% of the run, fits {' and '.join(FITTED)} "
        f"best. Mean error there {_percent(drawn, 'fitted')}, of the held-out curves {_percent(drawn, 'held out')}; "
        f"without S2 it is {1 / statistics['ratio'][0]:.1f} times as large. At their last step the held-out curves lie "
        f"{_last_errors(drawn)} above the law. The losses of two seeds differ by {100 * _between_seeds(drawn):.2g}%."
    )
    return _claims(done, statistics)


def _percent(drawn: pl.DataFrame, kind: str) -> str:
    rows = drawn.filter(pl.col("kind") == kind)
    return f"{100 * float((rows['predicted'] / rows['loss']).log().abs().mean()):.2g}%"  # type: ignore[arg-type]  # polars says mean() may be a date


def _last_errors(drawn: pl.DataFrame) -> str:
    last = drawn.filter((pl.col("kind") == "held out") & (pl.col("step") == pl.col("step").max()))
    error = 100 * (last["loss"] / last["predicted"] - 1).to_numpy()
    return f"{error.min():+.2g}% to {error.max():+.2g}%"


def _between_seeds(drawn: pl.DataFrame) -> float:
    """Mean absolute relative difference of two seeds of one schedule at one step."""
    spread = drawn.group_by("schedule", "step").agg(pl.col("loss").log().sort())
    losses = np.array(spread["loss"].to_list())
    pairs = list(itertools.combinations(range(losses.shape[1]), 2))
    return float(np.mean([losses[:, b] - losses[:, a] for a, b in pairs]))


# --- runs ------------------------------------------------------------------------------------------------


def _schedule_names(runs: pl.DataFrame) -> pl.Series:
    """`constant`, `cosine`, `wsd 20%`."""
    shapes = zip(runs["schedule.shape"], runs["schedule.cooldown"], strict=True)
    names = [f"{shape} {cooldown}" if shape == "wsd" else shape for shape, cooldown in shapes]
    return pl.Series("schedule", names, dtype=pl.String)


def _missing(planned: pl.DataFrame, done: pl.DataFrame) -> str | None:
    """Why the law cannot be fitted or judged, if it cannot."""
    wanted = planned.select("schedule", "seed").unique()
    there = done.select("schedule", "seed").unique()
    if len(there) < len(wanted):
        return f"{len(there)} of {len(wanted)} runs have finished; every schedule is needed with every seed"
    if not set(FITTED) < set(there["schedule"]) or there["seed"].n_unique() < 2:
        return f"two seeds of {', '.join(FITTED)} and at least one more schedule are needed"
    return None


def _read_points(runs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Validation losses after `FIRST` (curve, schedule, seed, step, loss), and the learning rate of every step."""
    rows = read_curves([Path(folder) for folder in runs["folder"]]).filter(pl.col("step") > 0)
    schedules = rows.filter(pl.col("lr").is_not_null()).select("curve", "step", "lr")
    named = runs.select(pl.col("run_id").alias("curve"), "schedule", "seed", "n_steps")
    points = (
        rows.filter(pl.col("val_loss").is_not_null())
        .join(named, on="curve", maintain_order="left")
        .filter(pl.col("step") >= FIRST * pl.col("n_steps"))
        .select("curve", "schedule", "seed", "step", "lr", pl.col("val_loss").alias("loss"))
    )
    return points.sort("schedule", "seed", "step"), schedules


# --- fits ------------------------------------------------------------------------------------------------

Fits = dict[int, FitResult]  # seed -> the law fitted to its runs


def _fit(points: pl.DataFrame, schedules: pl.DataFrame, decay: float | None, *, bootstrap: int) -> Fits:
    """The law fitted to each seed's `FITTED` curves; without a decay the same law without S2."""
    fits = {}
    for (seed,), rows in points.filter(pl.col("schedule").is_in(FITTED)).group_by("seed", maintain_order=True):
        if decay is None:
            fits[seed] = find_law("power_law").fit(
                _with_area(rows, schedules), FitOptions(x="area", bootstrap=bootstrap)
            )
        else:
            options = {"decay": decay}
            fits[seed] = find_law("lr_annealing").fit(
                Curves(rows, schedules), FitOptions(options=options, bootstrap=bootstrap)
            )
    return fits


def _with_area(points: pl.DataFrame, schedules: pl.DataFrame) -> pl.DataFrame:
    areas = read_areas(Curves(points, schedules), {"decay": 0.0, "warmup": "peak"})
    return points.with_columns(pl.Series("area", areas["area"]))


def _predict(fits: Fits, points: pl.DataFrame, schedules: pl.DataFrame) -> Array:
    """Each row by the fit of its seed."""
    predicted = np.empty(len(points))
    for seed, result in fits.items():
        mine = (points["seed"] == seed).to_numpy()
        rows = points.filter(mine)
        table = Curves(rows, schedules) if result.law.name == "lr_annealing" else _with_area(rows, schedules)
        predicted[mine] = result.predict(table)["predicted"]
    return predicted


def _scan(points: pl.DataFrame, schedules: pl.DataFrame, *, n_steps: int) -> pl.DataFrame:
    """Objective on the fitted curves for each memory of S2, and the mean error on the held-out ones."""
    unseen = points.filter(~pl.col("schedule").is_in(FITTED))
    scanned = []
    for memory in MEMORIES:
        if memory * n_steps < 1:
            continue
        decay = 1 - 1 / (memory * n_steps)
        fits = _fit(points, schedules, decay, bootstrap=0)
        error = np.abs(np.log(_predict(fits, unseen, schedules) / unseen["loss"].to_numpy())).mean()
        objective = sum(result.objective["value"] for result in fits.values())
        scanned.append({"memory": memory, "decay": decay, "objective": objective, "held_out_error": float(error)})
    return pl.DataFrame(scanned)


def _held_out(held: pl.DataFrame, schedules: pl.DataFrame, laws: Fits, forward: Fits) -> Held:
    """Measured and predicted ln loss in arrays."""
    n_schedules = held["schedule"].n_unique()
    seen: list[Array] = []
    law: list[Array] = []
    plain: list[Array] = []
    for seed in laws:
        rows = held.filter(pl.col("seed") == seed).sort("schedule", "step")
        areas = read_areas(Curves(rows, schedules), laws[seed].law.options)
        seen.append(np.log(rows["loss"].to_numpy()).reshape(n_schedules, -1))
        for arrays, losses in (
            (law, lr_annealing(areas, **_draws(laws[seed]))),
            (plain, power_law({"x": areas["area"]}, **_draws(forward[seed]))),
        ):
            arrays.append(np.log(losses).reshape(len(losses), n_schedules, -1))
    lr_LN = rows["lr"].to_numpy().reshape(n_schedules, -1)  # the same for every seed
    decaying_LN = lr_LN < lr_LN[:, :1] * (1 - 1e-9)
    return Held(np.stack(seen, axis=1), np.stack(law, axis=2), np.stack(plain, axis=2), decaying_LN)


def _draws(result: FitResult) -> dict[str, Array]:
    """The fitted parameters, then those of the bootstrap, each (1 + R, 1)."""
    return {
        name: np.array([result.values[name], *draws])[:, None] for name, draws in result.bootstrap["params"].items()
    }


# --- claims ----------------------------------------------------------------------------------------------


def _claims(
    done: pl.DataFrame, statistics: dict[str, Estimate] | None = None, *, reason: str | None = None
) -> list[Claim]:
    error, ratio, fall = (
        measured(statistics[name] if statistics else None, done, reason) for name in ("error", "ratio", "fall")
    )
    return [
        Claim(
            "A law fitted to a constant and a cosine schedule predicts the loss curves of unseen late decays within "
            "0.3 per cent.",
            of=error,
            statistic="mean absolute relative error over the held-out curves",
            accept=at_most(MOST_ERROR),
        ),
        Claim(
            "The annealing term is what predicts them: without S2 the same law, fitted to the same curves, is further "
            "off.",
            of=ratio,
            statistic="mean absolute relative error over the held-out curves, with S2 over without",
            accept=below(1.0),
        ),
        Claim(
            "The law predicts how far the loss falls during the late decays.",
            of=fall,
            statistic="fall of ln loss from just before the decay to its end, predicted over measured",
            accept=between(*FALL),
        ),
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_transfer(drawn: pl.DataFrame, folder: Path) -> None:
    """`transfer`: the fitted curves and each held-out one with the law of its seed, and by how much they exceed it."""
    held = [name for name in drawn["schedule"].unique(maintain_order=True) if name not in FITTED]
    panels = [list(FITTED), *([name] for name in held)]
    with style.paper():
        figure = Figure(figsize=(2.9 * len(panels), 4.4))
        axes = figure.subplots(2, len(panels), sharex=True, sharey="row", height_ratios=[2.1, 1], squeeze=False)
        for (top, bottom), names in zip(axes.T, panels, strict=True):
            bottom.axhspan(-100 * MOST_ERROR, 100 * MOST_ERROR, color="#ececec", zorder=0)
            bottom.axhline(0, color=style.REFERENCE, linewidth=0.8)
            for k, name in enumerate(names):
                colour = style.ARMS[k] if name in FITTED else style.HELD_OUT
                _draw_curve(top, bottom, drawn.filter(pl.col("schedule") == name), colour)
                top.plot([], [], "o", color=colour, markersize=3.5, mew=0, label=name)
            top.plot([], [], color="black", linewidth=1.0, label="law")
            if names[0] in held:
                top.plot([], [], "--", color=style.REFERENCE, linewidth=1.0, label="fitted without S2")
            top.legend(loc="upper right")
            top.set_title("fitted" if names[0] in FITTED else f"held out: {names[0]} decay")
            bottom.set_xlabel("step")
        axes[0, 0].set_ylabel("validation loss (nats per token)")
        axes[1, 0].set_ylabel("over law (%)")
        axes[1, -1].set_title(f"grey: ±{100 * MOST_ERROR:g}%", fontsize=7.5, loc="right", color=style.REFERENCE)
    write_picture(figure, drawn, folder / "transfer")


def _draw_curve(top: Axes, bottom: Axes, rows: pl.DataFrame, colour: Any) -> None:
    """Measured losses of every seed with its laws, and by how much they exceed the law."""
    for _, curve in rows.group_by("seed", maintain_order=True):
        step, loss = curve["step"].to_numpy(), curve["loss"].to_numpy()
        top.plot(step, loss, "o", color=colour, markersize=2.4, mew=0, alpha=0.6)
        error = 100 * (loss / curve["predicted"].to_numpy() - 1)
        bottom.plot(step, error, "o-", color=colour, markersize=1.8, linewidth=0.6, mew=0, alpha=0.7)
        top.plot(step, curve["predicted"], color="black", linewidth=0.9, zorder=4)
        if curve["kind"][0] == "held out":
            top.plot(step, curve["without_S2"], "--", color=style.REFERENCE, linewidth=0.9)


def _draw_memory(memory: pl.DataFrame, best: dict[str, Any], folder: Path) -> None:
    """`memory`: how well the law fits, and predicts, with S2 remembering for longer and longer."""
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        left, right = figure.subplots(1, 2, sharex=True)
        left.plot(memory["memory"], 1e3 * memory["objective"], "o-", color=style.ARMS[0])
        left.set_ylabel("objective on the fitted curves (×10⁻³)")
        right.plot(memory["memory"], 100 * memory["held_out_error"], "o-", color=style.HELD_OUT)
        right.set_ylabel("mean error on the held-out curves (%)")
        for axes in (left, right):
            axes.axvline(best["memory"], color=style.REFERENCE, linewidth=0.8, linestyle=":")
            axes.set_xscale("log")
            axes.set_xticks(memory["memory"].to_list(), [f"{100 * share:g}" for share in memory["memory"]])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("memory of S2, 1/(1 - decay), in % of the run")
            axes.set_ylim(bottom=0)
    write_picture(figure, memory, folder / "memory")

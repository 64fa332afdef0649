"""Two laws on the same points: which one explains them better, and which one predicts the more expensive ones better.

A law that fits better need not extrapolate better, so the error at the most expensive fifth of the points decides (the
advice of Alabdulmohsin et al. 2022, arXiv 2209.06640), and Akaike's criterion only where nothing can be held out.

compare_laws([find_law("power_law"), find_law("frontier")], table, x="flops").sentence      "frontier predicts …"

Shape letters: N points, F fitted and H held-out points, R bootstrap replicates, U places on a grid of log10 x.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from analysis.compare.compare_arms import aicc, law_to_compare
from analysis.compare.crossing import Lines, Measure, grid, measure, roots, stretches, thinned
from analysis.fits.holdout import default_split
from analysis.fitter.law import FitResult, Fittable, Law
from analysis.fitter.options import FEWEST_RESAMPLES, FitOptions
from analysis.fitter.points import read_variables
from analysis.fitter.refit import refit
from analysis.fitter.resample import draw_rows
from analysis.tables.columns import Array, FitError, read_column

Preference = Literal["better", "cannot tell"]

CONTRADICTS = 2.0  # a difference of AICc below it says nothing
ROUNDING = 1e-12  # held-out errors below it tell nothing
DECISIVE = 10.0  # above it the worse law has essentially no support (Burnham and Anderson 2002, section 2.6)


@dataclass(frozen=True)
class Rival:
    """One of two laws.

    Attributes:
        aicc: less that of the better law; None where there are too few points for it.
        held_out: mean of |ln predicted - ln measured| (of |predicted - measured|, where residuals are differences) at
            the most expensive fifth, by a fit to the others; None where nothing was held out.
    """

    law: str
    constants: dict[str, float]
    aicc: float | None
    held_out: float | None


@dataclass(frozen=True)
class LawsComparison:
    """Two laws on the same points.

    Attributes:
        held_out: points that were predicted and not fitted.
        difference: held-out error of the first law less that of the second.
        crossings: x where the two predicted curves cross, up to a decade beyond the data; laws of one variable only.
        apart: ranges of x in which their 95 % bands do not overlap; laws of one variable only.
        apart_share: share of the measured points at which they do not.
        curves: of each law with 95 % bands; None for laws of several variables.
        better: the law, where the verdict is that one is.
    """

    laws: tuple[Rival, Rival]
    target: str
    x: str | None
    n: int
    held_out: int
    difference: Measure | None
    crossings: tuple[float, ...]
    apart: tuple[tuple[float, float], ...]
    apart_share: float
    curves: Lines | None
    verdict: Preference
    better: str | None
    sentence: str
    warnings: tuple[str, ...]
    bootstrap: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--out`."""
        return dataclasses.asdict(self)


def compare_laws(
    rivals: Sequence[Fittable],
    table: pl.DataFrame,
    *,
    x: str | None = None,
    bootstrap: int = FitOptions.bootstrap,
    seed: int = FitOptions.seed,
) -> LawsComparison:
    """`compare_laws([find_law("power_law"), find_law("frontier")], table, x="flops")`: two laws fitted by least squares
    to the same points.

    Args:
        rivals: two laws; a family's member has its default options.
        x: the column that laws of one free variable read.
        bootstrap: resamples, at least 20. For the difference of the held-out errors each draws fitted and held-out
            points, the same ones for both laws, and fits both again.

    Raises:
        FitError: not two laws, laws of different targets, and what `analysis.fitter.law.Law.fit` raises.
    """
    names = [law.name for law in rivals]
    if len(set(names)) != 2:
        raise FitError(f"compare {' '.join(names)}: allowed: two laws, or one law and --by for two arms of the table")
    if bootstrap < FEWEST_RESAMPLES:
        raise FitError(f"bootstrap: {bootstrap} is not allowed; allowed: at least {FEWEST_RESAMPLES} resamples")
    laws = [law_to_compare(law, table) for law in rivals]
    if laws[0].target.name != laws[1].target.name:
        raise FitError(
            f"{names[0]} is of {laws[0].target.name}, {names[1]} of {laws[1].target.name}; allowed: laws of one target"
        )
    log = all(law.objective.endswith("log") for law in laws)

    def fitted(law: Law, points: pl.DataFrame, resamples: int) -> FitResult:
        objective = "lsq_log" if log else "lsq"
        return law.fit(points, FitOptions(x=_x_of(law, x), objective=objective, bootstrap=resamples, seed=seed))

    fits = [fitted(law, table, bootstrap) for law in laws]
    scores = [aicc(2 * fit.objective["value"], fit.n, len(law.names)) for law, fit in zip(laws, fits, strict=True)]
    parted = default_split(table, max(len(law.names) for law in laws), x)
    difference: Measure | None = None
    errors: tuple[float | None, float | None] = (None, None)
    if parted is not None:
        cheap, expensive = (table.filter(pl.Series(rows)) for rows in (~parted.held, parted.held))
        before = [fitted(law, cheap, 0) for law in laws]
        difference, errors = _held_out(laws, before, cheap, expensive, x, log, bootstrap, seed)
    one_variable = all(tuple(column.name for column in law.columns) == ("x",) and law.read is None for law in laws)
    curves, crossings, apart = _curves(laws, fits, table, x) if one_variable else (None, (), ())
    verdict, better, sentence = _conclude(names, scores, difference, errors)
    scored = [
        Rival(law.name, fit.values, score - min(scores) if math.isfinite(score) else None, error)
        for law, fit, score, error in zip(laws, fits, scores, errors, strict=True)
    ]
    return LawsComparison(
        laws=(scored[0], scored[1]),
        target=laws[0].target.name,
        x=x,
        n=len(table),
        held_out=0 if parted is None else int(parted.held.sum()),
        difference=difference,
        crossings=crossings,
        apart=apart,
        apart_share=float(_disjoint(*(fit.predict(table) for fit in fits)).mean()),
        curves=curves,
        verdict=verdict,
        better=better,
        sentence=sentence,
        warnings=tuple(f"{law.name}: {text}" for law, fit in zip(laws, fits, strict=True) for text in fit.warnings),
        bootstrap={"n": bootstrap, "seed": seed},
    )


def _x_of(law: Law, x: str | None) -> str | None:
    return x if "x" in (column.name for column in law.columns) else None


def _held_out(
    laws: Sequence[Law],
    before: Sequence[FitResult],
    cheap: pl.DataFrame,
    expensive: pl.DataFrame,
    x: str | None,
    log: bool,
    count: int,
    seed: int,
) -> tuple[Measure, tuple[float, float]]:
    """The difference of the two laws' errors at the expensive points, and the errors.

    Args:
        before: fits of the laws to the cheap points.
    """
    weights_F = draw_rows(len(cheap), count, seed)
    weights_H = np.concatenate([np.ones((1, len(expensive))), draw_rows(len(expensive), count, seed + 1)])
    means = []
    for law, fit in zip(laws, before, strict=True):
        target_F, target_H = (read_column(part, law.target) for part in (cheap, expensive))
        variables = read_variables(law, cheap, _x_of(law, x))
        draws = refit(law, variables, target_F, weights_F, fit.values, log=log)
        constants = {name: np.concatenate([[[fit.values[name]]], draws[name]]) for name in law.names}
        predicted = law.function(read_variables(law, expensive, _x_of(law, x)), **constants)
        tiny = np.finfo(float).tiny
        error = np.log(np.maximum(predicted, tiny) / target_H) if log else predicted - target_H
        means.append((weights_H * np.abs(error)).sum(1) / weights_H.sum(1))
    difference = means[0] - means[1]
    return measure(difference[0], difference[1:]), (float(means[0][0]), float(means[1][0]))


def _disjoint(first: dict[str, Array], second: dict[str, Array]) -> Any:
    """Where two 95 % bands do not overlap."""
    return (first["lo95"] > second["hi95"]) | (second["lo95"] > first["hi95"])


def _curves(laws: Sequence[Law], fits: Sequence[FitResult], table: pl.DataFrame, x: str | None) -> Any:
    values = read_column(table, str(x))
    log_x = grid(values.min(), values.max())
    places = {str(x): 10**log_x}
    lines = [fit.predict(places) for fit in fits]
    difference = lines[0]["predicted"] - lines[1]["predicted"]
    thin = thinned(log_x)
    thinned_lines = {
        law.name: {
            name: line[key][thin].tolist() for name, key in (("loss", "predicted"), ("low", "lo95"), ("high", "hi95"))
        }
        for law, line in zip(laws, lines, strict=True)
    }
    curves = Lines(95, places[str(x)][thin].tolist(), thinned_lines)
    crossings = tuple(float(10**root) for root in roots(difference, log_x))
    return curves, crossings, tuple(stretches(_disjoint(*lines), log_x))


def _conclude(
    names: Sequence[str], scores: Sequence[float], difference: Measure | None, errors: Any
) -> tuple[Preference, str | None, str]:
    gap = scores[1] - scores[0] if all(map(math.isfinite, scores)) else 0.0  # positive: the first is better
    favoured = names[0] if gap > 0 else names[1]
    words = f"AICc {abs(gap):.1f} in favour of {favoured}" if abs(gap) > CONTRADICTS else f"AICc {abs(gap):.1f} apart"
    if difference is None:
        if abs(gap) >= DECISIVE:
            return "better", favoured, f"{favoured} fits better ({words}); nothing could be held out"
        return "cannot tell", None, f"the data cannot tell: {words}, and nothing could be held out"
    low, high = difference.ci90
    if max(errors) < ROUNDING:
        return "cannot tell", None, f"the data cannot tell: both laws are exact to rounding; {words}"
    ahead = names[0] if difference.value < 0 else names[1]
    errors = (
        f"held-out error {errors[0]:.2g} against {errors[1]:.2g}, "
        f"90% interval of the difference {low:.2g} to {high:.2g}"
    )
    if low <= 0 <= high:
        return "cannot tell", None, f"the data cannot tell: {errors}; {words}"
    if abs(gap) > CONTRADICTS and favoured != ahead:
        return "cannot tell", None, f"the data cannot tell: {ahead} predicts better ({errors}), but {words}"
    return "better", ahead, f"{ahead} predicts the most expensive fifth better ({errors}; {words})"

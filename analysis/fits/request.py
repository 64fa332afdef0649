"""One fit as a person asks for it: look for defects, hold out, fit, and score what was held out.

request = FitRequest(law=find_law("chinchilla"), delta=0.02, holdout="largest")
fitted = fit_as_asked(request, points)
fitted.result.holdout["mean_abs"]          how far off the most expensive point was predicted
fitted.held                                the points that were held out
by_group(points, "optim.name")             {"adamw": rows, "muon": rows}: one request for each
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from analysis.fits import holdout
from analysis.fitter.law import FitResult, Fittable
from analysis.fitter.options import FitOptions
from analysis.tables.columns import Array, FitError, read_column, read_labels
from analysis.tables.curves import Curves
from analysis.tables.lint import FINDINGS, Rows, lint, rows_of
from conf.command_line import option

SECOND_BOOTSTRAP = 200  # of the fit without the most expensive fifth: enough for the coverage of its predictions


@dataclass(frozen=True, kw_only=True)
class FitRequest(FitOptions):
    """How a law is fitted, which points are held out, and which are left out.

    Attributes:
        holdout: a rule of `analysis.fits.holdout.split`, or `none`. When None all points are fitted, and a second fit
            says how well the cheaper ones predict the most expensive fifth.
        exclude: findings of the linter whose rows are left out, or `all`.
    """

    law: Fittable
    holdout: str | None = option(
        None,
        "fit without the most expensive point (largest), a most expensive share (0.3) or rows (a condition), and "
        "predict them; by default all points are fitted, and a second fit without the most expensive fifth says how "
        "well it predicts that; none: no second fit",
        metavar="RULE",
    )
    exclude: tuple[str, ...] = option(
        (), "leave out the rows of these findings", choices=(*FINDINGS, "all"), several="in a row"
    )


@dataclass(frozen=True)
class Fitted:
    """A fit, the points that it saw, those of them that a finding is about (N,), and those held out."""

    result: FitResult
    points: Any
    flagged: Rows
    held: Any | None


def fit_as_asked(request: FitRequest, points: Any) -> Fitted:
    """`fit_as_asked(request, points).result`: lint, hold out, fit and score.

    Args:
        points: a polars frame, or `Curves`.

    Raises:
        FitError: see `Fittable.fit` and `analysis.fits.holdout.split`.
    """
    curves = request.law.of_curves
    frame: pl.DataFrame = points.points if isinstance(points, Curves) else points
    findings = lint(frame, curves=curves)
    left_out = tuple(FINDINGS) if "all" in request.exclude else request.exclude
    excluded = rows_of([finding for finding in findings if finding.name in left_out], len(frame))
    if excluded.all():
        raise FitError(f"--exclude {' '.join(request.exclude)}: leaves no row")
    flagged = rows_of(findings, len(frame))[~excluded]
    frame = frame.filter(~excluded)
    points = _rows(points, ~excluded)
    if curves and not isinstance(points, Curves):  # of a curve that is parted each part needs the rates of all
        points = Curves(points, points)

    one_formula = request.law.shown.single is not None
    held, scored = np.zeros(len(frame), dtype=bool), None
    if request.holdout not in (None, holdout.NONE):
        rule = str(request.holdout)
        if not one_formula:
            raise FitError(f"--holdout {rule}: {request.law.name} predicts no single points; allowed: none")
        held = holdout.split(frame, rule, request.x, curves=curves).held
    result = request.law.fit(_rows(points, ~held), request)
    if held.any():
        scored = _score(result, _rows(points, held), str(request.holdout))
    elif request.holdout is None and one_formula:
        n_free = len(result.params) - len(result.fixed)
        parted = holdout.default_split(frame, n_free, request.x, curves=curves)
        if parted is not None:
            scored = _second(request, _rows(points, ~parted.held), _rows(points, parted.held), parted.rule)
    said = tuple(finding.to_json() | {"excluded": finding.name in left_out} for finding in findings)
    result = dataclasses.replace(result, findings=said, holdout=scored)
    return Fitted(result, _rows(points, ~held), flagged[~held], _rows(points, held) if held.any() else None)


def _second(request: FitRequest, fitted: Any, held: Any, rule: str) -> dict[str, Any] | None:
    """What a fit without the most expensive points says of them; None where it cannot be made."""
    quick = dataclasses.replace(request, bootstrap=min(request.bootstrap, SECOND_BOOTSTRAP), profiles=())
    try:
        return _score(request.law.fit(fitted, quick), held, rule)
    except FitError:  # the cheap points alone may span too little
        return None


def _score(result: FitResult, held: Any, rule: str) -> dict[str, Any]:
    return holdout.score(result, held, read_column(held, result.law.target), rule)


# --- many settings at once -------------------------------------------------------------------------------


def by_group(points: Any, column: str) -> dict[str | None, Any]:
    """`by_group(points, "optim.name")["adamw"]`: the table's rows for each value of a column, in sorted order;
    raises `FitError` for no such column."""
    labels = read_labels(points, column)
    return {str(name): _rows(points, labels == name) for name in np.unique(labels)}


def predict_groups(fits: tuple[str | None, Mapping[str | None, FitResult]], points: Any) -> dict[str, Array]:
    """`predict_groups(read_fits(path), points)["predicted"]`: predictions for every row, each by the fit of its
    group; raises `FitError` for a group without a fit."""
    column, results = fits
    if column is None:
        return results[None].predict(points)
    answer: dict[str, Array] = {}
    for name, part in by_group(points, column).items():
        if name not in results:
            raise FitError(f"{column}: {name} has no fit; there are: {', '.join(map(str, results))}")
        rows = read_labels(points, column) == name
        for key, values in results[name].predict(part).items():
            answer.setdefault(key, np.full(len(rows), np.nan))[rows] = values
    return answer


def _rows(points: Any, rows: Rows) -> Any:
    """Some rows of a frame or of `Curves`."""
    return Curves(points.points.filter(rows), points.schedules) if isinstance(points, Curves) else points.filter(rows)

"""One fit as it is ordered on the command line: look for defects, hold out, fit, and score what was held out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.fits import holdout
from analysis.fitter.fit import fit
from analysis.fitter.law import Family, Law, Procedure
from analysis.fitter.predict import predict
from analysis.fitter.result import FitResult, read_fit
from analysis.tables.columns import Array, FitError, read_column, read_labels
from analysis.tables.curves import Curves
from analysis.tables.lint import FINDINGS, Rows, lint, rows_of

SECOND_BOOTSTRAP = 200  # of the fit without the dearest fifth: enough for the coverage of its predictions


@dataclass(frozen=True, kw_only=True)
class Order:
    """What `analysis.fitter.fit.fit` is asked for, a rule of `analysis.fits.holdout`, and findings to leave out."""

    law: Law | Family | Procedure
    x: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    objective: str | None = None
    delta: float = 1e-3
    bootstrap: int = 1000
    seed: int = 0
    cluster: str | None = None
    se: str | None = None
    profiles: tuple[str, ...] = ()
    holdout: str | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """A fit, the points that it saw, those of them that a finding is about (N,), and those held out."""

    result: FitResult
    fitted: Any
    flagged: Rows
    held: Any | None


def needs_curves(law: Law | Family | Procedure) -> bool:
    """Whether its points are those of training curves."""
    if isinstance(law, Procedure):
        return law.labels == "curve"
    member = law.build(law.example) if isinstance(law, Family) else law
    return member.cluster == "curve"


def carry_out(order: Order, points: Any) -> Done:
    """Lint, hold out, fit and score.

    Raises:
        FitError: see `analysis.fitter.fit.fit` and `analysis.fits.holdout.split`.
    """
    curves = needs_curves(order.law)
    frame: pl.DataFrame = points.points if isinstance(points, Curves) else points
    findings = lint(frame, curves=curves)
    left_out = tuple(FINDINGS) if "all" in order.exclude else order.exclude
    gone = rows_of([one for one in findings if one.name in left_out], len(frame))
    if gone.all():
        raise FitError(f"--exclude {' '.join(order.exclude)}: leaves no row")
    flagged = rows_of(findings, len(frame))[~gone]
    frame = frame.filter(~gone)
    points = _rows(points, ~gone)
    if curves and not isinstance(points, Curves):  # of a curve that is parted each part needs the rates of all
        points = Curves(points, points)

    held, scored = np.zeros(len(frame), dtype=bool), None
    if order.holdout not in (None, holdout.NONE):
        rule = str(order.holdout)
        if isinstance(order.law, Procedure):
            raise FitError(f"--holdout {rule}: {order.law.name} predicts no single points; allowed: none")
        held = holdout.split(frame, rule, order.x, curves=curves).held
    result = _fit(order, _rows(points, ~held))
    if held.any():
        scored = _score(result, _rows(points, held), str(order.holdout))
    elif order.holdout is None and not isinstance(order.law, Procedure):
        n_free = len(result.params) - len(result.fixed)
        parted = holdout.default_split(frame, n_free, order.x, curves=curves)
        if parted is not None:
            scored = _second(order, _rows(points, ~parted.held), _rows(points, parted.held), parted.rule)
    said = tuple(finding.to_json() | {"excluded": finding.name in left_out} for finding in findings)
    result = dataclasses.replace(result, findings=said, holdout=scored)
    return Done(result, _rows(points, ~held), flagged[~held], _rows(points, held) if held.any() else None)


def _second(order: Order, fitted: Any, held: Any, rule: str) -> dict[str, Any] | None:
    """What a fit without the dearest points says of them; None where it cannot be made."""
    quick = dataclasses.replace(order, bootstrap=min(order.bootstrap, SECOND_BOOTSTRAP), profiles=())
    try:
        return _score(_fit(quick, fitted), held, rule)
    except FitError:  # the cheap points alone may span too little
        return None


def _score(result: FitResult, held: Any, rule: str) -> dict[str, Any]:
    return holdout.score(result, held, read_column(held, result.found.target), rule)


def _fit(order: Order, points: Any) -> FitResult:
    return fit(
        order.law,
        points,
        x=order.x,
        options=order.options or None,
        fixed=order.fixed or None,
        objective=order.objective,
        delta=order.delta,
        bootstrap=order.bootstrap,
        seed=order.seed,
        cluster=order.cluster,
        se=order.se,
        profiles=order.profiles,
    )


# --- many settings at once -------------------------------------------------------------------------------


def by_group(points: Any, column: str) -> dict[str | None, Any]:
    """The table's rows for each value of a column, in sorted order; raises `FitError` for no such column."""
    labels = read_labels(points, column)
    return {str(name): _rows(points, labels == name) for name in np.unique(labels)}


def read_fits(path: Path) -> tuple[str | None, dict[str | None, FitResult]]:
    """What `fit --out` wrote: one fit, or the column of `--group` and a fit for each of its values; raises
    `FitError`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None  # `read_fit` says what is wrong
    if not (isinstance(found, dict) and isinstance(found.get("fits"), dict)):
        return None, {None: read_fit(path)}
    if not isinstance(found.get("group"), str):
        raise FitError(f"{path}: not fits of groups (no group)")
    try:
        return found["group"], {name: FitResult.from_json(one) for name, one in found["fits"].items()}
    except FitError as error:
        raise FitError(f"{path}: {error}") from None


def predict_groups(fits: tuple[str | None, Mapping[str | None, FitResult]], points: Any) -> dict[str, Array]:
    """Predictions for every row, each by the fit of its group; raises `FitError` for a group without a fit."""
    column, results = fits
    if column is None:
        return predict(results[None], points)
    answer: dict[str, Array] = {}
    for name, part in by_group(points, column).items():
        if name not in results:
            raise FitError(f"{column}: {name} has no fit; there are: {', '.join(map(str, results))}")
        rows = read_labels(points, column) == name
        for key, values in predict(results[name], part).items():
            answer.setdefault(key, np.full(len(rows), np.nan))[rows] = values
    return answer


def _rows(points: Any, rows: Rows) -> Any:
    """Some rows of a frame or of `Curves`."""
    return Curves(points.points.filter(rows), points.schedules) if isinstance(points, Curves) else points.filter(rows)

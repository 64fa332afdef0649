"""Estimates that are no single minimisation: procedures of several steps, and predictors that are learnt as a whole."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from analysis.fitter.identify import Identifiability, about_points
from analysis.fitter.law import Law, Learner, Procedure
from analysis.fitter.points import digest_of, explained, ranges_of, read_points
from analysis.fitter.resample import codes, draw_clusters, draw_rows, draw_within
from analysis.fitter.result import FitResult, estimate
from analysis.fitter.solve import TOLERANCE
from analysis.tables.columns import FitError, read_column, read_labels, table_names

LINE = 2  # constants of each line that a last step draws through its points


def go_through(
    law: Procedure, table: Any, options: dict[str, Any], bootstrap: int, seed: int, began: float
) -> FitResult:
    options = {option.name: options.get(option.name, option.default) for option in law.options}
    there = [column for column in law.optional if column.name in table_names(table)]
    columns: dict[str, Any] = {column.name: read_column(table, column) for column in (*law.columns, *there)}
    target = read_column(table, law.target)
    if len(target) < 2:
        raise FitError(f"{law.name}: {len(target)} point cannot determine {len(law.names)} quantities")
    if law.labels is not None:
        columns[law.labels] = codes(read_labels(table, law.labels))
    order = np.lexsort((target, *columns.values()))
    columns, target = {name: values[order] for name, values in columns.items()}, target[order]
    if law.groups is not None:
        columns["group"] = law.groups(columns)
    group = columns.get("group", columns.get(law.labels or "group"))
    if law.resample == "rows" or group is None:
        weights, unit = draw_rows(len(target), bootstrap, seed), "rows"
    elif law.resample == "groups":
        weights, unit = draw_clusters(group, bootstrap, seed), "groups"
    else:
        weights, unit = draw_within(group, bootstrap, seed), "rows within each group"
    steps = law.estimate(columns, target, np.concatenate([np.ones((1, len(target))), weights]), options)
    draws = {name: steps.params[name][1:] for name in law.names}
    whole = np.isfinite(np.array(list(draws.values()))).all(0)
    warnings = [*steps.warnings, *about_points(len(steps.residuals), LINE)]
    if bootstrap and whole.mean() < 0.99:
        warnings.append(f"{1 - whole.mean():.0%} of the resamples left nothing to estimate, and have no say")
    residuals = np.asarray(steps.residuals, dtype=float)
    return FitResult(
        law=law.name,
        options=options,
        columns={column.name: column.name for column in law.columns},
        ranges=ranges_of({column.name: columns[column.name] for column in law.columns}),
        objective={"name": "steps", "delta": None, "value": float((residuals**2).sum() / 2)},
        n=len(target),
        params={name: estimate(float(steps.params[name][0]), draws[name]) for name in law.names},
        derived={name: estimate(value, ()) for name, value in steps.derived.items()},
        fixed={},
        r2=None,
        seconds=time.perf_counter() - began,
        starts={"n": 1, "best": 1},
        convergence={"gradient": 0.0, "tolerance": TOLERANCE, "reached": True, "iterations": 0},
        identifiability=Identifiability.of_steps(),
        standard_errors={},
        profiles={},
        warnings=tuple(warnings),
        data_sha256=digest_of(columns, target),
        residuals=tuple(residuals.tolist()),
        bootstrap={
            "n": bootstrap,
            "seed": seed,
            "unit": unit,
            "converged": float(whole.mean()) if bootstrap else 1.0,
            "params": {name: [v if np.isfinite(v) else None for v in draws[name].tolist()] for name in law.names},
        },
        points={name: np.asarray(values, dtype=float).tolist() for name, values in steps.points.items()},
    )


def learn(learner: Learner, law: Law, table: Any, began: float) -> FitResult:
    """A predictor that is learnt as a whole: no constants, and no bootstrap, which would learn it anew each time."""
    points = read_points(law, table, None, None, None, log=False)
    law = learner.build(learner.train(points.variables, points.target, law.options))
    residuals = np.asarray(law.function(points.variables)) - points.target
    found = law.derived({}) if law.derived is not None else {}
    return FitResult(
        law=law.name,
        options=dict(law.options),
        columns=points.sources,
        ranges=ranges_of(points.variables),
        objective={"name": law.objective, "delta": None, "value": float((residuals**2).sum() / 2)},
        n=len(points.target),
        params={},
        derived={name: estimate(float(value[0]), ()) for name, value in found.items()},
        fixed={},
        r2=explained(points.target, residuals),
        seconds=time.perf_counter() - began,
        starts={"n": 1, "best": 1},
        convergence={"gradient": 0.0, "tolerance": TOLERANCE, "reached": True, "iterations": 0},
        identifiability=Identifiability.of_steps(),
        standard_errors={},
        profiles={},
        warnings=("learnt as a whole: no constants and no intervals",),
        data_sha256=digest_of(points.variables, points.target),
        residuals=tuple(residuals.tolist()),
        bootstrap={"n": 0, "seed": 0, "unit": "rows", "converged": 1.0, "params": {}},
    )

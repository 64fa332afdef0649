"""What the data cannot tell about a law: condition number, parameters that trade off, and warnings in words.

identifiability, warnings = identify(problem, theta, draws_RP, sources={"n_params": "n_params"})
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitter.solve import Problem
from analysis.fitter.uncertainty import to_params
from analysis.tables.columns import Array

# Well-posed scaling data have condition numbers of 20 to 40; a ladder at D = 20 N within 10 % has 270, an exact
# one 1e7 (column-scaled, centred Jacobian of ln loss).
ILL_CONDITIONED, SINGULAR = 200.0, 1e4
TRADE_OFF = 0.995
COLLINEAR = 0.95
DECADES = 1.5
FEWEST_VALUES = 4
SURE_FLOOR = 0.02  # standard deviation of ln E
POINTS_PER_PARAMETER = 3


@dataclass(frozen=True)
class Identifiability:
    """How well the data separate the parameters.

    Attributes:
        condition_number: of the Jacobian of the residuals at the optimum, by centred parameters (logarithms of
            coefficients), each column scaled to length one; None for a procedure, which has no one Jacobian.
        pairs: `(a, b, correlation)` of centred parameters that trade off in the bootstrap.
    """

    condition_number: float | None
    pairs: tuple[tuple[str, str, float], ...]

    @classmethod
    def of_steps(cls) -> Identifiability:
        """Of a procedure, which has no one Jacobian."""
        return cls(None, ())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Identifiability:
        return cls(values["condition_number"], tuple((a, b, value) for a, b, value in values["pairs"]))


def identify(
    problem: Problem, theta: Array, draws_RP: Array, sources: Mapping[str, str]
) -> tuple[Identifiability, list[str]]:
    """`identify(problem, theta, draws_RP, sources)[1]`: an optimum and its data judged, and what to warn of.

    Args:
        theta: the optimum (P,).
        draws_RP: optima of bootstrap resamples; without any, correlations come from the Jacobian.
        sources: the law's columns -> the table's.
    """
    free = list(problem.free)
    names = [problem.law.names[k] for k in free]
    J = problem.jacobian(theta[None])[0][free].T
    J = J / np.maximum(np.linalg.norm(J, axis=0), np.finfo(float).tiny)
    singular = np.linalg.svd(J, compute_uv=False)
    smallest = 1e-12  # of the largest; a Jacobian of zeros is as bad
    condition = float(singular[0] / max(singular[-1], smallest * singular[0])) if singular[0] > 0 else 1 / smallest

    covariance = np.atleast_2d(np.cov(draws_RP[:, free].T) if len(draws_RP) else np.linalg.pinv(J.T @ J))
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    correlation = covariance / np.outer(spread, spread)
    pairs = tuple(
        (names[a], names[b], float(correlation[a, b]))
        for a, b in itertools.combinations(range(len(names)), 2)
        if abs(correlation[a, b]) > TRADE_OFF
    )
    identifiability = Identifiability(condition, pairs)
    wide = _about_intervals(problem, theta, draws_RP)
    data = [*about_points(len(problem.target), len(free)), *_about_columns(problem, sources)]
    return identifiability, [*data, *_about_optimum(problem, theta, identifiability, draws_RP), *wide]


def _about_intervals(problem: Problem, theta: Array, draws_RP: Array) -> list[str]:
    """Exponents and the like whose interval is wider than they are large."""
    warnings = []
    for k in problem.free if len(draws_RP) else ():
        p = problem.law.parameters[k]
        if p.linear or p.lower < 0:
            continue
        value = _plain(problem, k, theta[None])[0]
        low, high = np.quantile(_plain(problem, k, draws_RP), [0.025, 0.975])
        if high - low > abs(value):
            warnings.append(
                f"{p.name} = {value:.3g} has a 95% interval of {low:.3g} to {high:.3g}, wider than itself; these data "
                "do not determine it"
            )
    return warnings


def about_points(n: int, n_parameters: int) -> list[str]:
    """A warning where there are fewer than three points for each parameter."""
    if n >= POINTS_PER_PARAMETER * n_parameters:
        return []
    return [f"{n} points for {n_parameters} parameters; fewer than {POINTS_PER_PARAMETER} per parameter"]


def _about_columns(problem: Problem, sources: Mapping[str, str]) -> list[str]:
    """Of the columns that the law raises to a power."""
    warnings = []
    raised = {name for p in problem.law.parameters for name, power in p.carries if isinstance(power, str)}
    plain = {column.name for column in problem.law.columns}  # a transformed column has another range
    columns = {
        name: problem.variables[name]
        for name in problem.law.centred
        if name in raised & plain and (problem.variables[name] > 0).all()
    }
    for name, values in columns.items():
        source = sources.get(name, name)
        decades = float(np.log10(values.max() / values.min()))
        if decades < DECADES:
            warnings.append(f"{source} spans {decades:.2g} decades; below {DECADES} its exponent is unsure")
        distinct = len(np.unique(values))
        if distinct < FEWEST_VALUES:
            warnings.append(f"{source} takes {distinct} values; fewer than {FEWEST_VALUES} hide a bend")
    for a, b in itertools.combinations(columns, 2):
        together = float(np.corrcoef(np.log(columns[a]), np.log(columns[b]))[0, 1])
        if abs(together) > COLLINEAR:
            warnings.append(
                f"{sources.get(a, a)} and {sources.get(b, b)} move together (correlation of logs {together:.3f}), "
                "like a ladder at a fixed ratio; their terms cannot be told apart"
            )
    return warnings


def _about_optimum(problem: Problem, theta: Array, identifiability: Identifiability, draws_RP: Array) -> list[str]:
    warnings = []
    condition = identifiability.condition_number or 0.0
    if condition > SINGULAR:
        warnings.append(
            f"condition number {condition:.1e}: the constants are not determined by these data; "
            "use predictions inside the fitted range only"
        )
    elif condition > ILL_CONDITIONED:
        warnings.append(f"condition number {condition:.0f}: the constants are poorly determined")
    for a, b, value in identifiability.pairs:
        warnings.append(f"{a} and {b} trade off (correlation {value:.4f}); read them together only")
    lower, upper = problem.bounds()
    for k in problem.free:
        p = problem.law.parameters[k]
        margin = 0.01 * (upper[k] - lower[k]) if p.log else 1e-6 * max(1.0, abs(theta[k]))
        if theta[k] - lower[k] < margin or upper[k] - theta[k] < margin:
            warnings.append(f"{p.name} lies at its bound")
        elif p.typical and not p.typical[0] <= (value := float(_plain(problem, k, theta[None])[0])) <= p.typical[1]:
            low, high = p.typical
            warnings.append(f"{p.name} = {value:.3g} lies outside of {low:g} to {high:g}, where such values lie")
        elif p.floor and (len(draws_RP) == 0 or draws_RP[:, k].std() > SURE_FLOOR):
            share = float(np.exp(theta[k]) / problem.target.min())
            if not 0.2 <= share <= 0.98:  # and yet data that lie on the floor know it well
                warnings.append(f"{p.name} is {share:.0%} of the lowest measured loss; the floor is unsure")
    return warnings


def _plain(problem: Problem, k: int, theta_SP: Array) -> Array:
    """A parameter in the units of the table (S,)."""
    values: Array = to_params(problem.law, theta_SP, problem.centre)[problem.law.names[k]][:, 0]
    return values

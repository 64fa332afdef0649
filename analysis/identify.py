"""What the data cannot tell about a law: condition number, parameters that trade off, and warnings in words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.laws import Array
from analysis.solve import Problem

# Well-posed scaling data have condition numbers of 20 to 40; a ladder at D = 20 N within 10 % has 270, an exact
# one 1e7 (column-scaled, centred Jacobian of ln loss).
ILL_CONDITIONED, SINGULAR = 200.0, 1e4
TRADE_OFF = 0.995
COLLINEAR = 0.95
DECADES = 1.5
FEWEST_VALUES = 4
POINTS_PER_PARAMETER = 3


@dataclass(frozen=True)
class Identifiability:
    """How well the data separate the parameters.

    Attributes:
        condition_number: of the Jacobian of the residuals at the optimum, by centred parameters (logarithms of
            coefficients), each column scaled to length one.
        pairs: `(a, b, correlation)` of centred parameters that trade off in the bootstrap.
    """

    condition_number: float
    pairs: tuple[tuple[str, str, float], ...]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Identifiability:
        return cls(found["condition_number"], tuple((a, b, value) for a, b, value in found["pairs"]))


def identify(
    problem: Problem, theta: Array, draws_RP: Array, columns: Mapping[str, Array], sources: Mapping[str, str]
) -> tuple[Identifiability, list[str]]:
    """Judge an optimum and its data.

    Args:
        theta: the optimum (P,).
        draws_RP: optima of bootstrap resamples; without any, correlations come from the Jacobian.
        columns: the law's columns in the units of the table, each (N,).
        sources: the law's columns -> the table's.
    """
    names = problem.law.names
    J = problem.jacobian(theta[None])[0].T
    J = J / np.maximum(np.linalg.norm(J, axis=0), np.finfo(float).tiny)
    singular = np.linalg.svd(J, compute_uv=False)
    condition = float(singular[0] / max(singular[-1], 1e-12 * singular[0]))

    covariance = np.cov(draws_RP.T) if len(draws_RP) else np.linalg.pinv(J.T @ J)
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    correlation = covariance / np.outer(spread, spread)
    pairs = tuple(
        (names[a], names[b], float(correlation[a, b]))
        for a, b in itertools.combinations(range(len(names)), 2)
        if abs(correlation[a, b]) > TRADE_OFF
    )
    found = Identifiability(condition, pairs)
    return found, [*_about_data(len(theta), columns, sources), *_about_optimum(problem, theta, found)]


def _about_data(n_parameters: int, columns: Mapping[str, Array], sources: Mapping[str, str]) -> list[str]:
    warnings = []
    n = len(next(iter(columns.values())))
    if n < POINTS_PER_PARAMETER * n_parameters:
        warnings.append(f"{n} points for {n_parameters} parameters; fewer than {POINTS_PER_PARAMETER} per parameter")
    for name, values in columns.items():
        decades = float(np.log10(values.max() / values.min()))
        if decades < DECADES:
            warnings.append(f"{sources[name]} spans {decades:.2g} decades; below {DECADES} its exponent is unsure")
        distinct = len(np.unique(values))
        if distinct < FEWEST_VALUES:
            warnings.append(f"{sources[name]} takes {distinct} values; fewer than {FEWEST_VALUES} hide a bend")
    for a, b in itertools.combinations(columns, 2):
        together = float(np.corrcoef(np.log(columns[a]), np.log(columns[b]))[0, 1])
        if abs(together) > COLLINEAR:
            warnings.append(
                f"{sources[a]} and {sources[b]} move together (correlation of logs {together:.3f}), like a ladder "
                "at a fixed ratio; their terms cannot be told apart"
            )
    return warnings


def _about_optimum(problem: Problem, theta: Array, found: Identifiability) -> list[str]:
    warnings = []
    if found.condition_number > SINGULAR:
        warnings.append(
            f"condition number {found.condition_number:.1e}: the constants are not determined by these data; "
            "use predictions inside the fitted range only"
        )
    elif found.condition_number > ILL_CONDITIONED:
        warnings.append(f"condition number {found.condition_number:.0f}: the constants are poorly determined")
    for a, b, value in found.pairs:
        warnings.append(f"{a} and {b} trade off (correlation {value:.4f}); read them together only")
    lower, upper = problem.bounds()
    for k, p in enumerate(problem.law.parameters):
        margin = 0.01 * (upper[k] - lower[k]) if p.log else 1e-6
        if theta[k] - lower[k] < margin or upper[k] - theta[k] < margin:
            warnings.append(f"{p.name} lies at its bound")
        elif p.typical and not p.typical[0] <= theta[k] <= p.typical[1]:
            low, high = p.typical
            warnings.append(f"{p.name} = {theta[k]:.3g} lies outside of {low:g} to {high:g}, where such exponents lie")
        elif p.floor and not 0.2 <= (share := float(np.exp(theta[k]) / problem.target.min())) <= 0.98:
            warnings.append(f"{p.name} is {share:.0%} of the lowest measured loss; the floor is unsure")
    return warnings

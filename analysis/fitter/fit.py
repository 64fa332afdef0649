"""The steps of a fit of one formula: what is minimised, from where, and where it ends.

problem = problem_of(law, points, fixed={}, log=True)     the formula at its points, centred
delta = delta_of("huber_log", 1e-3, problem)              where the objective turns linear; inf for least squares
optimum = optimise(problem, points.weights, delta)        from every start of the grid at once

The objective is a sum over points, never a mean: an absolute tolerance on a mean stops early, the cause of the
published misfit of Chinchilla's approach 3 (Besiroglu et al. 2024, arXiv 2404.10102).

Shape letters: S starts, G points of the grid of starts, N data points, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitter.formula import Formula
from analysis.fitter.points import Points
from analysis.fitter.refit import typical
from analysis.fitter.solve import Problem, Solution, minimise, project, start_grid
from analysis.fitter.uncertainty import profile, to_theta
from analysis.tables.columns import Array, FitError

MOST_STARTS = 512  # of a larger grid the best ones by least squares are advanced


@dataclass(frozen=True)
class Optimum:
    """Where the best start ends: `theta` (P,), its largest gradient `slope`, and of all starts how many there were and
    how many ended as low."""

    theta: Array
    slope: float
    converged: bool
    iterations: int
    n_starts: int
    n_reached: int


def problem_of(
    law: Formula, points: Points, fixed: Mapping[str, float], log: bool, as_they_are: Sequence[str] = ()
) -> Problem:
    """`problem_of(law, points, {"E": 1.69}, log=True)`: the formula at its points, in centred units.

    Args:
        fixed: constants that are held, in the units of the table.
        log: residuals are ln predicted - ln measured.
        as_they_are: variables that are not divided by a typical value.
    """
    centre = _centre(law, points.variables, fixed)
    centre = {name: x0 for name, x0 in centre.items() if name not in as_they_are}
    held = {}
    if fixed:
        # A held constant that carries variables is held in their centred units.
        row = [[fixed.get(p.name, max(p.lower, 1.0) if p.log else 1.0) for p in law.parameters]]
        theta = to_theta(law, np.array(row), centre)[0]
        held = {
            p.name: math.exp(theta[k]) if p.log else float(theta[k])
            for k, p in enumerate(law.parameters)
            if p.name in fixed
        }
    variables = {name: values / centre.get(name, 1.0) for name, values in points.variables.items()}
    return Problem(law, variables, points.target, log, centre, held)


def delta_of(objective: str, delta: float, problem: Problem) -> float:
    """`delta_of("lsq", 1e-3, problem)` is inf: where the objective turns linear, `delta` being Huber's; least absolute
    deviations are Huber's loss with a delta too small to matter."""
    if objective.startswith("huber"):
        return delta
    return 1e-5 * problem.typical if objective == "lad" else math.inf


def optimise(problem: Problem, weights_N: Array, delta: float, starts: Array | None = None) -> Optimum:
    """`optimise(problem, weights_N, 1e-3)`: every start is advanced at once, first by least squares and then under the
    objective, and the best end is taken.

    Args:
        starts: as `FitOptions.starts`; the grid of the formula when None.
    """
    solution, count = _ends(problem, weights_N, delta, starts)
    # Among the best ends, which differ by rounding, the flattest.
    level = np.flatnonzero(solution.cost <= solution.cost.min() * (1 + 1e-12))
    best = int(level[np.argmin(solution.slope[level])])
    reached = solution.cost <= solution.cost[best] * (1 + 1e-6) + 1e-25
    return Optimum(
        theta=solution.theta[best],
        slope=float(solution.slope[best]),
        converged=bool(solution.converged[best]),
        iterations=int(solution.iterations[best]),
        n_starts=int(count.sum()),
        n_reached=int(count[reached].sum()),
    )


def _ends(problem: Problem, weights_N: Array, delta: float, starts: Array | None) -> tuple[Solution, Array]:
    """Where the starts end, and how many of them each end stands for."""
    if starts is None:
        theta_GP = start_grid(problem)
        count = np.ones(len(theta_GP), dtype=int)
    else:
        theta_GP, count = _given(problem, starts)
    theta_RGP, misfit_RG = project(problem, theta_GP, weights_N[None])
    ahead = np.argsort(misfit_RG[0], kind="stable")
    if starts is None:
        ahead = ahead[:MOST_STARTS]
    theta, count = theta_RGP[0][ahead], count[ahead]
    smooth = minimise(problem, theta, weights_N[None], math.inf, max_iterations=8)
    solution = minimise(problem, smooth.theta, weights_N[None], delta)
    best = int(np.argmin(solution.cost))
    if not solution.converged[best]:  # a long curved valley
        last = minimise(problem, solution.theta[best][None], weights_N[None], delta, max_iterations=3000)
        for name in ("theta", "cost", "slope", "iterations"):
            getattr(solution, name)[best] = getattr(last, name)[0]
    return solution, count


def _given(problem: Problem, starts: Array) -> tuple[Array, Any]:
    """Given starts as theta, and how many of them there are of each once coefficients are projected."""
    law = problem.law
    params = np.array(starts, dtype=float)
    if params.ndim != 2 or params.shape[1] != len(law.parameters):
        raise FitError(f"starts: of shape {params.shape}; allowed: (starts, {len(law.parameters)})")
    for k, p in enumerate(law.parameters):
        if p.log and not (params[:, k] > 0).all():
            raise FitError(f"starts: {p.name} must be positive")
    lower, upper = problem.bounds()
    theta = np.clip(to_theta(law, params, problem.centre), lower, upper)
    theta[:, [k for k, p in enumerate(law.parameters) if p.linear and k in problem.free]] = 0.0
    distinct, count = np.unique(theta, axis=0, return_counts=True)
    return distinct, count


def profile_of(
    problem: Problem, points: Points, values: Mapping[str, float], name: str, delta: float
) -> dict[str, Any]:
    """`profile_of(problem, points, values, "alpha", delta)`: the profile of one constant in the units of the table."""
    law = problem.law
    carried = [variable for variable, _ in law.parameters[law.names.index(name)].carries]
    problem = problem_of(law, points, {k: values[k] for k in problem.fixed}, problem.log, as_they_are=carried)
    theta = to_theta(law, np.array([[values[p] for p in law.names]]), problem.centre)
    optimum = minimise(problem, theta, points.weights[None], delta)
    return profile(problem, optimum, name, points.weights, delta, units=points.drawn)


def check_fixed(law: Formula, fixed: Mapping[str, float]) -> None:
    """Raise `FitError` for constants that cannot be held at these values."""
    for name, value in fixed.items():
        if name not in law.names:
            raise FitError(f"--fix {name}: {law.name} has no such constant; there are: {', '.join(law.names)}")
        p = law.parameters[law.names.index(name)]
        inside = value > 0 if p.log else p.lower <= value <= p.upper
        if not (math.isfinite(value) and inside):
            allowed = "positive numbers" if p.log else f"{p.lower:g} to {p.upper:g}"
            raise FitError(f"--fix {name}={value:g} is not allowed; allowed: {allowed}")
    if set(fixed) == set(law.names):
        raise FitError(f"--fix: holds every constant of {law.name}; allowed: leave at least one free")


def check_profiles(law: Formula, fixed: Mapping[str, float], profiles: Sequence[str]) -> None:
    """Raise `FitError` for a profile of what is not fitted."""
    free = [name for name in law.names if name not in fixed]
    for name in profiles:
        if name not in free:
            raise FitError(f"--profile-of {name}: not a constant that is fitted; allowed: {', '.join(free)}")


def _centre(law: Formula, variables: Mapping[str, Array], fixed: Mapping[str, float]) -> dict[str, float]:
    """A typical value of each variable to divide by. A held constant whose power is free speaks of the variable as
    it is, which then is not divided."""
    as_it_is = {
        name
        for p in law.parameters
        if p.name in fixed
        for name, power in p.carries
        if isinstance(power, str) and power.lstrip("-") not in fixed
    }
    centre = {}
    for name in law.centred:
        values = variables[name]
        if name not in as_it_is:
            centre[name] = typical(values)
    return centre

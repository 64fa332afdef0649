"""The one fitter: a law and a table in, a `FitResult` out.

The objective is a sum over points, never a mean: an absolute tolerance on a mean stops early, the cause of the
published misfit of Chinchilla's approach 3 (Besiroglu et al. 2024, arXiv 2404.10102).

Shape letters: S starts, G points of the grid of starts, N data points, P parameters, R resamples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.fitter.identify import identify
from analysis.fitter.law import Family, Law, Learner, Options, Procedure
from analysis.fitter.points import Points, check_points, digest_of, explained, make_law, ranges_of, read_points
from analysis.fitter.procedure import go_through, learn
from analysis.fitter.refit import refit_all, typical
from analysis.fitter.result import FitResult, estimate
from analysis.fitter.solve import TOLERANCE, Problem, Solution, minimise, project, start_grid
from analysis.fitter.uncertainty import objective_value, profile, standard_errors, to_params, to_theta
from analysis.laws.registry import LAWS
from analysis.tables.columns import Array, FitError

OBJECTIVES = {
    "huber_log": "Huber's loss of ln predicted - ln measured, linear beyond delta",
    "lsq_log": "half the squared difference of logarithms",
    "huber": "Huber's loss of the difference, linear beyond delta",
    "lsq": "half the squared difference",
    "lad": "the absolute difference",
}

FEWEST_RESAMPLES = 20  # fewer have neither intervals nor correlations
SMALLEST_DELTA = 1e-12  # below, residuals inside it are rounding
MOST_STARTS = 512  # of a larger grid the best ones by least squares are advanced


def fit(
    law: Law | Family | Procedure | str,
    table: Any,
    *,
    x: str | None = None,
    options: Options | None = None,
    fixed: Mapping[str, float] | None = None,
    objective: str | None = None,
    delta: float = 1e-3,
    bootstrap: int = 1000,
    seed: int = 0,
    starts: Array | None = None,
    cluster: str | None = None,
    se: str | None = None,
    profiles: Sequence[str] = (),
) -> FitResult:
    """Fit a law to the points of a table, or take a procedure through its steps.

    Every start is advanced at once, first by least squares and then under the objective, and the best end is taken.
    The bootstrap draws rows with replacement, or whole curves or blocks of them; each resample is fitted from the
    optimum and from its own two best points of the grid, since a warm start alone gives too narrow intervals.

    Args:
        table: a polars frame, or a mapping of arrays, with the law's columns and its target.
        x: the column that a law of one free variable reads.
        options: of a family or procedure.
        fixed: constants that are held, in the units of the table.
        objective: a key of `OBJECTIVES`; the law's own when None.
        delta: where Huber's loss turns linear, in units of ln target (`huber_log`) or of the target (`huber`). 1e-3
            is the published choice for Chinchilla and nearly least absolute deviations; one to three standard
            deviations of the noise is the more efficient choice.
        bootstrap: resamples; 0 for none.
        starts: values of the parameters to start from (S, P), in the units of the table, instead of the grid. Linear
            coefficients among them are replaced by their best values for the others, and starts that then are one
            are advanced once.
        cluster: a column whose values the bootstrap draws, instead of rows.
        se: a column of standard errors of the target, in its units. Residuals weigh as 1 / se², and logarithmic ones
            as (target / se)², since the standard error of ln target is se / target.
        profiles: constants whose profile is traced.

    Raises:
        FitError: the table lacks a column, or holds what the law cannot be fitted to.
    """
    began = time.perf_counter()
    found = make_law(law, table, options)
    _check_options(objective, delta, bootstrap, seed)
    refused = {
        "--x": x, "--fix": fixed or None, "--objective": objective, "--se": se, "--cluster": cluster,
        "--profile-of": profiles or None, "starts": starts,
    }  # fmt: skip
    if isinstance(found, Procedure):
        for name, given in refused.items():
            if given is not None:
                raise FitError(f"{found.name}: goes in steps, which take no {name}")
        return go_through(found, table, dict(options or {}), bootstrap, seed, began)

    learner = law if isinstance(law, Learner) else LAWS.get(found.name)
    if isinstance(learner, Learner):
        for name, given in refused.items():
            if given is not None:
                raise FitError(f"{found.name}: is learnt as a whole, which takes no {name}")
        return learn(learner, found, table, began)

    fixed = dict(fixed or {})
    objective = objective or found.objective
    _check_fixed(found, fixed)
    _check_profiles(found, fixed, profiles)
    points = read_points(found, table, x, cluster, se, objective.endswith("log"))
    check_points(found, points, fixed)
    problem = _problem(found, points, fixed, objective.endswith("log"))
    bend = _bend(objective, delta, problem)

    solution, count = _solve(problem, points.weights, bend, starts)
    # Among the best ends, which differ by rounding, the flattest.
    level = np.flatnonzero(solution.cost <= solution.cost.min() * (1 + 1e-12))
    best = int(level[np.argmin(solution.slope[level])])
    theta = solution.theta[best]
    reached = solution.cost <= solution.cost[best] * (1 + 1e-6) + 1e-25

    draws, settled = refit_all(problem, theta, points.draw(bootstrap, seed), bend)
    values = {name: float(v[0, 0]) for name, v in to_params(found, theta[None], problem.centre).items()}
    spread = {name: v[:, 0] for name, v in to_params(found, draws, problem.centre).items()}
    identifiability, warnings = identify(problem, theta, draws, points.sources)
    if not solution.converged[best]:
        warnings.insert(0, f"the optimum was not reached: gradient {solution.slope[best]:.1e} > {TOLERANCE:g}")
    if settled < 0.99:
        warnings.append(f"{1 - settled:.0%} of the bootstrap fits did not converge; the intervals are unsure")
    residuals = problem.residuals(theta[None])[0]
    kinds = {"sandwich": standard_errors(problem, theta, points.weights, bend, "sandwich", units=points.drawn)}
    if math.isinf(bend):
        kinds["classical"] = standard_errors(problem, theta, points.weights, bend, "classical")
    return FitResult(
        law=found.name,
        options=dict(found.options),
        columns=points.sources,
        ranges=ranges_of(points.variables),
        objective={
            "name": objective,
            "delta": delta if objective.startswith("huber") and math.isfinite(delta) else None,
            "value": objective_value(problem, theta, points.weights, bend, absolute=objective == "lad"),
        },
        n=len(points.target),
        params={name: estimate(values[name], () if name in fixed else spread[name]) for name in found.names},
        derived=_derived(found, values, spread),
        fixed=fixed,
        r2=explained(np.log(points.target) if problem.log else points.target, residuals),
        seconds=time.perf_counter() - began,
        starts={"n": int(count.sum()), "best": int(count[reached].sum())},
        convergence={
            "gradient": float(solution.slope[best]),
            "tolerance": TOLERANCE,
            "reached": bool(solution.converged[best]),
            "iterations": int(solution.iterations[best]),
        },
        identifiability=identifiability,
        standard_errors=kinds,
        profiles={name: _profile(problem, points, values, name, bend) for name in profiles},
        warnings=tuple(warnings),
        data_sha256=digest_of(points.variables, points.target),
        residuals=tuple(residuals.tolist()),
        bootstrap={
            "n": bootstrap,
            "seed": seed,
            "unit": points.unit,
            "converged": settled,
            "params": {name: spread[name].tolist() for name in found.names},
        },
    )


def _problem(
    law: Law, points: Points, fixed: Mapping[str, float], log: bool, as_they_are: Sequence[str] = ()
) -> Problem:
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


def _bend(objective: str, delta: float, problem: Problem) -> float:
    """Where Huber's loss turns linear; least absolute deviations are that with a bend too small to matter."""
    if objective.startswith("huber"):
        return delta
    return 1e-5 * problem.typical if objective == "lad" else math.inf


def _solve(problem: Problem, weights_N: Array, bend: float, starts: Array | None) -> tuple[Solution, Array]:
    """Where the starts end, and how many of them each end stands for."""
    if starts is None:
        theta_GP = start_grid(problem)
        count = np.ones(len(theta_GP), dtype=int)
    else:
        theta_GP, count = _given(problem, starts)
    found, misfit = project(problem, theta_GP, weights_N[None])
    ahead = np.argsort(misfit[0], kind="stable")
    if starts is None:
        ahead = ahead[:MOST_STARTS]
    theta, count = found[0][ahead], count[ahead]
    smooth = minimise(problem, theta, weights_N[None], math.inf, max_iterations=8)
    solution = minimise(problem, smooth.theta, weights_N[None], bend)
    best = int(np.argmin(solution.cost))
    if not solution.converged[best]:  # a long curved valley
        last = minimise(problem, solution.theta[best][None], weights_N[None], bend, max_iterations=3000)
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


def _profile(problem: Problem, points: Points, values: Mapping[str, float], name: str, bend: float) -> dict[str, Any]:
    """The profile of one constant in the units of the table."""
    law = problem.law
    carried = [variable for variable, _ in law.parameters[law.names.index(name)].carries]
    problem = _problem(law, points, {k: values[k] for k in problem.fixed}, problem.log, as_they_are=carried)
    theta = to_theta(law, np.array([[values[p] for p in law.names]]), problem.centre)
    optimum = minimise(problem, theta, points.weights[None], bend)
    return profile(problem, optimum, name, points.weights, bend, units=points.drawn)


def _derived(law: Law, values: Mapping[str, float], spread: Mapping[str, Array]) -> dict[str, Any]:
    if law.derived is None:
        return {}
    with np.errstate(all="ignore"):  # a threshold may not exist for some resamples
        point = law.derived({name: np.array([value]) for name, value in values.items()})
        draws = law.derived(spread)
    return {name: estimate(float(point[name][0]), draws[name]) for name in point}


# --- its parts -------------------------------------------------------------------------------------------


def _check_options(objective: str | None, delta: float, bootstrap: int, seed: int) -> None:
    if objective not in (None, *OBJECTIVES):
        raise FitError(f"objective: {objective!r} is not allowed; allowed: {', '.join(OBJECTIVES)}")
    if not delta >= SMALLEST_DELTA:
        raise FitError(f"delta: {delta!r} is not allowed; allowed: >= {SMALLEST_DELTA:g}")
    if bootstrap < 0 or 0 < bootstrap < FEWEST_RESAMPLES:
        raise FitError(f"bootstrap: {bootstrap} is not allowed; allowed: 0, or at least {FEWEST_RESAMPLES} resamples")
    if seed < 0:
        raise FitError(f"seed: {seed} is not allowed; allowed: >= 0")


def _check_fixed(law: Law, fixed: Mapping[str, float]) -> None:
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


def _check_profiles(law: Law, fixed: Mapping[str, float], profiles: Sequence[str]) -> None:
    free = [name for name in law.names if name not in fixed]
    for name in profiles:
        if name not in free:
            raise FitError(f"--profile-of {name}: not a constant that is fitted; allowed: {', '.join(free)}")


def _centre(law: Law, variables: Mapping[str, Array], fixed: Mapping[str, float]) -> dict[str, float]:
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

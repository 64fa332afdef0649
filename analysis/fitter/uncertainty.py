"""Intervals without resampling: classical and sandwich standard errors, and profiles of single parameters.

standard_errors(problem, theta, weights_N, delta, "sandwich")      {"E": 0.02, …}, in the units of the table
profile(problem, solution, "alpha", weights_N, delta)["ci95"]      where the deviance is below its 95 % quantile

Shape letters: N points, P parameters, Q free parameters, S values along a profile.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from analysis.claims import student
from analysis.fitter.formula import Formula
from analysis.fitter.resample import Codes
from analysis.fitter.solve import Problem, Solution, huber, minimise, project, start_grid
from analysis.tables.columns import Array

Kind = Literal["classical", "sandwich"]

PROFILE_STARTS = 128  # the part of the grid that a held value chooses its own starts from


def to_params(law: Formula, theta_SP: Any, centre: Any) -> dict[str, Any]:
    """Parameters in the units of the table, each (S, 1): one that carries a variable takes back x0 to its power."""
    raw = {p.name: theta_SP[:, k, None] for k, p in enumerate(law.parameters)}
    params = {}
    for p in law.parameters:
        shift = sum((math.log(centre.get(name, 1.0)) * _power(power, raw) for name, power in p.carries), 0.0)
        params[p.name] = np.exp(raw[p.name] + shift) if p.log else raw[p.name] * np.exp(shift)
    return params


def to_theta(law: Formula, params_SP: Array, centre: Any) -> Array:
    """The inverse of `to_params`, from an array (S, P) of values within the parameters' ranges."""
    theta = np.array(params_SP, dtype=float)
    raw = {p.name: theta[:, k].copy() for k, p in enumerate(law.parameters)}
    for k, p in enumerate(law.parameters):
        shift = sum((math.log(centre.get(name, 1.0)) * _power(power, raw) for name, power in p.carries), 0.0)
        theta[:, k] = np.log(theta[:, k]) - shift if p.log else theta[:, k] * np.exp(-np.asarray(shift))
    return theta


def _power(power: str | float, raw: dict[str, Any]) -> Any:
    if isinstance(power, str):
        return -raw[power[1:]] if power.startswith("-") else raw[power]
    return power


def covariance(
    problem: Problem, theta: Array, weights_N: Array, delta: float, kind: Kind, units: Codes | None = None
) -> Array | None:
    """Covariance of theta's free parameters (Q, Q); None where it cannot be told.

    `classical` is s² (J'WJ)^-1 with s² = r'Wr / (n - q), right for least squares with equal noise. `sandwich` is
    H^-1 (sum_u g_u g_u') H^-1 m / (m - 1) (n - 1) / (n - q), where g_u is the gradient of a unit, a point or all
    points of a curve, and H the curvature of the objective (Huber 1967; White 1980; Liang and Zeger 1986): right for
    unequal noise too, and for points of a unit that err together. It needs twice as many residuals within `delta`,
    and more units, than parameters.

    Args:
        units: which unit a point is of (N,), 0 to m - 1; None where each is one, which leaves n / (n - q).
    """
    free = list(problem.free)
    r = problem.residuals(theta[None])[0]
    J = problem.jacobian(theta[None])[0][free]
    n, q = len(r), len(free)
    if n <= q:
        return None
    inside = np.abs(r) <= delta
    if inside.sum() < 2 * q:
        return None
    scale = np.sqrt(np.maximum((J**2).sum(1), np.finfo(float).tiny))
    J = J / scale[:, None]
    # Through QR the condition number is that of the Jacobian, not its square.
    R = np.linalg.qr((J * np.sqrt(weights_N * inside)).T, mode="r")
    if np.linalg.cond(R) > 1e14:
        return None
    root = np.linalg.inv(R)
    inverse = root @ root.T
    if kind == "classical":
        covariance_QQ = inverse * float((weights_N * r**2).sum()) / (n - q)
    else:
        g = J * (weights_N * np.clip(r, -delta, delta))
        if units is not None:
            g = np.stack([np.bincount(units, weights=of_point) for of_point in g])
        m = g.shape[1]
        if m <= q:
            return None
        covariance_QQ = inverse @ (g @ g.T) @ inverse * m / (m - 1) * (n - 1) / (n - q)
    return np.asarray(covariance_QQ / np.outer(scale, scale))


def standard_errors(
    problem: Problem, theta: Array, weights_N: Array, delta: float, kind: Kind, units: Codes | None = None
) -> dict[str, float | None]:
    """Standard error of each parameter in the units of the table (delta method); None for one that is held, and for
    all where it cannot be told. Arguments as for `covariance`."""
    law, free = problem.law, list(problem.free)
    covariance_QQ = covariance(problem, theta, weights_N, delta, kind, units)
    if covariance_QQ is None:
        return dict.fromkeys(law.names)
    h = 1e-30  # complex steps: exact derivatives of the change of units
    slope_PQ = np.empty((len(law.parameters), len(free)))
    for column, k in enumerate(free):
        shifted = theta[None].astype(complex)
        shifted[0, k] += 1j * h
        params = to_params(law, shifted, problem.centre)
        slope_PQ[:, column] = [float(np.imag(params[name][0, 0])) / h for name in law.names]
    variance = np.einsum("pq,qr,pr->p", slope_PQ, covariance_QQ, slope_PQ)
    return {name: float(np.sqrt(max(variance[k], 0.0))) if k in free else None for k, name in enumerate(law.names)}


def profile(
    problem: Problem,
    solution: Solution,
    name: str,
    weights_N: Array,
    delta: float,
    *,
    units: Codes | None = None,
    points: int = 41,
) -> dict[str, Any]:
    """The profile of one parameter: it is held at values around the optimum and all others are fitted again, from
    the optimum and from the two best points of the grid, since the valley may lead elsewhere.

    The deviance is 2 (Q - Q_min) / tau² with tau² = mean psi² n/(n - q) / mean psi', the scaling of robust
    likelihood ratios (Ronchetti 1982), which for least squares makes it the F statistic of the held value. The 95 %
    interval is where it is below that quantile of F(1, n - q). Points that come in units make it smaller by as much
    as they make the sandwich variance larger (Pace, Salvan and Sartori 2011).

    Args:
        problem: not centred in what the parameter carries with a free power, so that holding it holds what is
            reported.
        solution: the optimum of that problem, one row.
        units: which unit (curve, cluster) a point is of (N,).

    Returns:
        `ci95` (an end is None where the profile stays below the level up to the bound), and the curve: `value`,
        `deviance`, and the `level` that ends the interval.
    """
    law = problem.law
    k = law.names.index(name)
    theta, best = solution.theta[0], float(solution.cost[0])
    r = problem.residuals(theta[None])[0]
    n, q = len(r), len(problem.free)
    psi = np.clip(r, -delta, delta)
    slope = float((weights_N * (np.abs(r) <= delta)).sum()) / float(weights_N.sum())
    tau2 = float((weights_N * psi**2).sum()) / max(n - q, 1) / max(slope, 1 / n)
    level = student.reach(max(n - q, 1)) ** 2
    if units is not None:
        alone, together = (covariance(problem, theta, weights_N, delta, "sandwich", u) for u in (None, units))
        if alone is not None and together is not None:
            at = problem.free.index(k)
            tau2 *= max(float(together[at, at] / alone[at, at]), 1.0)
    lower, upper = (float(bound[k]) for bound in problem.bounds())

    natural = np.exp if law.parameters[k].log else np.asarray
    grid_GP = start_grid(problem)
    if len(grid_GP) > PROFILE_STARTS:
        misfit = project(problem, grid_GP, weights_N[None])[1][0]
        grid_GP = grid_GP[np.argsort(misfit, kind="stable")[:PROFILE_STARTS]]

    def deviance(values: Array) -> Array:
        starts = []
        for value in values:
            grid_GP[:, k] = value
            held_here = replace(problem, fixed={**problem.fixed, name: float(natural(value))})
            theta_RGP, misfit = project(held_here, grid_GP, weights_N[None])
            starts.append(np.concatenate([theta[None], theta_RGP[0][np.argsort(misfit[0], kind="stable")[:2]]]))
        each = len(starts[0])
        held = np.full((len(values) * each, len(theta)), np.nan)
        held[:, k] = np.repeat(values, each)
        rough = minimise(problem, np.concatenate(starts), weights_N[None], math.inf, held_SP=held, max_iterations=8)
        start = np.where(np.arange(len(held))[:, None] % each == 0, theta, rough.theta)
        ended = minimise(problem, start, weights_N[None], delta, held_SP=held)
        return np.maximum(2 * (ended.cost.reshape(-1, each).min(1) - best) / tau2, 0.0)

    # The width is found by doubling, from a thousandth of the parameter's size.
    def end(sign: int) -> float | None:
        width = 1e-3 * max(abs(theta[k]), 1e-2)
        tried = theta[k] + sign * width * 2.0 ** np.arange(24)
        tried = np.unique(np.clip(tried, lower, upper))[::sign]
        beyond = np.flatnonzero(deviance(tried) > level)
        if not len(beyond):
            return None
        outer = float(tried[beyond[0]])
        inner = float(tried[beyond[0] - 1]) if beyond[0] else float(theta[k])
        for _ in range(3):  # each pass narrows sixteenfold
            grid = np.linspace(inner, outer, 17)
            first = int(np.flatnonzero(np.append(deviance(grid[1:-1]), math.inf) > level)[0]) + 1
            inner, outer = float(grid[first - 1]), float(grid[first])
        return (inner + outer) / 2

    ends = (end(-1), end(+1))
    widest = max((abs(e - theta[k]) for e in ends if e is not None), default=max(abs(theta[k]), 1.0))
    reach = [theta[k] + sign * widest if e is None else e for e, sign in zip(ends, (-1, 1), strict=True)]
    spread = [max(min(theta[k] + 1.5 * (e - theta[k]), upper), lower) for e in reach]
    grid = np.linspace(spread[0], spread[1], points)
    return {
        "ci95": [None if e is None else float(natural(e)) for e in ends],
        "value": natural(grid).tolist(),
        "deviance": deviance(grid).tolist(),
        "level": level,
    }


def objective_value(problem: Problem, theta: Array, weights_N: Array, delta: float, *, absolute: bool) -> float:
    """The objective at one theta, as reported: least absolute deviations without Huber's rounded corner."""
    r = problem.residuals(theta[None])[0]
    return float((weights_N * (np.abs(r) if absolute else huber(r, delta))).sum())

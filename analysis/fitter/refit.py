"""Fits of one law to one set of points under many weightings at once: what a bootstrap needs.

refit_all(problem, theta, weights_RN, delta)                 optima (R, P), and the share of them that converged
refit(law, variables, target, weights_RN, values)            {"E": (R, 1), …}, in the units of the table

Shape letters: R weightings, G points of the grid of starts, N points, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from analysis.fitter.formula import Formula
from analysis.fitter.solve import Problem, minimise, project, start_grid
from analysis.fitter.uncertainty import to_params, to_theta
from analysis.tables.columns import Array, Columns

STARTS = 64  # the part of the grid that a weighting chooses its own starts from


def refit_all(problem: Problem, theta: Array, weights_RN: Array, delta: float) -> tuple[Array, float]:
    """`refit_all(problem, theta, weights_RN, delta)[0]`: optima of weightings of the points (R, P);
    and the share of them that converged.

    Each weighting is fitted from the optimum `theta` of equal weights and from its own two best points of the grid,
    since a warm start alone gives too narrow intervals; the best end counts.
    """
    count, n_parameters = len(weights_RN), len(theta)
    draws, converged = np.empty((count, n_parameters)), np.empty(count, dtype=bool)
    if count == 0:
        return draws, 1.0
    grid_GP = start_grid(problem)
    if len(grid_GP) > STARTS:
        misfit = project(problem, grid_GP, np.ones((1, len(problem.target))))[1][0]
        grid_GP = grid_GP[np.argsort(misfit, kind="stable")[:STARTS]]
    rows = max(1, problem.rows_at_once() // 3)
    for begin in range(0, count, rows):
        weights = weights_RN[begin : begin + rows]
        theta_RGP, misfit = project(problem, grid_GP, weights)
        ahead = np.argsort(misfit, axis=1, kind="stable")[:, :2]
        best_two = np.take_along_axis(theta_RGP, ahead[:, :, None], axis=1).reshape(-1, n_parameters)
        twice = np.repeat(weights, ahead.shape[1], axis=0)
        best_two = minimise(problem, best_two, twice, math.inf, max_iterations=8).theta
        warm = np.broadcast_to(theta, (len(weights), n_parameters))
        solution = minimise(problem, np.concatenate([warm, best_two]), np.concatenate([weights, twice]), delta)
        # (starts, resamples): the warm start first, then the resample's own two
        grouped = np.concatenate(
            [np.arange(len(weights))[None], len(weights) + np.arange(len(best_two)).reshape(len(weights), -1).T]
        )
        pick = grouped[np.argmin(solution.cost[grouped], axis=0), np.arange(len(weights))]
        draws[begin : begin + rows] = solution.theta[pick]
        converged[begin : begin + rows] = solution.converged[pick]
    return draws, float(converged.mean())


def refit(
    law: Formula, variables: Columns, target: Array, weights_RN: Array, values: Mapping[str, float], *, log: bool = True
) -> dict[str, Array]:
    """`refit(law, variables, target, weights_RN, values)["E"]`: the law's constants that minimise
    sum_n weight_n r_n², for each weighting (R, 1), in the units of the table.

    Args:
        values: the optimum for equal weights.
        log: residuals are ln predicted - ln measured, else predicted - measured.
    """
    centre = {name: typical(variables[name]) for name in law.centred}
    centred = {name: column / centre.get(name, 1.0) for name, column in variables.items()}
    problem = Problem(law, centred, target, log, centre)
    lower, upper = problem.bounds()
    warm_P = np.clip(to_theta(law, np.array([[values[name] for name in law.names]]), centre), lower, upper)[0]
    return to_params(law, refit_all(problem, warm_P, weights_RN, math.inf)[0], centre)


def typical(values: Array) -> float:
    """What a variable is divided by: its geometric mean, or its largest magnitude where it is not all positive."""
    return float(np.exp(np.log(values).mean()) if (values > 0).all() else np.abs(values).max())

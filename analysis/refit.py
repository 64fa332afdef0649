"""Fits of one law to one set of points under many weightings at once, by least squares: what a bootstrap needs whose
draws the caller chooses.

Shape letters: R weightings, G points of the grid of starts, N points, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from analysis.laws.base import Array, Columns, Law
from analysis.solve import Problem, minimise, project, start_grid
from analysis.uncertainty import to_params, to_theta

STARTS = 64  # the part of the grid that a weighting chooses its own start from


def refit(
    law: Law, variables: Columns, target: Array, weights_RN: Array, values: Mapping[str, float], *, log: bool = True
) -> dict[str, Array]:
    """The law's constants that minimise sum_n weight_n r_n², for each weighting (R, 1), in the units of the table.

    Each weighting is fitted from `values` and from its own best point of the grid, since a warm start alone gives
    too narrow intervals; the better end counts.

    Args:
        values: the optimum for equal weights.
        log: residuals are ln predicted - ln measured, else predicted - measured.
    """
    centre = {name: _typical(variables[name]) for name in law.centred}
    centred = {name: column / centre.get(name, 1.0) for name, column in variables.items()}
    problem = Problem(law, centred, target, log, centre)
    lower, upper = problem.bounds()
    warm_P = np.clip(to_theta(law, np.array([[values[name] for name in law.names]]), centre), lower, upper)[0]
    grid_GP = start_grid(problem)
    if len(grid_GP) > STARTS:
        misfit_G = project(problem, grid_GP, np.ones((1, len(target))))[1][0]
        grid_GP = grid_GP[np.argsort(misfit_G, kind="stable")[:STARTS]]
    ends = []
    rows = max(1, problem.rows_at_once() // 2)
    for begin in range(0, len(weights_RN), rows):
        weights = weights_RN[begin : begin + rows]
        found_RGP, misfit_RG = project(problem, grid_GP, weights)
        each = np.arange(len(weights))
        own = found_RGP[each, np.argmin(misfit_RG, axis=1)]
        starts = np.concatenate([np.broadcast_to(warm_P, own.shape), own])
        solution = minimise(problem, starts, np.concatenate([weights, weights]), math.inf)
        better = np.argmin(solution.cost.reshape(2, -1), axis=0)
        ends.append(solution.theta.reshape(2, len(weights), -1)[better, each])
    return to_params(law, np.concatenate(ends), centre)


def _typical(values: Array) -> float:
    return float(np.exp(np.log(values).mean()) if (values > 0).all() else np.abs(values).max())

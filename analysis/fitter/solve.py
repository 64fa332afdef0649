"""Minimises a robust sum over residuals from many starts at once. Arrays in, arrays out; no law is named here.

problem = Problem(law, variables, target, log=True)          residuals of ln target
theta_GP = start_grid(problem)                               where a fit may start
minimise(problem, theta_GP, weights_N[None], delta)          where each start ends: theta, cost, slope

Shape letters: S starts (or bootstrap replicates x starts), N data points, P parameters, K linear coefficients,
G points of the grid of starts, R resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Formula, Parameter
from analysis.tables.columns import Array

TOLERANCE = 1e-8
LARGEST_GRID = 20_000  # a larger one is sampled
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Problem:
    """A law at data points. The fit moves `theta`: a parameter, or its logarithm where that may be any number.

    Attributes:
        variables: what the law reads, those of `Formula.centred` divided by `centre`; each (N,) or (N, more).
        target: measured (N,).
        log: residuals are ln predicted - ln measured, else predicted - measured.
        centre: the typical values x0 of the variables that are centred.
        fixed: parameters that are held, in the units of `variables`.
    """

    law: Formula
    variables: Mapping[str, Array]
    target: Array
    log: bool
    centre: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def typical(self) -> float:
        """A typical size of the target, which is the unit of coefficients."""
        return float(np.median(np.abs(self.target))) or float(np.abs(self.target).mean()) or 1.0

    @property
    def free(self) -> tuple[int, ...]:
        """The indices of the parameters that are not held."""
        return tuple(k for k, p in enumerate(self.law.parameters) if p.name not in self.fixed)

    def bounds(self) -> tuple[Array, Array]:
        """Smallest and largest theta, each (P,). A centred coefficient is a share of the target at the middle of
        the data; the limits are far outside of what data can tell from nothing, and keep arithmetic finite."""
        pairs = np.array([self._bounds(p) for p in self.law.parameters])
        return pairs[:, 0], pairs[:, 1]

    def _bounds(self, p: Parameter) -> tuple[float, float]:
        if p.name in self.fixed:
            held = self.fixed[p.name]
            return (math.log(held),) * 2 if p.log else (held,) * 2
        if not p.log:
            return p.lower, p.upper
        if p.quantiles_of is not None:
            values = np.abs(self.variables[p.quantiles_of])
            return math.log(values[values > 0].min() / 100), math.log(values.max() * 100)
        unit = self.typical if p.linear or p.of_target else 1.0
        # Without centring a coefficient is the target extrapolated to a column of one.
        reach = 1.0 if all(name in self.centre for name, _ in p.carries) else 1e20
        return math.log(1e-6 * unit / reach), math.log(1e4 * unit * reach)

    def parameters(self, theta_SP: Array) -> dict[str, Array]:
        """Named (centred) parameters, each (S, 1)."""
        return {
            p.name: np.exp(theta_SP[:, k, None]) if p.log else theta_SP[:, k, None]
            for k, p in enumerate(self.law.parameters)
        }

    def predicted(self, theta_SP: Array) -> Array:
        """(S, N). Where residuals are of logarithms, what is not positive becomes a number too small to be a fit."""
        predicted = self.law.function(self.variables, **self.parameters(theta_SP))
        return np.maximum(predicted, 1e-12 * self.target) if self.log else predicted

    def residuals(self, theta_SP: Array) -> Array:
        """(S, N)."""
        predicted = np.broadcast_to(self.predicted(theta_SP), (len(theta_SP), len(self.target)))
        return np.log(predicted / self.target) if self.log else predicted - self.target

    def jacobian(self, theta_SP: Array) -> Array:
        """Derivatives of the residuals, (S, P, N)."""
        parameters = self.parameters(theta_SP)
        partials = self.law.partials(self.variables, parameters)
        J_SPN = np.empty((len(theta_SP), len(partials), len(self.target)))
        for k, (p, partial) in enumerate(zip(self.law.parameters, partials, strict=True)):
            J_SPN[:, k] = partial * parameters[p.name] if p.log else partial
        if self.log:
            J_SPN /= np.broadcast_to(self.predicted(theta_SP), (len(theta_SP), len(self.target)))[:, None]
        return J_SPN

    def rows_at_once(self) -> int:
        """How many starts keep the arrays in a few MB of cache."""
        widest = max(np.size(values) for values in (*self.variables.values(), self.target))
        return max(1, 1_000_000 // (widest * len(self.law.parameters)))


@dataclass(frozen=True)
class Solution:
    """Where each start ended.

    Attributes:
        theta: (S, P).
        cost: the objective, a sum over points (S,).
        slope: largest cosine between the weighted residuals and a column of the Jacobian (S,); 0 at an optimum.
        iterations: steps tried in each row (S,).
    """

    theta: Array
    cost: Array
    slope: Array
    iterations: Array

    @property
    def converged(self) -> NDArray[np.bool_]:
        return self.slope <= TOLERANCE


def huber(residuals: Array, delta: float) -> Array:
    """r²/2 up to `delta`, then linear; least squares at an infinite `delta`."""
    if math.isinf(delta):
        return residuals**2 / 2
    size = np.minimum(np.abs(residuals), delta)
    loss: Array = size * (np.abs(residuals) - size / 2)
    return loss


def minimise(
    problem: Problem,
    start_SP: Array,
    weights_SN: Array,
    delta: float,
    *,
    held_SP: Array | None = None,
    max_iterations: int = 300,
) -> Solution:
    """Minimise sum_n weight_n huber(residual_n) from every start, all rows in step.

    Each step solves (H + damping (M + diag M)) step = -gradient, where H = J' 1[|r| <= delta] J is the curvature
    of Huber's loss and M = J' min(1, delta/|r|) J that of the quadratic that touches it from above (the weights of
    iterated least squares). H alone converges fast near the optimum; M alone goes downhill from anywhere, however
    few points lie within `delta`. The damping falls with each good step and rises with each bad one.

    Args:
        start_SP: (S, P), moved inside the bounds.
        weights_SN: how often each point counts, broadcastable to (S, N).
        delta: where Huber's loss turns linear; may be infinite.
        held_SP: (S, P), values of theta that are held in that row, nan where it is free.
    """
    weights_SN = np.broadcast_to(weights_SN, (len(start_SP), len(problem.target)))
    held_SP = np.full(start_SP.shape, np.nan) if held_SP is None else held_SP
    rows = problem.rows_at_once()
    slices = [slice(k, k + rows) for k in range(0, len(start_SP), rows)]
    parts = [
        _minimise(problem, start_SP[some], weights_SN[some], delta, held_SP[some], max_iterations) for some in slices
    ]
    if len(parts) == 1:
        return parts[0]
    return Solution(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("theta", "cost", "slope", "iterations"))
    )


def _minimise(
    problem: Problem, start_SP: Array, weights_SN: Array, delta: float, held_SP: Array, max_iterations: int
) -> Solution:
    lower_SP, upper_SP = (np.where(np.isnan(held_SP), bound, held_SP) for bound in problem.bounds())
    theta_SP = np.clip(start_SP, lower_SP, upper_SP)
    n_starts, n_parameters = theta_SP.shape
    result = Solution(theta_SP, np.empty(n_starts), np.empty(n_starts), np.full(n_starts, max_iterations))
    diagonal = np.arange(n_parameters)

    # The rows still moving; a row that has arrived is written to `result` and dropped.
    row, t, w = np.arange(n_starts), theta_SP.copy(), weights_SN
    lower, upper = lower_SP, upper_SP
    r = problem.residuals(t)
    cost = (w * huber(r, delta)).sum(1)
    damping = np.full(n_starts, 1e-2)
    # The longest that each column of the Jacobian has been: damping by it keeps a far step from running out to where
    # a parameter has no more effect, and there to stay (Moré 1978).
    peak = np.zeros_like(t)
    grain = 1.0 if problem.log else problem.typical  # a residual is exact to eps times this
    for iteration in range(max_iterations + 1):
        J = problem.jacobian(t)
        inside = np.abs(r) <= delta
        touch = w if math.isinf(delta) else w * np.minimum(1.0, delta / np.maximum(np.abs(r), delta))
        gradient = (J @ (touch * r)[:, :, None])[:, :, 0]
        M = (J * touch[:, None]) @ J.swapaxes(1, 2)
        H = M if math.isinf(delta) else (J * (w * inside)[:, None]) @ J.swapaxes(1, 2)
        blocked = ((t <= lower) & (gradient > 0)) | ((t >= upper) & (gradient < 0)) | (lower == upper)
        gradient = np.where(blocked, 0.0, gradient)

        size = (touch * r**2).sum(1)
        columns = np.sqrt(np.maximum(M[:, diagonal, diagonal], _TINY))
        slope = np.abs(gradient / columns).max(1) / np.sqrt(np.maximum(size, _TINY))
        scale = w.sum(1) if problem.log else (w * problem.target**2).sum(1)
        # An exact fit has residuals of rounding only, and no gradient is known below rounding.
        exact = (size <= 1e-28 * scale) | (slope * np.sqrt(size) <= 4 * np.finfo(float).eps * np.sqrt(scale))
        slope = np.where(exact, 0.0, slope)

        left = (slope <= TOLERANCE) | (damping > 1e12) | (iteration == max_iterations)
        gone = row[left]
        result.theta[gone], result.cost[gone], result.slope[gone] = t[left], cost[left], slope[left]
        result.iterations[gone] = iteration
        stay = ~left
        if not stay.any():
            break
        if left.any():
            row, t, w, r, cost, damping = (values[stay] for values in _arrays(row, t, w, r, cost, damping))
            gradient, H, M, blocked, columns = (values[stay] for values in _arrays(gradient, H, M, blocked, columns))
            lower, upper, peak = lower[stay], upper[stay], peak[stay]
        peak = np.maximum(peak, columns)

        A = H + damping[:, None, None] * M
        A[:, diagonal, diagonal] += damping[:, None] * peak**2 + 1e-14 * columns**2
        free = ~blocked
        A *= free[:, :, None] & free[:, None, :]
        A[:, diagonal, diagonal] += blocked
        # Scaled to a unit diagonal, so that the solve does not depend on the parameters' units.
        unit = 1 / np.sqrt(A[:, diagonal, diagonal])
        step = -unit * np.linalg.solve(A * unit[:, :, None] * unit[:, None, :], (unit * gradient)[:, :, None])[..., 0]

        t_new = np.clip(t + step, lower, upper)
        step = t_new - t
        r_new = problem.residuals(t_new)
        cost_new = (w * huber(r_new, delta)).sum(1)
        promised = -(gradient * step).sum(1) - 0.5 * np.einsum("sp,spq,sq->s", step, H, step)
        gained = cost - cost_new
        # Near the optimum the gain drowns in rounding, while the gradient still leads to it.
        rounding = 4 * np.finfo(float).eps * (cost + grain * (w * np.minimum(np.abs(r), delta)).sum(1))
        good = (gained > 0) | ((gained >= -rounding) & (np.abs(promised) <= 10 * rounding))
        trusted = good & (gained > 0.75 * promised - rounding)
        t = np.where(good[:, None], t_new, t)
        r = np.where(good[:, None], r_new, r)
        cost = np.where(good, cost_new, cost)
        damping = np.where(good, np.where(trusted, damping / 10, damping), damping * 8)
        damping = np.maximum(damping, 1e-15)
    return result


def _arrays(*arrays: Any) -> tuple[Any, ...]:
    """Arrays of several types, without their types."""
    return arrays


# --- starts ----------------------------------------------------------------------------------------------


def start_grid(problem: Problem) -> Array:
    """Theta at the law's starts (G, P): every combination of the parameters that are not linear, or what the law's
    `guess` says; coefficients are left at zero, for `project` to fill. A very large grid is sampled."""
    law = problem.law
    curved = [k for k in problem.free if not law.parameters[k].linear]
    if law.guess is not None:
        values = law.guess(problem.variables, problem.target)
        bent = [k for k, p in enumerate(law.parameters) if not p.linear]
        values = values[:, [bent.index(k) for k in curved]]
    else:
        axes = [_starts(problem, law.parameters[k]) for k in curved]
        total = math.prod(len(axis) for axis in axes)
        if total <= LARGEST_GRID:
            values = np.array(list(itertools.product(*axes))).reshape(total, len(curved))
        else:
            rng = np.random.default_rng(0)
            values = np.column_stack([rng.choice(axis, size=LARGEST_GRID) for axis in axes])
    theta_GP = np.zeros((len(values), len(law.parameters)))
    for column, k in enumerate(curved):
        theta_GP[:, k] = np.log(values[:, column]) if law.parameters[k].log else values[:, column]
    lower, upper = problem.bounds()
    held = [k for k in range(len(law.parameters)) if k not in problem.free]
    theta_GP[:, held] = lower[held]
    return np.clip(theta_GP, lower, upper)


def _starts(problem: Problem, p: Parameter) -> Array:
    if p.quantiles_of is not None:
        values = np.abs(problem.variables[p.quantiles_of])
        return np.unique(np.quantile(values[values > 0], p.starts))
    return np.array(p.starts) * (problem.typical if p.of_target else 1.0)


def project(problem: Problem, theta_GP: Array, weights_RN: Array) -> tuple[Array, Array]:
    """The linear coefficients at their best for given values of all others (variable projection, Golub and Pereyra
    1973), for each resample.

    For given exponents the law is a sum of coefficients times known columns, so the coefficients that minimise the
    squared (relative) residuals come from small linear systems: one for each subset of the non-negative ones that is
    not zero.

    Returns:
        theta (R, G, P), and the squared (relative) residual at each (R, G).
    """
    law, n = problem.law, len(problem.target)
    linear = [k for k in problem.free if law.parameters[k].linear]
    unit = problem.target if problem.log else np.full(n, problem.typical)
    parameters = problem.parameters(theta_GP)
    for k in linear:
        parameters[law.parameters[k].name] = np.zeros((len(theta_GP), 1))
    offset_GN = np.broadcast_to(law.function(problem.variables, **parameters), (len(theta_GP), n))
    rest_GN = (problem.target - offset_GN) / unit
    total_RG = weights_RN @ (rest_GN**2).T
    if not linear:
        return np.repeat(theta_GP[None], len(weights_RN), axis=0), total_RG

    partials = law.partials(problem.variables, parameters)
    basis_GKN = np.stack([np.broadcast_to(partials[k], (len(theta_GP), n)) for k in linear], axis=1) / unit
    normal_RGKK = np.tensordot(weights_RN, basis_GKN[:, :, None] * basis_GKN[:, None, :], axes=(1, 3))
    right_RGK = np.tensordot(weights_RN, basis_GKN * rest_GN[:, None], axes=(1, 2))
    best_RG = np.full(right_RGK.shape[:2], np.inf)
    coefficients_RGK = np.zeros_like(right_RGK)
    signed = [k for k, index in enumerate(linear) if not law.parameters[index].log]
    positive = [k for k, index in enumerate(linear) if law.parameters[index].log]
    for count in range(len(positive) + 1):
        for subset in itertools.combinations(positive, count):
            chosen = [*signed, *subset]
            if not chosen:
                continue
            system = normal_RGKK[:, :, chosen][:, :, :, chosen]
            ridge = 1e-12 * np.trace(system, axis1=2, axis2=3)[:, :, None, None] + _TINY
            values = np.linalg.solve(system + ridge * np.eye(len(chosen)), right_RGK[:, :, chosen, None])[..., 0]
            left_over = total_RG - (values * right_RGK[:, :, chosen]).sum(2)
            better = (values[:, :, len(signed) :] > 0).all(2) & (left_over < best_RG)
            best_RG = np.where(better, left_over, best_RG)
            spread = np.zeros_like(coefficients_RGK)
            spread[:, :, chosen] = values
            coefficients_RGK = np.where(better[:, :, None], spread, coefficients_RGK)

    theta_RGP = np.repeat(theta_GP[None], len(weights_RN), axis=0)
    lower, upper = problem.bounds()
    for k, index in enumerate(linear):
        values_RG = coefficients_RGK[:, :, k]
        if law.parameters[index].log:
            # A coefficient of exactly zero has no gradient in its logarithm; begin at a hundredth of the target.
            values_RG = np.log(np.maximum(values_RG, 1e-2 * problem.typical))
        theta_RGP[:, :, index] = np.clip(values_RG, lower[index], upper[index])
    return theta_RGP, best_RG

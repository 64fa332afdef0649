"""Minimises a robust sum over residuals from many starts at once. Arrays in, arrays out; no law is named here.

Shape letters: S starts (or bootstrap replicates x starts), N data points, P parameters, K linear coefficients,
G points of the grid of starts, R resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.laws import Array, Law

TOLERANCE = 1e-8


@dataclass(frozen=True)
class Problem:
    """A law at data points. The fit moves `theta`: a parameter, or its logarithm where that may be any number.

    Attributes:
        columns: the law's columns, those of `Law.centred` divided by their geometric mean; each (N,).
        target: measured loss (N,).
        log: residuals are ln predicted - ln measured, else predicted - measured.
    """

    law: Law
    columns: Mapping[str, Array]
    target: Array
    log: bool

    def bounds(self) -> tuple[Array, Array]:
        """Smallest and largest theta, each (P,). A centred coefficient is a share of the loss at the middle of
        the data; the limits are far outside of what data can tell from nothing, and keep arithmetic finite."""
        scale = float(np.median(self.target))
        lower = [math.log(1e-6 * scale) if p.log else p.lower for p in self.law.parameters]
        upper = [math.log(1e4 * scale) if p.log else p.upper for p in self.law.parameters]
        return np.array(lower), np.array(upper)

    def parameters(self, theta_SP: Array) -> dict[str, Array]:
        """Named (centred) parameters, each (S, 1)."""
        return {
            p.name: np.exp(theta_SP[:, k, None]) if p.log else theta_SP[:, k, None]
            for k, p in enumerate(self.law.parameters)
        }

    def residuals(self, theta_SP: Array) -> Array:
        """(S, N)."""
        predicted = self.law.function(self.columns, **self.parameters(theta_SP))
        return np.log(predicted / self.target) if self.log else predicted - self.target

    def jacobian(self, theta_SP: Array) -> Array:
        """Derivatives of the residuals, (S, P, N)."""
        parameters = self.parameters(theta_SP)
        partials = self.law.gradient(self.columns, **parameters)
        J_SPN = np.empty((len(theta_SP), len(partials), len(self.target)))
        for k, (p, partial) in enumerate(zip(self.law.parameters, partials, strict=True)):
            J_SPN[:, k] = partial * parameters[p.name] if p.log else partial
        if self.log:
            J_SPN /= self.law.function(self.columns, **parameters)[:, None]
        return J_SPN


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
    problem: Problem, start_SP: Array, weights_SN: Array, delta: float, *, max_iterations: int = 300
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
    """
    lower, upper = problem.bounds()
    theta_SP = np.clip(start_SP, lower, upper)
    n_starts, n_parameters = theta_SP.shape
    weights_SN = np.broadcast_to(weights_SN, (n_starts, len(problem.target)))
    result = Solution(theta_SP, np.empty(n_starts), np.empty(n_starts), np.full(n_starts, max_iterations))
    diagonal = np.arange(n_parameters)

    # The rows still moving; a row that has arrived is written to `result` and dropped.
    row, t, w = np.arange(n_starts), theta_SP.copy(), weights_SN
    r = problem.residuals(t)
    cost = (w * huber(r, delta)).sum(1)
    damping = np.full(n_starts, 1e-2)
    grain = 1.0 if problem.log else float(np.median(problem.target))  # a residual is exact to eps times this
    for iteration in range(max_iterations + 1):
        J = problem.jacobian(t)
        inside = np.abs(r) <= delta
        touch = w if math.isinf(delta) else w * np.minimum(1.0, delta / np.maximum(np.abs(r), delta))
        gradient = (J @ (touch * r)[:, :, None])[:, :, 0]
        M = (J * touch[:, None]) @ J.swapaxes(1, 2)
        H = M if math.isinf(delta) else (J * (w * inside)[:, None]) @ J.swapaxes(1, 2)
        blocked = ((t <= lower) & (gradient > 0)) | ((t >= upper) & (gradient < 0))
        gradient = np.where(blocked, 0.0, gradient)

        size = (touch * r**2).sum(1)
        columns = np.sqrt(np.maximum(M[:, diagonal, diagonal], np.finfo(float).tiny))
        slope = np.abs(gradient / columns).max(1) / np.sqrt(np.maximum(size, np.finfo(float).tiny))
        scale = w.sum(1) if problem.log else (w * problem.target**2).sum(1)
        slope = np.where(size <= 1e-28 * scale, 0.0, slope)  # an exact fit has residuals of rounding only

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

        A = H + damping[:, None, None] * M
        A[:, diagonal, diagonal] += (damping[:, None] + 1e-14) * columns**2
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


def seeds(problem: Problem, weights_RN: Array) -> tuple[Array, Array]:
    """The law's grid of starts with its linear coefficients at their best (variable projection, Golub and Pereyra
    1973), for each resample.

    For given exponents the law is a sum of coefficients times known columns, so the non-negative coefficients that
    minimise the squared relative residuals come from small linear systems, one for each subset of them that is
    not zero.

    Returns:
        theta (R, G, P), and the squared relative residual at each (R, G).
    """
    law = problem.law
    linear = [k for k, p in enumerate(law.parameters) if p.linear]
    grid = np.array(list(itertools.product(*(p.starts for p in law.parameters if not p.linear))))
    theta_GP = np.zeros((len(grid), len(law.parameters)))
    theta_GP[:, [k for k, p in enumerate(law.parameters) if not p.linear]] = grid
    partials = law.gradient(problem.columns, **problem.parameters(theta_GP))
    basis_GKN = np.stack([np.broadcast_to(partials[k], (len(grid), len(problem.target))) for k in linear], axis=1)
    basis_GKN = basis_GKN / problem.target

    normal_RGKK = np.tensordot(weights_RN, basis_GKN[:, :, None] * basis_GKN[:, None, :], axes=(1, 3))
    right_RGK = np.tensordot(weights_RN, basis_GKN, axes=(1, 2))
    best = np.full(right_RGK.shape[:2], np.inf)
    coefficients_RGK = np.zeros_like(right_RGK)
    for count in range(1, len(linear) + 1):
        for subset in itertools.combinations(range(len(linear)), count):
            chosen = list(subset)
            system = normal_RGKK[:, :, chosen][:, :, :, chosen]
            ridge = 1e-12 * np.trace(system, axis1=2, axis2=3)[:, :, None, None] * np.eye(count)
            values = np.linalg.solve(system + ridge, right_RGK[:, :, chosen, None])[..., 0]
            left_over = weights_RN.sum(1)[:, None] - (values * right_RGK[:, :, chosen]).sum(2)
            better = (values > 0).all(2) & (left_over < best)
            best = np.where(better, left_over, best)
            spread = np.zeros_like(coefficients_RGK)
            spread[:, :, chosen] = values
            coefficients_RGK = np.where(better[:, :, None], spread, coefficients_RGK)

    theta_RGP = np.repeat(theta_GP[None], len(weights_RN), axis=0)
    # A coefficient of exactly zero has no gradient in its logarithm; begin at a hundredth of the loss.
    theta_RGP[:, :, linear] = np.log(np.maximum(coefficients_RGK, 1e-2 * np.median(problem.target)))
    return theta_RGP, best

"""From curves of small models to the whole curve of another size and batch size (Su et al. 2024, arXiv 2403.06563).

Kaplan's laws of size, of steps and of the critical batch size, each fitted with the constants found before it; then
L(N, B, S) is the loss that takes S steps at batch B. The learning rate has to be constant after the warm-up, which
does not follow the laws and is to be left out of the table.

Shape letters: R weightings of the curves (the first leaves them as they are), N points, K curves, P powers on a grid,
V levels of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.procedure import Procedure, Steps
from analysis.fitter.solve import Problem, minimise
from analysis.laws.chinchilla import N
from analysis.laws.kaplan import BATCH, STEP, STEPS, critical_batch_loss, min_steps, scale
from analysis.tables.columns import Array, Columns, FitError

MOST_POINTS = 64  # of a curve; more are averaged in as many bins of ln step
LATE = 0.1  # the asymptote is read from steps beyond this share of the last one
POWERS = np.geomspace(0.2, 2.0, 60)
FEWEST_LATE = 4
FEWEST_BATCHES = 3
LEVELS = 12
STEEPEST = 50.0  # 1 / alpha_B; published: 5
READING = 1e-3  # relative; no step to a level is known better than that
WINDOW = (0.1, 2.0)  # nats above the asymptote, where the loss is a power law of S_min
DELTA = 0.01  # of Huber's loss, in ln loss; the noise of a single evaluation
ACCEPTED = 0.01  # mean relative error of the curves after a tenth of training

PARAMETERS = (
    Parameter("alpha_N", "exponent of N", typical=(0.03, 0.5)),
    Parameter("N_c", "size at which an endless training reaches one nat"),
    Parameter("alpha_B", "exponent of the loss in the critical batch size", typical=(0.05, 1.0)),
    Parameter("B_star", "critical batch size at a loss of one nat, tokens"),
    Parameter("alpha_S", "exponent of S_min", typical=(0.2, 1.5)),
    Parameter("S_c", "S_min at one nat above the asymptote"),
)


# --- prediction ------------------------------------------------------------------------------------------


def steps_to_loss(
    loss: Any,
    n_params: Any,
    batch_tokens: Any,
    *,
    alpha_N: Any,
    N_c: Any,
    alpha_B: Any,
    B_star: Any,
    alpha_S: Any,
    S_c: Any,
) -> Array:
    """S(l) = S_min(l) (1 + B_crit(l) / B), with S_min(l) = S_c / [l - (N_c / N)^alpha_N]^(1 / alpha_S).

    Su et al. 2024; infinite for a loss that the size never reaches. Tokens are B times as many.
    """
    excess = np.asarray(loss - np.exp(alpha_N * (np.log(N_c) - np.log(n_params))))
    at_large_batch = np.exp(np.log(S_c) - np.log(np.where(excess > 0, excess, 1.0)) / alpha_S)
    overhead = 1 + critical_batch_loss({"loss": loss}, B_star=B_star, inv_alpha_B=1 / alpha_B) / batch_tokens
    return np.where(excess > 0, at_large_batch * overhead, np.inf)


def curve_loss(
    n_params: Any,
    batch_tokens: Any,
    step: Any,
    *,
    alpha_N: Any,
    N_c: Any,
    alpha_B: Any,
    B_star: Any,
    alpha_S: Any,
    S_c: Any,
) -> Array:
    """The loss that takes `step` steps, the root of `steps_to_loss` = step, in nats per token.

    Bisection in ln(excess over the asymptote): the excess is least as if B_crit were zero, and largest as if B_crit
    had its value at the asymptote already.
    """
    log_floor = np.asarray(alpha_N * (np.log(N_c) - np.log(n_params)))
    floor, log_ratio = np.exp(log_floor), np.log(B_star) - np.log(batch_tokens)
    shortage = np.log(S_c) - np.log(step)
    with np.errstate(invalid="ignore"):  # constants of a resample that determines none are nan
        low = alpha_S * (shortage + 0 * log_floor + 0 * log_ratio)
        high = alpha_S * (shortage + np.logaddexp(0, log_ratio - log_floor / alpha_B))
        for _ in range(50):
            middle = (low + high) / 2
            overhead = np.logaddexp(0, log_ratio - np.log(floor + np.exp(middle)) / alpha_B)
            too_good = shortage - middle / alpha_S + overhead > 0  # it takes more steps than there are
            low, high = np.where(too_good, middle, low), np.where(too_good, high, middle)
    loss: Array = floor + np.exp((low + high) / 2)
    return loss


def predict(columns: Columns, **constants: Any) -> dict[str, Array]:
    """The loss of each (n_params, batch_tokens, step), in nats per token, and the critical batch size at that loss."""
    loss = curve_loss(columns["n_params"], columns["batch_tokens"], columns["step"], **constants)
    inverse = 1 / constants["alpha_B"]
    b_crit = critical_batch_loss({"loss": loss}, B_star=constants["B_star"], inv_alpha_B=inverse)
    return {"predicted": loss, "b_crit": b_crit}


# --- curves ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Curves:
    """The points that are fitted, in the order of curves and steps.

    Attributes:
        curve_N: which curve, from 0; `code_K` is its name in the table.
        weights_RK: how often each curve counts.
    """

    curve_N: NDArray[np.int64]
    step_N: Array
    loss_N: Array
    code_K: Array
    n_params_K: Array
    batch_K: Array
    weights_RK: Array

    def of(self, k: int) -> tuple[Array, Array]:
        rows = self.curve_N == k
        return self.step_N[rows], self.loss_N[rows]

    def at_points(self, values_K: Array) -> Array:
        """What is known of each curve (…, K) at its points (…, N)."""
        return values_K[..., self.curve_N]


def _read(columns: Columns, loss: Array, weights_RN: Array) -> _Curves:
    """Curves of at most `MOST_POINTS`; raises `FitError` for what is no curve."""
    codes, curves, weights = np.unique(columns["curve"]), [], []
    sizes, batches = [], []
    for k, code in enumerate(codes):
        rows = np.flatnonzero(columns["curve"] == code)
        for name in ("n_params", "batch_tokens"):
            low, high = columns[name][rows].min(), columns[name][rows].max()
            if low != high:
                raise FitError(f"{name}: {low:g} and {high:g} in one curve; allowed: one value in each curve")
        rows = rows[np.argsort(columns["step"][rows], kind="stable")]
        step, measured = columns["step"][rows], loss[rows]
        which = (
            f"the curve of {columns['n_params'][rows[0]]:g} parameters at batch {columns['batch_tokens'][rows[0]]:g}"
        )
        if (np.diff(step) == 0).any():
            raise FitError(f"step: {step[:-1][np.diff(step) == 0][0]:g} stands twice in {which}; allowed: once")
        if len(rows) > MOST_POINTS:
            place = (np.log(step) - np.log(step[0])) / (np.log(step[-1]) - np.log(step[0]))
            _, bins = np.unique(np.minimum((place * MOST_POINTS).astype(int), MOST_POINTS - 1), return_inverse=True)
            step, measured = (np.exp(np.bincount(bins, np.log(x)) / np.bincount(bins)) for x in (step, measured))
        if (step > LATE * step[-1]).sum() < FEWEST_LATE:
            raise FitError(f"step: {which} has fewer than {FEWEST_LATE} points after a tenth of its steps")
        curves.append((np.full(len(step), k), step, measured))
        sizes.append(columns["n_params"][rows[0]])
        batches.append(columns["batch_tokens"][rows[0]])
        weights.append(weights_RN[:, rows].mean(axis=1))
    curve_N, step_N, loss_N = (np.concatenate(values) for values in zip(*curves, strict=True))
    if len(set(sizes)) < 2:
        raise FitError(f"n_params: is {sizes[0]:g} in every curve; at least two sizes are needed")
    return _Curves(curve_N, step_N, loss_N, codes, np.array(sizes), np.array(batches), np.stack(weights, axis=1))


def _line(x: Array, y: Array, weights: Array) -> tuple[Array, Array]:
    """Intercept and slope of weighted regressions over the last axis; nan where x takes a single value."""
    x, y = np.broadcast_arrays(np.where(weights > 0, x, 0.0), np.where(weights > 0, y, 0.0))
    total = np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    mean_x, mean_y = ((weights * v).sum(axis=-1, keepdims=True) / total for v in (x, y))
    variance = (weights * (x - mean_x) ** 2).sum(axis=-1)
    determined = variance > 1e-12 * total[..., 0]
    slope = (weights * (x - mean_x) * (y - mean_y)).sum(axis=-1) / np.where(determined, variance, 1.0)
    slope = np.where(determined, slope, np.nan)
    return mean_y[..., 0] - slope * mean_x[..., 0], slope


# --- step 1: the law of size -----------------------------------------------------------------------------


def _size_law(curves: _Curves) -> tuple[Array, Array]:
    """ln of A_N = N_c^alpha_N, and alpha_N, each (R,): a line through the asymptotes of the curves.

    Each curve's late part is l_inf + k S^-p. The laws give all curves nearly one power p, and curves that share it
    tell their asymptotes apart from it far better than each by itself.
    """
    n_curves = len(curves.code_K)
    floor_PK, misfit_PK = np.empty((len(POWERS), n_curves)), np.empty((len(POWERS), n_curves))
    for k in range(n_curves):
        step, loss = curves.of(k)
        late = step > LATE * step[-1]
        basis = (step[late] / step[-1]) ** -POWERS[:, None]
        floor_PK[:, k], slope = _line(basis, loss[late], np.ones(late.sum()))
        misfit = loss[late] - floor_PK[:, k, None] - slope[:, None] * basis
        misfit_PK[:, k] = (misfit**2).mean(axis=1) / loss[-1] ** 2
    misfit_PK[floor_PK <= 0] = 1e6  # no loss ends below zero
    best_R = np.argmin(curves.weights_RK @ misfit_PK.T, axis=1)
    floor_RK = np.maximum(floor_PK[best_R], 1e-3 * curves.loss_N.min())
    log_a, slope = _line(np.log(curves.n_params_K), np.log(floor_RK), curves.weights_RK)
    return log_a, np.clip(-slope, 1e-3, 4.0)


# --- step 2: the critical batch size ---------------------------------------------------------------------


def _batch_law(curves: _Curves) -> tuple[Array, Array, list[str]]:
    """ln B_star and 1 / alpha_B, each (R,), and warnings: a line through B_crit at several levels of the loss."""
    log_level, log_crit, precision, beyond = [], [], [], 0
    for size in np.unique(curves.n_params_K):
        members = np.flatnonzero(curves.n_params_K == size)
        log_batch = np.log(curves.batch_K[members])
        if len(np.unique(log_batch)) < FEWEST_BATCHES:
            continue
        falling = [_falling(*curves.of(int(k))) for k in members]
        top, bottom = min(loss[0] for _, loss in falling), max(loss[-1] for _, loss in falling)
        if bottom >= top:
            continue
        levels = np.linspace(top, bottom, LEVELS + 2)[1:-1]
        log_step_VK = np.stack([np.interp(-levels, -loss, log_step) for log_step, loss in falling], axis=1)
        log_crit_RV, weight = _critical_batches(log_step_VK, log_batch, curves.weights_RK[:, members])
        log_level.append(levels)
        log_crit.append(log_crit_RV)
        precision.append(weight)
        beyond += int(((log_crit_RV[0] < log_batch.min()) | (log_crit_RV[0] > log_batch.max())).sum())
    if not log_level:
        raise FitError(
            f"batch_tokens: no size has curves of {FEWEST_BATCHES} batch sizes that pass through the same losses; "
            "allowed: at least one, for the critical batch size"
        )
    log_level_V = np.concatenate(log_level)
    log_star, slope = _line(log_level_V, np.concatenate(log_crit, axis=1), np.concatenate(precision, axis=1))
    usable = (slope < 0) & (slope > -STEEPEST)
    if not usable[0]:
        raise FitError(
            f"batch_tokens: the critical batch size goes as the loss to the power {slope[0]:.2g}; "
            f"allowed: between -{STEEPEST:g} and 0"
        )
    warnings = []
    if beyond:
        warnings.append(
            f"B_crit lies outside of the batch sizes at {beyond} of {len(log_level_V)} levels of the loss; "
            "its law needs batches on both sides"
        )
    return np.where(usable, log_star, np.nan), np.where(usable, -slope, np.nan), warnings


def _falling(step: Array, loss: Array) -> tuple[Array, Array]:
    """ln step and ln loss of the closest curve that never rises (pool adjacent violators), one point for each of its
    plateaus: noise does not let it cross a level early, as the first point below the level would."""
    blocks: list[tuple[float, float, int]] = []  # ln step, ln loss, how many points
    for log_step, log_loss in zip(np.log(step).tolist(), np.log(loss).tolist(), strict=True):
        blocks.append((log_step, log_loss, 1))
        while len(blocks) > 1 and blocks[-1][1] >= blocks[-2][1]:
            (s2, l2, n2), (s1, l1, n1) = blocks.pop(), blocks.pop()
            blocks.append(((s1 * n1 + s2 * n2) / (n1 + n2), (l1 * n1 + l2 * n2) / (n1 + n2), n1 + n2))
    plateaus = np.array(blocks)
    return plateaus[:, 0], plateaus[:, 1]


def _critical_batches(log_step_VK: Array, log_batch_K: Array, weights_RK: Array) -> tuple[Array, Array]:
    """ln B_crit and the inverse of its variance (R, V): least squares of ln S = ln S_min + ln(1 + B_crit / B).

    On a grid of B_crit, ln S_min being the mean of the rest, and then by Gauss-Newton steps.
    """
    grid = np.linspace(log_batch_K.min() - 5, log_batch_K.max() + 5, 61)
    total_R = np.maximum(weights_RK.sum(axis=1), 1e-300)

    rest = log_step_VK - np.logaddexp(0, grid[:, None, None] - log_batch_K)
    misfit = weights_RK @ (rest**2).reshape(-1, len(log_batch_K)).T
    misfit -= (weights_RK @ rest.reshape(-1, len(log_batch_K)).T) ** 2 / total_R[:, None]
    log_crit_RV = grid[np.argmin(misfit.reshape(len(weights_RK), len(grid), -1), axis=1)]

    w = weights_RK[:, None]
    for _ in range(8):
        term = np.logaddexp(0, log_crit_RV[..., None] - log_batch_K)
        rest, share = log_step_VK - term, -np.expm1(-term)  # share: d term / d ln B_crit
        rest, share = (v - (w * v).sum(axis=2, keepdims=True) / total_R[:, None, None] for v in (rest, share))
        curvature = (w * share**2).sum(axis=2)
        step = (w * share * rest).sum(axis=2) / np.maximum(curvature, 1e-300)
        log_crit_RV = np.clip(log_crit_RV + np.clip(step, -0.3, 0.3), grid[0], grid[-1])
    different = np.array([len(np.unique(log_batch_K[row > 0])) for row in weights_RK])
    freedom = np.maximum(total_R - 2, 1.0)[:, None]
    variance = (w * rest**2).sum(axis=2) / freedom + READING**2
    return log_crit_RV, np.where(different[:, None] >= FEWEST_BATCHES, curvature / variance, 0.0)


# --- step 3: the law of steps ----------------------------------------------------------------------------


def _steps_law(curves: _Curves, log_a: Array, alpha_n: Array, min_steps_RN: Array) -> tuple[Array, Array]:
    """ln of A_S = S_c^alpha_S, and alpha_S, each (R,): a line through what lies in the window above the asymptotes."""
    excess = curves.loss_N - np.exp(log_a[:, None] - alpha_n[:, None] * np.log(curves.at_points(curves.n_params_K)))
    inside = (excess > WINDOW[0]) & (excess < WINDOW[1])
    weights = np.where(inside, curves.at_points(curves.weights_RK), 0.0)
    log_a_s, slope = _line(np.log(min_steps_RN), np.log(np.where(inside, excess, 1.0)), weights)
    return log_a_s, np.clip(-slope, 1e-3, 4.0)


def _polish(curves: _Curves, start_RP: Array, min_steps_RN: Array) -> tuple[Array, bool]:
    """A_N, A_S, alpha_N, alpha_S by Huber's loss of ln loss (R, P), and whether the first one converged."""
    n_params_N, weights_RN = curves.at_points(curves.n_params_K), curves.at_points(curves.weights_RK)
    n0, s0 = (float(np.exp(np.log(x).mean())) for x in (n_params_N, curves.step_N))
    constants_RP, reached = np.full_like(start_RP, np.nan), True
    for row, ((log_a_n, log_a_s, alpha_n, alpha_s), steps) in enumerate(zip(start_RP, min_steps_RN, strict=True)):
        if not np.isfinite(start_RP[row]).all():
            continue
        there = weights_RN[row] > 0
        variables = {"n_params": n_params_N[there] / n0, "min_steps": steps[there] / s0}
        problem = Problem(STEPS, variables, curves.loss_N[there], log=True, centre={"n_params": n0, "min_steps": s0})
        start = [log_a_n - alpha_n * math.log(n0), log_a_s - alpha_s * math.log(s0), alpha_n, alpha_s]
        solution = minimise(problem, np.array([start]), weights_RN[row, there][None], DELTA)
        theta = solution.theta[0]
        constants_RP[row] = np.exp(theta[:2] + theta[2:] * np.log([n0, s0])).tolist() + theta[2:].tolist()
        if row == 0:
            reached = bool(solution.converged[0])
    return constants_RP, reached


# --- the procedure ---------------------------------------------------------------------------------------


def estimate(columns: Columns, loss: Array, weights_RN: Array, _options: Options) -> Steps:
    """The six constants of L(N, B, S), and how far its curves lie from the measured ones.

    1. alpha_N and N_c from the asymptotes of all curves.
    2. alpha_B and B_star from the steps to several levels of the loss, at every size with three batch sizes or more.
    3. S_min of every point by its measured loss; alpha_S and S_c from the excess over the asymptote.
    4. N_c, alpha_N, S_c and alpha_S together.

    Args:
        columns: `n_params`, `batch_tokens`, `step`, and `curve` as codes.

    Raises:
        FitError: a curve has two sizes or batch sizes, or too few late points; there is one size only, no size with
            three batch sizes, or a critical batch size that does not grow.
    """
    curves = _read(columns, loss, weights_RN)
    log_a, alpha_n = _size_law(curves)
    log_star, inverse, warnings = _batch_law(curves)
    crit_RN = np.exp(log_star[:, None] - inverse[:, None] * np.log(curves.loss_N))
    min_steps_RN = min_steps(curves.step_N, curves.at_points(curves.batch_K), crit_RN)
    log_a_s, alpha_s = _steps_law(curves, log_a, alpha_n, min_steps_RN)
    polished, reached = _polish(curves, np.stack([log_a, log_a_s, alpha_n, alpha_s], axis=1), min_steps_RN)
    if not np.isfinite(polished[0]).all():
        raise FitError(
            f"loss: too few points {WINDOW[0]:g} to {WINDOW[1]:g} nats above the asymptotes that the curves point to; "
            "allowed: longer curves of constant learning rate"
        )
    a_n, a_s, alpha_n, alpha_s = polished.T
    params = {
        "alpha_N": alpha_n,
        "N_c": scale(a_n, alpha_n),
        "alpha_B": 1 / inverse,
        "B_star": np.exp(log_star),
        "alpha_S": alpha_s,
        "S_c": scale(a_s, alpha_s),
    }

    points = {
        "curve": curves.code_K[curves.curve_N],
        "n_params": curves.at_points(curves.n_params_K),
        "batch_tokens": curves.at_points(curves.batch_K),
        "step": curves.step_N,
        "loss": curves.loss_N,
        "min_steps": min_steps_RN[0],
    }
    predicted = predict(points, **{name: values[0] for name, values in params.items()})["predicted"]
    residuals = np.log(predicted / curves.loss_N)
    if not reached:
        warnings.append("the optimum of the law of size and steps was not reached")
    last_K = np.array([curves.of(k)[0][-1] for k in range(len(curves.code_K))])
    error = float(np.abs(np.expm1(residuals[curves.step_N > LATE * last_K[curves.curve_N]])).mean())
    if error > ACCEPTED:
        warnings.append(
            f"the fitted curves are off by {error:.1%} on average after a tenth of training; above {ACCEPTED:.0%} "
            "the curves are noisy, or the laws do not describe them"
        )
    return Steps(params, residuals, points, tuple(warnings))


LAWS = (
    Procedure(
        name="unraveling",
        formula="S = S_c / (L - (N_c / N)^alpha_N)^(1 / alpha_S) (1 + B_star / (B L^(1 / alpha_B)))",
        question="the loss curve of another size and batch size, before it is trained (constant learning rate)",
        source="Su et al. 2024, arXiv 2403.06563",
        columns=(N, BATCH, STEP),
        parameters=PARAMETERS,
        estimate=estimate,
        inputs=(N, BATCH, STEP),
        predict=predict,
        labels="curve",
        resample="groups",
    ),
)

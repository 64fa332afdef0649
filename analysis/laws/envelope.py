"""Approach 1: the lower envelope of training curves, then power laws of compute through it.

Shape letters: R weightings of the points (the first leaves them as they are), N points, J curves, G places of the
grid of compute, S sizes.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.fitter.formula import Option, Options
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.allocation import FLOPS, PARAMETERS, fit_allocation, predict_allocation, residuals_of
from analysis.laws.chinchilla import D, N
from analysis.tables.columns import Array, Columns, FitError
from conf.command_line import counted

PLACES = 1500
FEW = 5

OPTIONS = (
    Option(
        "smooth", "each curve's ln loss is a local line over this much of ln compute on either side; 0: as it is", 0.1
    ),
)


def smooth_curve(x: Array, y: Array, reach: float) -> Array:
    """Value at each x (n,), sorted, of the line through the points within `reach` of it.

    Local lines do not lift the end of a falling curve, as local means do (Cleveland 1979, section 2). A point with
    fewer than two others near it stays as it is.
    """
    u, v = x - x.mean(), y - y.mean()
    begin = np.searchsorted(x, x - reach, side="left")
    end = np.searchsorted(x, x + reach, side="right")
    sums = np.concatenate([np.zeros((5, 1)), np.cumsum([np.ones_like(u), u, v, u * u, u * v], axis=1)], axis=1)
    n, su, sv, suu, suv = sums[:, end] - sums[:, begin]
    spread = suu - su**2 / n
    enough = (n >= 3) & (spread > 1e-9 * n * max(reach, 1e-3) ** 2)
    slope = (suv - su * sv / n) / np.where(enough, spread, 1.0)
    return np.where(enough, sv / n + slope * (u - su / n) + y.mean(), y)


def estimate(columns: Columns, loss: Array, weights_RN: Array, options: Options) -> Steps:
    """Power laws through the runs of least loss at each compute.

    At 1500 places of ln C the best curve is found, by linear interpolation of its smoothed ln loss. A place counts
    where a smaller and a larger model than the best one were compared with it: at an edge the optimum may lie beyond.

    The best size climbs with C in steps. A regression over all places of a stair of m equal steps gives 1 - 1/m^2 of
    its slope, since along a step N does not grow with C. The power laws therefore go through the middle of each step,
    weighted by its length, which has no such bias. (The paper regresses over all places; it had many sizes.)

    The envelope is found once, and a resample counts each place as often as the curve that is best there. To search
    the envelope of a resample again would be no draw from this design but a coarser one: it lacks a third of the
    sizes, and its intervals are ten times too wide.

    Args:
        columns: `n_params`, `flops`, `curve` (codes), and `n_tokens` where the table has it; without it
            D = C / (6 N).

    Raises:
        FitError: a curve changes its size, or fewer than two sizes are best anywhere inside.
    """
    smooth = _read_options(options)
    curve = columns["curve"].astype(int)
    log_n, log_c = np.log(columns["n_params"]), np.log(columns["flops"])
    log_d = np.log(columns["n_tokens"]) if "n_tokens" in columns else log_c - math.log(6) - log_n
    _, first_row = np.unique(curve, return_index=True)
    _check_sizes(log_n, log_n[first_row][curve])

    grid_G = np.linspace(log_c.min(), log_c.max(), PLACES)
    log_loss_JG, log_d_JG = np.empty((2, len(first_row), PLACES))
    for j in range(len(first_row)):
        rows = np.flatnonzero(curve == j)
        rows = rows[np.argsort(log_c[rows], kind="stable")]
        y = smooth_curve(log_c[rows], np.log(loss[rows]), smooth)
        log_loss_JG[j] = np.interp(grid_G, log_c[rows], y, left=np.inf, right=np.inf)
        log_d_JG[j] = np.interp(grid_G, log_c[rows], log_d[rows])

    best_G = np.argmin(log_loss_JG, axis=0)
    log_n_J = log_n[first_row]
    reached = np.isfinite(log_loss_JG)
    smallest = np.where(reached, log_n_J[:, None], np.inf).min(axis=0)
    largest = np.where(reached, log_n_J[:, None], -np.inf).max(axis=0)
    inside = np.flatnonzero((smallest < log_n_J[best_G]) & (log_n_J[best_G] < largest))
    best_G, grid_G = best_G[inside], grid_G[inside]
    log_n_S, step_G = np.unique(log_n_J[best_G], return_inverse=True)
    if len(log_n_S) < 2:
        raise FitError(
            f"envelope: {counted(len(log_n_S), 'size')} of {len(np.unique(log_n_J))} with the lowest loss somewhere "
            "between a smaller and a larger one at equal flops; at least 2 are needed"
        )

    of_step = (step_G[:, None] == np.arange(len(log_n_S))).astype(float)
    count_RG = weights_RN[:, first_row][:, best_G]
    weight_RS = count_RG @ of_step
    middle_RS = (count_RG * grid_G) @ of_step / np.maximum(weight_RS, 1)
    log_loss_RS = np.interp(middle_RS, grid_G, log_loss_JG[best_G, inside])
    log_d_RS = (count_RG * log_d_JG[best_G, inside]) @ of_step / np.maximum(weight_RS, 1)
    log_n_RS = np.broadcast_to(log_n_S, weight_RS.shape)
    params, warnings = fit_allocation(middle_RS, log_n_RS, log_d_RS, np.exp(log_loss_RS), weight_RS)
    if len(log_n_S) < FEW:
        warnings.append(
            f"only {len(log_n_S)} sizes are best between a smaller and a larger one; the intervals rest on their "
            f"scatter about a line, and {FEW} or more are needed"
        )
    points = {
        "flops": np.exp(middle_RS[0]),
        "n_params_opt": np.exp(log_n_S),
        "n_tokens_opt": np.exp(log_d_RS[0]),
        "loss_opt": np.exp(log_loss_RS[0]),
        "flops_low": np.exp([grid_G[step_G == s].min() for s in range(len(log_n_S))]),
        "flops_high": np.exp([grid_G[step_G == s].max() for s in range(len(log_n_S))]),
    }
    return Steps(params, residuals_of(params, points), points, tuple(warnings))


def _read_options(options: Options) -> float:
    """How far the smoothing reaches; raises `FitError`."""
    chosen = {option.name: option.default for option in OPTIONS} | dict(options)
    try:
        smooth = float(chosen["smooth"])
    except (TypeError, ValueError):
        smooth = math.nan
    if not 0 <= smooth <= 1:
        raise FitError(f"smooth: {chosen['smooth']!r} is not allowed; allowed: 0 to 1, in units of ln compute")
    return smooth


def _check_sizes(log_n: Array, expected: Array) -> None:
    differs = np.flatnonzero(log_n != expected)
    if len(differs):
        two = [f"{math.exp(log[differs[0]]):.6g}" for log in (expected, log_n)]
        raise FitError(f"n_params: {two[0]} and {two[1]} on the same curve; allowed: one size for each curve")


LAWS = (
    Procedure(
        name="envelope",
        formula="N* = k C^a, D* = k_D C^b, L* = E + A C^-c, through the best of all training curves at each C",
        question="how many parameters and tokens are best at a budget of compute (approach 1)",
        source="Hoffmann et al. 2022, arXiv 2203.15556, section 3.1",
        columns=(N, FLOPS),
        optional=(D,),
        parameters=PARAMETERS,
        estimate=estimate,
        inputs=(FLOPS,),
        predict=predict_allocation,
        choices=OPTIONS,
        labels="curve",
        resample="groups",
    ),
)

"""Approach 2: the minimum of each IsoFLOP curve, then power laws of compute through the minima.

Shape letters: R weightings of the points (the first leaves them as they are), N points, K sizes of one budget,
B budgets.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Option, Options
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.allocation import FLOPS, PARAMETERS, fit_allocation, predict_allocation, residuals_of
from analysis.laws.chinchilla import D, N
from analysis.tables.columns import Array, Columns, FitError
from conf.command_line import counted, human

# Runs of one budget differ by the rounding of their steps, budgets of one study by a factor of 1.5 or more.
SAME_BUDGET = 0.05
NEIGHBOURS = 2
FINER = 25

# Beyond this factor on either side of the best size, the asymmetry of an IsoFLOP curve moves a parabola's vertex.
WIDE = 5.0

OPTIONS = (
    Option("method", "parabola, or akima: Akima's interpolation of ln loss over ln N", "parabola"),
    Option(
        "window",
        f"what a parabola goes through: so many sizes on each side of the best one ({NEIGHBOURS} unless given), "
        "or the sizes within a factor of it, as 4x",
    ),
)


class Minima(NamedTuple):
    """The minimum of one IsoFLOP curve in every weighting, each (R,); nan where there is none inside the sizes.

    `low` and `high` are the smallest and largest ln N that it was read from; `curvature` is that of the parabola,
    d2 L / d (ln N)^2, and nan for Akima's curve.
    """

    log_n: Array
    loss: Array
    curvature: Array
    low: Array
    high: Array


def budgets(columns: Columns) -> NDArray[np.int64]:
    """Which budget of `flops` each run belongs to (N,), counted from the smallest.

    Runs sorted by compute form one budget until a step of more than 5 %. A fixed rounding would instead tear apart
    two runs that happen to lie on either side of a limit.

    Raises:
        FitError: a chain of small steps spans more than 20 %: compute varies without gaps.
    """
    flops = columns["flops"]
    order = np.argsort(flops, kind="stable")
    log_c = np.log(flops[order])
    sorted_codes = np.concatenate([[0], np.cumsum(np.diff(log_c) > np.log1p(SAME_BUDGET))])
    for code in np.flatnonzero(np.bincount(sorted_codes) > 1):
        low, high = flops[order][sorted_codes == code][[0, -1]]
        if high > low * 1.2:
            raise FitError(
                f"flops: no budgets to tell apart between {low:.3g} and {high:.3g}; allowed: runs within a few percent "
                f"of their budget, and budgets more than {SAME_BUDGET:.0%} apart"
            )
    codes = np.empty(len(flops), dtype=np.int64)
    codes[order] = sorted_codes
    return codes


def parabola(x_K: Array, loss_RK: Array, count_RK: Array, *, neighbours: float, factor: float = math.inf) -> Minima:
    """Vertex of the least-squares parabola of loss over x = ln N around the best size.

    Hoffmann et al. 2022 (arXiv 2203.15556), section 3.2, there through all sizes. Here through those sizes at most
    `neighbours` places and a `factor` of N away from the best one, since IsoFLOP curves are steeper on one side
    where alpha and beta differ.

    Args:
        loss_RK: mean loss of each size; anything where `count_RK` is 0.
        count_RK: runs of each size.
    """
    present = count_RK > 0
    best = np.argmin(np.where(present, loss_RK, np.inf), axis=1)[:, None]
    place = np.cumsum(present, axis=1)
    near = np.abs(place - np.take_along_axis(place, best, axis=1)) <= neighbours
    near &= present & (np.abs(x_K - x_K[best]) <= math.log(factor) * (1 + 1e-9))
    weight = np.where(near, count_RK, 0.0)
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1)  # a resample may hold no run of this budget

    def mean(values_RK: Array) -> Array:
        average: Array = (weight * values_RK).sum(axis=1, keepdims=True) / total
        return average

    # In polynomials that are orthogonal under the weights, each coefficient is a quotient of two sums.
    p = x_K - mean(np.broadcast_to(x_K, weight.shape))
    m2 = mean(p**2)
    enough = (near.sum(axis=1, keepdims=True) >= 3) & (m2 > 0)
    skew = mean(p**3) / np.where(enough, m2, 1.0)
    q = p**2 - skew * p - m2
    y = np.where(near, loss_RK, 0.0)
    level = mean(y)
    slope = mean(p * (y - level)) / np.where(enough, m2, 1.0)
    curvature = mean(q * (y - level)) / np.where(enough, mean(q**2), 1.0)
    convex = enough & (curvature > 1e-9 * level)  # else flat, but for rounding
    at = (skew - slope / np.where(convex, curvature, 1.0)) / 2
    log_n = at + x_K - p  # x_K - p is the mean of x, in every column
    log_n = log_n[:, :1]
    low = np.where(near, x_K, np.inf).min(axis=1, keepdims=True)
    high = np.where(near, x_K, -np.inf).max(axis=1, keepdims=True)
    inside = convex & ~_at_edge(present, best) & (low < log_n) & (log_n < high)
    loss = level + slope * at + curvature * (at**2 - skew * at - m2)
    minimum = (log_n, loss, 2 * curvature, low, high)
    return Minima(*(np.where(inside, values, np.nan)[:, 0] for values in minimum))


def akima(x_K: Array, loss_RK: Array, count_RK: Array) -> Minima:
    """Minimum of Akima's curve of ln loss over x = ln N, on a grid 25 times finer than the sizes.

    Porian et al. 2024 (arXiv 2406.19146), section 3. The curve depends only on the means of the sizes that are
    present, so that equal weightings are interpolated once.
    """
    means, which = np.unique(np.where(count_RK > 0, loss_RK, np.inf), axis=0, return_inverse=True)
    minimum = np.full((len(means), 5), np.nan)
    for row, loss_K in enumerate(means):
        sizes = np.isfinite(loss_K)
        if sizes.sum() < 3:
            continue
        grid, curve = akima_curve(x_K[sizes], loss_K[sizes])
        lowest = int(np.argmin(curve))
        if 0 < lowest < len(grid) - 1:
            minimum[row] = grid[lowest], curve[lowest], np.nan, grid[0], grid[-1]
    return Minima(*minimum[which.ravel()].T)


def akima_curve(x_K: Array, loss_K: Array) -> tuple[Array, Array]:
    """Grid of ln N and the interpolated loss on it; `x_K` increases, and holds at least three sizes."""
    from scipy.interpolate import Akima1DInterpolator  # dear to import, and only used here

    grid = np.linspace(x_K[0], x_K[-1], (len(x_K) - 1) * FINER)
    return grid, np.exp(Akima1DInterpolator(x_K, np.log(loss_K))(grid))


def _at_edge(present_RK: NDArray[np.bool_], best_R1: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether no present size lies below the best one, or none above it (R, 1)."""
    first = np.argmax(present_RK, axis=1)[:, None]
    last = present_RK.shape[1] - 1 - np.argmax(present_RK[:, ::-1], axis=1)[:, None]
    edge: NDArray[np.bool_] = (best_R1 == first) | (best_R1 == last)
    return edge


# --- the procedure ---------------------------------------------------------------------------------------


def estimate(columns: Columns, loss: Array, weights_RN: Array, options: Options) -> Steps:
    """N*, D* and the loss at each budget's minimum, and their power laws in compute.

    The line gives every budget the same weight: a vertex must lie inside its window, which bounds its error, and
    variances from the bootstrap would make the estimate depend on the seed of its own intervals.

    Args:
        columns: `n_params`, `flops`, `group` (see `budgets`), and `n_tokens` where the table has it; without it
            D = C / (6 N).

    Raises:
        FitError: fewer than two budgets have a minimum inside their sizes.
    """
    method, window = _read_options(options)
    codes = columns["group"].astype(int)
    log_n, log_c = np.log(columns["n_params"]), np.log(columns["flops"])
    log_d = np.log(columns["n_tokens"]) if "n_tokens" in columns else log_c - math.log(6) - log_n
    n_budgets = int(codes.max()) + 1
    log_c_B = np.array([log_c[codes == code].mean() for code in range(n_budgets)])
    minima, log_d_opt, warnings = [], [], []
    for code in range(n_budgets):
        rows = codes == code
        x_K, size = np.unique(log_n[rows], return_inverse=True)
        of_size = (size[:, None] == np.arange(len(x_K))).astype(float)
        count_RK = weights_RN[:, rows] @ of_size
        loss_RK = (weights_RN[:, rows] * loss[rows]) @ of_size / np.maximum(count_RK, 1)
        minimum = akima(x_K, loss_RK, count_RK) if method == "akima" else parabola(x_K, loss_RK, count_RK, **window)
        minima.append(minimum)
        log_d_opt.append(np.interp(minimum.log_n, x_K, log_d[rows] @ of_size / of_size.sum(axis=0)))
        warnings += _complaints(math.exp(log_c_B[code]), x_K, loss_RK[0], minimum)

    stacked = Minima(*(np.stack(values, axis=1) for values in zip(*minima, strict=True)))
    kept = np.isfinite(stacked.log_n)
    if kept[0].sum() < 2:
        raise FitError(
            f"isoflop: a minimum inside the sizes in {kept[0].sum()} of {counted(n_budgets, 'budget')}; "
            "at least 2 are needed" + "".join(f"; {sentence}" for sentence in warnings[:1])
        )
    log_d_RB = np.stack(log_d_opt, axis=1)
    params, more = fit_allocation(log_c_B, stacked.log_n, log_d_RB, stacked.loss, kept.astype(float))
    first = {name: values[0, kept[0]] for name, values in stacked._asdict().items()}
    points = {
        "flops": np.exp(log_c_B[kept[0]]),
        "n_params_opt": np.exp(first["log_n"]),
        "n_tokens_opt": np.exp(log_d_RB[0, kept[0]]),
        "loss_opt": first["loss"],
        "n_params_low": np.exp(first["low"]),
        "n_params_high": np.exp(first["high"]),
    }
    if method == "parabola":
        points["curvature"] = first["curvature"]
        warnings += _too_wide(points)
    return Steps(params, residuals_of(params, points), points, (*warnings, *more))


def _read_options(options: Options) -> tuple[str, dict[str, float]]:
    """The method, and how far the parabola's window reaches; raises `FitError`."""
    chosen = {option.name: option.default for option in OPTIONS} | dict(options)
    method, window = chosen["method"], chosen["window"]
    if method not in ("parabola", "akima"):
        raise FitError(f"method: {method!r} is not allowed; allowed: parabola, akima")
    if window is None:
        return method, {"neighbours": NEIGHBOURS}
    if method == "akima":
        raise FitError(f"window: {window!r} has no say in Akima's curve; allowed: with method=parabola")
    text = str(window)
    try:
        reach = float(text.removesuffix("x"))
    except ValueError:
        reach = math.nan
    if text.endswith("x") and 1 < reach < math.inf:
        return method, {"neighbours": math.inf, "factor": reach}
    if not text.endswith("x") and reach >= 1 and reach == int(reach):
        return method, {"neighbours": reach}
    raise FitError(
        f"window: {text!r} is not allowed; allowed: sizes on each side of the best one, as 2, or a factor, as 4x"
    )


def _complaints(flops: float, x_K: Array, loss_K: Array, minimum: Minima) -> list[str]:
    """Why a budget has no minimum, or has none in most of its resamples."""
    which = f"budget of {flops:.3g} FLOPs"
    if np.isnan(minimum.log_n[0]):
        best = int(np.argmin(loss_K))
        if len(x_K) < 3:
            return [f"{which} left out: {counted(len(x_K), 'size')}, and a minimum takes three"]
        if best in (0, len(x_K) - 1):
            edge = "smallest" if best == 0 else "largest"
            return [
                f"{which} left out: its lowest loss lies at the {edge} size, {human(math.exp(x_K[best]))} parameters, "
                "so that the optimum may lie beyond"
            ]
        return [f"{which} left out: the curve around its lowest loss has no minimum inside"]
    share = float(np.isfinite(minimum.log_n[1:]).mean()) if len(minimum.log_n) > 1 else 1.0
    return [f"{which}: a minimum in only {share:.0%} of the resamples; more sizes are needed"] if share < 0.5 else []


def _too_wide(points: Columns) -> list[str]:
    reach = np.maximum(
        points["n_params_high"] / points["n_params_opt"], points["n_params_opt"] / points["n_params_low"]
    )
    if (reach <= WIDE).all():
        return []
    return [
        f"parabolas reach {reach.max():.2g}x away from their minima; beyond {WIDE:g}x they misplace them where alpha "
        "and beta differ; use window=2x or a chinchilla fit"
    ]


LAWS = (
    Procedure(
        name="isoflop",
        formula="N* = k C^a, D* = k_D C^b, L* = E + A C^-c, through the minima of L over ln N at each C",
        question="how many parameters and tokens are best at a budget of compute (approach 2)",
        source="Hoffmann et al. 2022, arXiv 2203.15556, section 3.2; Akima: Porian et al. 2024, arXiv 2406.19146",
        columns=(N, FLOPS),
        optional=(D,),
        parameters=PARAMETERS,
        estimate=estimate,
        inputs=(FLOPS,),
        predict=predict_allocation,
        choices=OPTIONS,
        groups=budgets,
        resample="within groups",
    ),
)

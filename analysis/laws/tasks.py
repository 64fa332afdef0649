"""What small models say about tasks and instabilities: pass rates, attention logits, sensitivity to the learning rate.

Shape letters: I items of a task, N points (sizes), R weightings of the points (the first leaves them as they are),
K learning rates of one size, B sizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.law import Law
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.chinchilla import N
from analysis.laws.power import exponent
from analysis.tables.columns import Array, Column, Columns, FitError

# --- passing a task ----------------------------------------------------------------------------------------

PASS_RATE = Column("pass_rate", "probability that one sampled answer passes", "1")


def pass_until(columns: Columns, *, c: Any, alpha: Any) -> Array:
    """PU = exp(-c N^-alpha): the pass rate of a task whose answer's loss is c N^-alpha, without a floor.

    Hu et al. 2023 (arXiv 2310.03262), equation 3. F = ln(-ln PU) = ln c - alpha ln N is a line in ln N; a convex F
    means slower growth than the law's, a concave one "accelerated emergence".
    """
    rate: Array = np.exp(-c * np.exp(-alpha * np.log(columns["n_params"])))
    return rate


def unbiased_pass_rate(successes: Any, draws: Any, *, until: int) -> Array:
    """Pass rate of items from which answers were sampled until so many passed, or until sampling was cut short.

    An item that reached `until` successes gives (r - 1) / (K - 1), since its last draw passed by construction; r / K,
    the estimate of Hu et al. 2023, is too large by about p / (r - 1), and at r = 1 by a factor
    ln(1 / p). A censored item gives r / K. The two together are unbiased for any limit on the draws (Girshick,
    Mosteller and Savage 1946, Annals of Mathematical Statistics 17, theorem 3).

    Args:
        successes: passed answers r of each item (I,); fewer than `until` where sampling was cut short.
        draws: sampled answers K of each item (I,).
        until: successes after which sampling stops; at least 2.

    Raises:
        FitError: `until` is below 2, or counts that such sampling cannot give.
    """
    r, K = np.asarray(successes), np.asarray(draws)
    if until < 2:
        raise FitError(
            f"until: {until} is not allowed; allowed: at least 2, since one success has no unbiased estimate"
        )
    possible = (r % 1 == 0) & (K % 1 == 0) & (r >= 0) & (r <= until) & (r <= K) & (K > 0)
    if not possible.all():
        row = int(np.flatnonzero(~np.atleast_1d(possible))[0])
        raise FitError(
            f"item {row + 1}: {np.atleast_1d(r)[row]:g} successes in {np.atleast_1d(K)[row]:g} draws is not allowed; "
            f"allowed: whole numbers, at most {until} successes and at least as many draws"
        )
    stopped = r == until
    return np.where(stopped, (r - 1) / np.where(stopped, K - 1, 1), r / K)


def task_coordinate(pass_rate: Any) -> Array:
    """F = ln(-ln PU), which the law makes a line in ln N; nan where PU is 0, 1 or no probability."""
    rate = np.asarray(pass_rate, dtype=float)
    inside = (rate > 0) & (rate < 1)
    return np.where(inside, np.log(-np.log(np.where(inside, rate, 0.5))), np.nan)


def fit_instances(n_params: Any, pass_rate_IN: Any) -> tuple[Array, Array]:
    """c and alpha of every item of a task, each (I,): least squares of F over ln N (Hu et al. 2023).

    Where sampling found no success, the probability of the reference answer, e^-loss, may stand in for the pass
    rate, as the paper does.

    Args:
        n_params: (N,).
        pass_rate_IN: (I, N); what does not lie between 0 and 1 is left out.

    Returns:
        nan for an item with fewer than two sizes left.

    Raises:
        FitError: the shapes do not match.
    """
    log_n, F_IN = np.log(np.asarray(n_params, dtype=float)), task_coordinate(pass_rate_IN)
    if F_IN.ndim != 2 or log_n.shape != F_IN.shape[1:]:
        raise FitError(f"pass_rate: of shape {F_IN.shape}; allowed: (items, {len(log_n)}), a column for each size")
    weights_IN = np.isfinite(F_IN).astype(float)
    intercept, slope = _lines(log_n, np.where(weights_IN > 0, F_IN, 0.0), weights_IN)
    return np.exp(intercept), -slope


def mean_pass_rate(n_params: Any, c_I: Array, alpha_I: Array) -> Array:
    """The task's pass rate at each size (N,): the mean over items of exp(-c N^-alpha), without items that are nan."""
    fitted = np.isfinite(c_I) & np.isfinite(alpha_I)
    if not fitted.any():
        raise FitError("no item has a fit; allowed: pass rates between 0 and 1 at two sizes or more")
    columns = {"n_params": np.asarray(n_params, dtype=float)}
    mean: Array = pass_until(columns, c=c_I[fitted, None], alpha=alpha_I[fitted, None]).mean(axis=0)
    return mean


def _lines(x_N: Array, y_RN: Array, weights_RN: Array) -> tuple[Array, Array]:
    """Intercepts and slopes (R,) of weighted least squares; nan with fewer than two different x."""
    total = np.maximum(weights_RN.sum(axis=1), 1e-300)
    x, y = weights_RN @ x_N / total, (weights_RN * y_RN).sum(axis=1) / total
    away_RN = x_N - x[:, None]
    spread = (weights_RN * away_RN**2).sum(axis=1)
    enough = spread > 1e-12 * total
    slope = (weights_RN * away_RN * (y_RN - y[:, None])).sum(axis=1) / np.where(enough, spread, np.nan)
    return y - slope * x, slope


# --- growth of attention logits ----------------------------------------------------------------------------

REFERENCE_SIZE = 1e7  # the middle of the sizes studied; powers of N / 1e7 are far less collinear than those of N
UNSTABLE_LOGIT = 1e4  # every run of Wortsman et al. above it diverged (figure 9)


def logit_growth(columns: Columns, *, A: Any, b: Any, c: Any) -> Array:
    """ln(max logit) = ln A + b u + c u^2 with u = ln(N / 1e7): a quadratic in ln N.

    Wortsman et al. 2023 (arXiv 2309.14322), figure 9: the largest attention logit of block 0 at a fixed early step,
    one fit for each learning rate.
    """
    u = np.log(columns["n_params"] / REFERENCE_SIZE)
    logit: Array = A * np.exp((b + c * u) * u)
    return logit


def _logit_growth_gradient(columns: Columns, *, A: Any, b: Any, c: Any) -> tuple[Array, ...]:
    u = np.log(columns["n_params"] / REFERENCE_SIZE)
    growth = np.exp((b + c * u) * u)
    return growth + 0 * A, A * growth * u, A * growth * u**2


def _crossing(params: Columns) -> dict[str, Array]:
    """The size at which the growing logit passes 1e4, nan if it never does; and the same quadratic in plain ln N."""
    log_a, b, c = np.log(params["A"]), params["b"], params["c"]
    rise = math.log(UNSTABLE_LOGIT) - log_a
    with np.errstate(all="ignore"):
        # Of the two roots the one where the curve goes up, in the form that stays exact as c goes to 0.
        u = 2 * rise / (b + np.sqrt(b**2 + 4 * c * rise))
        size = REFERENCE_SIZE * np.exp(u)
    u0 = math.log(REFERENCE_SIZE)
    return {
        "n_params_unstable": np.where(size < 1e100, size, np.nan),  # of flat logits: no size that anyone will train
        "constant_of_ln_N": log_a - b * u0 + c * u0**2,
        "slope_of_ln_N": b - 2 * c * u0,
    }


# --- sensitivity to the learning rate ----------------------------------------------------------------------

LOSS_AT_INIT = Column("loss_at_init", "loss of the same evaluation before training", "nats per token")
LR = Column("lr", "peak learning rate", "its own")


def lr_sensitivity(columns: Columns, loss: Array, weights_RN: Array, _options: Options) -> Steps:
    """The sensitivity of each size to its learning rate, and a power law through them.

    S = mean over learning rates of min(loss, loss at initialisation) - the smallest of these losses
    (Wortsman et al. 2023, arXiv 2309.14322, section 2), over one grid of log-spaced learning rates for all sizes;
    seeds of one learning rate are averaged first. Then S = A N^s by least squares of ln S. A run that
    diverged counts with its loss at initialisation, so any larger loss may stand for it.

    Raises:
        FitError: fewer than two sizes, or a size with fewer than three learning rates.
    """
    sizes, size_N = np.unique(columns["n_params"], return_inverse=True)
    if len(sizes) < 2:
        raise FitError(f"lr_sensitivity: {len(sizes)} size cannot determine a power law; at least 2 are needed")
    capped = np.minimum(loss, columns["loss_at_init"])
    seeds = _least_seeds(columns) > 1
    S, best, lr_best, grids = [], [], [], []
    for code, size in enumerate(sizes):
        rows = size_N == code
        lr_K, lr_N = np.unique(columns["lr"][rows], return_inverse=True)
        if len(lr_K) < 3:
            raise FitError(f"lr_sensitivity: {len(lr_K)} learning rates at n_params {size:g}; at least 3 are needed")
        of_lr = (lr_N[:, None] == np.arange(len(lr_K))).astype(float)
        count_RK = weights_RN[:, rows] @ of_lr
        mean_RK = (weights_RN[:, rows] * capped[rows]) @ of_lr / np.maximum(count_RK, 1)
        n_K = of_lr.sum(axis=0)
        if seeds:
            # Draws of n seeds among n vary too little, by (n - 1) / n (Rao and Wu 1988, JASA 83).
            mean_RK = mean_RK[0] + np.sqrt(n_K / (n_K - 1)) * (mean_RK - mean_RK[0])
        share_RK = count_RK / n_K  # all one, unless the learning rates themselves are drawn
        best.append(np.where(share_RK > 0, mean_RK, np.inf).min(axis=1))
        S.append((share_RK * mean_RK).sum(axis=1) / share_RK.sum(axis=1) - best[-1])
        lr_best.append(lr_K[np.argmin(mean_RK[0])])
        grids.append(lr_K)

    S_RB, best_RB = np.stack(S, axis=1), np.stack(best, axis=1)
    there = S_RB / best_RB > 1e-12  # else all draws of a size have one learning rate
    log_a, s = _lines(np.log(sizes), np.log(np.where(there, S_RB, 1.0)), there.astype(float))
    params = {"A": np.exp(log_a), "s": s}
    points = {
        "n_params": sizes,
        "lr_sensitivity": S_RB[0],
        "loss_best": best_RB[0],
        "lr_best": np.array(lr_best),
    }
    used = there[0]
    residuals = log_a[0] + s[0] * np.log(sizes[used]) - np.log(S_RB[0, used])
    complaints = _grid_complaints(sizes, grids, points["lr_best"], used)
    if not seeds:
        complaints.append(
            "some learning rates have one seed, so that the intervals are too wide; allow two seeds or more"
        )
    return Steps(params, residuals, points, tuple(complaints))


def _cells(columns: Columns) -> NDArray[np.int64]:
    """What the bootstrap draws within (N,): the seeds of each size and learning rate, since the grid is no chance.

    The spread then hangs on the few seeds of each size's best cell: in simulations with two, three and five seeds the
    95 % intervals of s cover the truth in 84, 88 and 90 % of cases, with ten in 94 %. With a single seed somewhere it
    draws among all runs of a size, which takes the grid for a random sample and gives intervals that are too wide.
    """
    if _least_seeds(columns) > 1:
        return np.unique(_pairs(columns), axis=1, return_inverse=True)[1].reshape(-1)
    return np.unique(columns["n_params"], return_inverse=True)[1]


def _pairs(columns: Columns) -> Array:
    return np.stack([columns["n_params"], columns["lr"]])


def _least_seeds(columns: Columns) -> int:
    return int(np.unique(_pairs(columns), axis=1, return_counts=True)[1].min())


def _grid_complaints(sizes: Array, grids: list[Array], lr_best: Array, used: Any) -> list[str]:
    """What makes the sensitivities of different sizes incomparable."""
    complaints = []
    if any(len(grid) != len(grids[0]) or not np.allclose(grid, grids[0], rtol=1e-6) for grid in grids):
        complaints.append("sizes differ in their learning rates; the sensitivity is comparable on one grid only")
    steps = [np.diff(np.log(grid)) for grid in grids]
    if any(step.max() > 1.5 * step.min() for step in steps):
        complaints.append("learning rates are not evenly spaced in their logarithm, but weigh the same")
    edge = [f"{n:.3g}" for n, grid, lr in zip(sizes, grids, lr_best, strict=True) if lr in (grid[0], grid[-1])]
    if edge:
        complaints.append(f"the best learning rate lies at the edge of the grid at n_params {', '.join(edge)}")
    if not used.all():
        complaints.append(
            f"no sensitivity at n_params {', '.join(f'{n:.3g}' for n in sizes[~used])}: left out of the law"
        )
    return complaints


def predict_sensitivity(columns: Columns, *, A: Any, s: Any) -> dict[str, Array]:
    """S = A N^s."""
    return {"lr_sensitivity": np.exp(np.log(A) + s * np.log(columns["n_params"]))}


LAWS = (
    Law(
        name="pass_until",
        formula="PU = exp(-c N^-alpha)",
        question="how a task's pass rate grows with size, from rates far too small for a test set to resolve",
        source="Hu et al. 2023, arXiv 2310.03262",
        columns=(N,),
        parameters=(
            Parameter(
                "c",
                "coefficient of the answer's loss",
                starts=(0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
                carries=(("n_params", "alpha"),),
            ),
            exponent("alpha", "N"),
        ),
        function=pass_until,
        target=PASS_RATE,
        objective="lsq_log",  # sampling until r successes gives every small rate the same relative error
    ),
    Law(
        name="logit_growth",
        formula="ln max_logit = ln A + b ln(N / 1e7) + c ln(N / 1e7)^2",
        question="from which size on attention logits grow beyond 1e4, at one learning rate",
        source="Wortsman et al. 2023, arXiv 2309.14322, figure 9",
        columns=(N,),
        parameters=(
            Parameter("A", "largest attention logit at N = 1e7"),
            Parameter("b", "exponent at N = 1e7", -4.0, 4.0, starts=(-0.5, 0.0, 0.25, 0.5, 1.0)),
            Parameter(
                "c", "curvature: half of how the exponent grows with ln N", -1.0, 1.0, starts=(-0.05, 0.0, 0.05, 0.2)
            ),
        ),
        function=logit_growth,
        gradient=_logit_growth_gradient,
        target=Column("max_logit", "largest attention logit of block 0 at a fixed early step", "1"),
        objective="lsq_log",
        derived=_crossing,
    ),
    Procedure(
        name="lr_sensitivity",
        formula="S = mean over lr of min(loss, loss at init) - best loss; S = A N^s",
        question="how much a wrong learning rate costs, and how that grows with size",
        source="Wortsman et al. 2023, arXiv 2309.14322, section 2",
        columns=(N, LR, LOSS_AT_INIT),
        parameters=(
            Parameter("A", "sensitivity at one parameter, nats per token"),
            Parameter("s", "exponent of the sensitivity", lower=-math.inf, typical=(-1.0, 1.0)),
        ),
        estimate=lr_sensitivity,
        inputs=(N,),
        predict=predict_sensitivity,
        groups=_cells,
        resample="within groups",
    ),
)

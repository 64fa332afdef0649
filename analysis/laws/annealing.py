"""The loss at any step of a run under any schedule of the learning rate, from the schedule alone.

The laws read a loss curve's schedule lr_1 … lr_T, and what they need of it up to step s: its area
S1(s) = sum_{i<=s} lr_i, and its reductions lr_{i-1} - lr_i with the training that came after them.
Shape letters: S starts or resamples, N points, T steps, K knots.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.family import Family
from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import N
from analysis.laws.power import coefficient, exponent
from analysis.tables.columns import Array, Columns, FitError, read_column
from analysis.tables.curves import CURVE, LR, STEP, at_peak, trajectories

DECAY = Option(
    "decay", "lambda of S2 per step, at least 0 and below 1; S2 answers to an lr step within 1/(1-decay)", 0.999
)
WARMUP = Option("warmup", "peak: S1 and S2 as if the warm-up were at the peak, as published; true: as trained", "peak")
SOURCE = "Tissue et al. 2024, arXiv 2408.11029"


# --- annealing: area and annealing of a schedule -----------------------------------------------------------


def area(lr_T: Array) -> Array:
    """S1(s) = sum_{i<=s} lr_i, (T,). Tissue et al. 2024 (arXiv 2408.11029), the law of the abstract."""
    return np.cumsum(lr_T)


def annealing(lr_T: Array, decay: float) -> Array:
    """S2(s) = sum_{i<=s} m_i with m_i = decay m_{i-1} + (lr_{i-1} - lr_i) and m_1 = 0, (T,).

    Tissue et al. 2024 (arXiv 2408.11029), the law of the abstract. n steps after a single reduction by d,
    S2 is d (1 - decay^n) / (1 - decay).
    """
    from scipy.signal import lfilter  # dear to import, and only used here

    momentum_T = lfilter([1.0], [1.0, -decay], -np.diff(lr_T, prepend=lr_T[0]))
    summed: Array = np.cumsum(momentum_T)
    return summed


def read_areas(table: Any, options: Options) -> dict[str, Array]:
    """`area` S1 and `annealing` S2 at each row of a table, (N,).

    Args:
        table: what `analysis.tables.curves.trajectories` reads.
        options: `decay`, `warmup`.

    Raises:
        FitError: the curves are none.
    """
    curves = trajectories(table)
    variables = {name: np.empty(sum(len(curve.rows) for curve in curves)) for name in ("area", "annealing")}
    for curve in curves:
        lr_T = at_peak(curve.lr_T) if options["warmup"] == "peak" else curve.lr_T
        variables["area"][curve.rows] = area(lr_T)[curve.steps - 1]
        variables["annealing"][curve.rows] = annealing(lr_T, options["decay"])[curve.steps - 1]
    return variables


# --- the annealing law -------------------------------------------------------------------------------------


def lr_annealing(columns: Columns, *, L0: Any, A: Any, alpha: Any, C: Any) -> Array:
    """L = L0 + A S1^-alpha - C S2. Tissue et al. 2024 (arXiv 2408.11029), the law of the abstract."""
    loss: Array = L0 + A * np.exp(-alpha * np.log(columns["area"])) - C * columns["annealing"]
    return loss


def _lr_annealing_gradient(columns: Columns, *, L0: Any, A: Any, alpha: Any, C: Any) -> tuple[Array, ...]:
    log_area = np.log(columns["area"])
    power = np.exp(-alpha * log_area)
    return np.ones_like(power + L0), power + 0 * A, -A * power * log_area, -columns["annealing"] + 0 * C


def lr_annealing_size(columns: Columns, *, L0: Any, A: Any, alpha: Any, B: Any, beta: Any, C: Any, gamma: Any) -> Array:
    """L = L0 + A S1^-alpha + B N^-beta - C S2 N^gamma. Tissue et al. 2024 (arXiv 2408.11029), extension to sizes."""
    log_n = np.log(columns["n_params"])
    growth = A * np.exp(-alpha * np.log(columns["area"])) + B * np.exp(-beta * log_n)
    loss: Array = L0 + growth - C * columns["annealing"] * np.exp(gamma * log_n)
    return loss


def _lr_annealing_size_gradient(
    columns: Columns, *, L0: Any, A: Any, alpha: Any, B: Any, beta: Any, C: Any, gamma: Any
) -> tuple[Array, ...]:
    log_area, log_n = np.log(columns["area"]), np.log(columns["n_params"])
    power, size = np.exp(-alpha * log_area), np.exp(-beta * log_n)
    drop = columns["annealing"] * np.exp(gamma * log_n)
    return (
        np.ones_like(power + L0),
        power + 0 * A,
        -A * power * log_area,
        size + 0 * B,
        -B * size * log_n,
        -drop + 0 * C,
        -C * drop * log_n,
    )


def _resolve(table: Any, options: Options) -> dict[str, Any]:
    decay, warmup = options.get("decay", DECAY.default), options.get("warmup", WARMUP.default)
    if not _is_share(decay):
        raise FitError(f"decay: {decay} is not allowed; allowed: at least 0 and below 1")
    if warmup not in ("peak", "true"):
        raise FitError(f"warmup: {warmup} is not allowed; allowed: peak, true")
    complete = {"decay": float(decay), "warmup": warmup}
    if not read_areas(table, complete)["annealing"].any():
        raise FitError(
            "lr: falls in no curve, which leaves C without meaning; allowed: at least one curve that anneals"
        )
    return complete


def _is_share(value: Any) -> bool:
    try:
        return 0 <= float(value) < 1
    except (TypeError, ValueError):
        return False


def _saturation(params: Columns, *, decay: float) -> dict[str, Array]:
    """By how much the loss falls in the end for a reduction of the learning rate by one: C / (1 - decay)."""
    return {"drop_per_lr": params["C"] / (1 - decay)}


_FLOOR = Parameter("L0", "loss after infinite training at a constant learning rate, nats per token", floor=True)
_A = coefficient("A", "area", "alpha", "S1")
_ALPHA = exponent("alpha", "S1")


def _build_annealing(options: Options) -> Law:
    return Law(
        name="lr_annealing",
        formula="L = L0 + A S1^-alpha - C S2",
        question="the loss under any learning-rate schedule, from one or two curves",
        source=SOURCE,
        columns=(CURVE, STEP, LR),
        parameters=(
            _FLOOR,
            _A,
            _ALPHA,
            Parameter("C", "fall of the loss per unit of S2", carries=(("annealing", -1.0),)),
        ),
        function=lr_annealing,
        gradient=_lr_annealing_gradient,
        read=read_areas,
        derived=partial(_saturation, decay=float(options["decay"])),
        cluster=CURVE.name,
        options={"decay": float(options["decay"]), "warmup": options["warmup"]},
    )


def _read_sizes(table: Any, options: Options) -> dict[str, Array]:
    return read_areas(table, options) | {"n_params": read_column(table, N)}


def _build_annealing_size(options: Options) -> Law:
    return dataclasses.replace(
        _build_annealing(options),
        name="lr_annealing_size",
        formula="L = L0 + A S1^-alpha + B N^-beta - C S2 N^gamma",
        question="the loss under any learning-rate schedule at any size, from curves of a few sizes",
        columns=(CURVE, STEP, LR, N),
        parameters=(
            dataclasses.replace(_FLOOR, meaning=f"{_FLOOR.meaning}, of an infinite model"),
            _A,
            _ALPHA,
            coefficient("B", "n_params", "beta", "N"),
            exponent("beta", "N"),
            Parameter(
                "C", "fall of the loss per unit of S2 N^gamma", carries=(("annealing", -1.0), ("n_params", "-gamma"))
            ),
            Parameter(
                "gamma",
                "exponent of N in the fall by annealing",
                -1.0,
                1.0,
                starts=(-0.2, 0.0, 0.2),
                typical=(-0.5, 0.5),
            ),
        ),
        function=lr_annealing_size,
        gradient=_lr_annealing_size_gradient,
        read=_read_sizes,
        derived=None,
    )


# --- the multi-power law -----------------------------------------------------------------------------------

KNOTS = 16  # per sign of the reductions; exact where there are fewer, else within 1e-5 of a loss
_CELLS = 2_000_000  # of (S, N, K) at a time, 16 MB an array


def multi_power(columns: Columns, *, L0: Any, A: Any, alpha: Any, B: Any, C: Any, beta: Any, gamma: Any) -> Array:
    """L(t) = L0 + A S1(t)^-alpha - B sum_{k<=t} (lr_{k-1} - lr_k) G(lr_k^-gamma S_k(t)), G(x) = 1 - (1 + C x)^-beta.

    S_k(t) = sum_{k<=i<=t} lr_i. Luo et al. 2025 (arXiv 2503.12811), the Multi-Power Law, in the convention of their
    code: the warm-up belongs to both sums as it was trained, with lr_0 = 0. Its increments have G near 1, so that L0
    is what the loss tends to when the learning rate is lowered to zero; at a constant rate lr it tends to L0 + B lr.
    """
    (drop,) = _drop(columns, C, beta, gamma, slopes=False)
    loss: Array = L0 + A * np.exp(-alpha * np.log(columns["area"])) - B * drop
    return loss


def _multi_power_gradient(
    columns: Columns, *, L0: Any, A: Any, alpha: Any, B: Any, C: Any, beta: Any, gamma: Any
) -> tuple[Array, ...]:
    log_area = np.log(columns["area"])
    power = np.exp(-alpha * log_area)
    drop, by_C, by_beta, by_gamma = _drop(columns, C, beta, gamma, slopes=True)
    return (
        np.ones_like(power + L0),
        power + 0 * A,
        -A * power * log_area,
        -drop + 0 * B,
        -B * by_C,
        -B * by_beta,
        -B * by_gamma,
    )


def _drop(columns: Columns, C: Any, beta: Any, gamma: Any, *, slopes: bool) -> list[Array]:
    """The sum of G over the reductions, (S, N) or (N,), and if asked for its derivatives by C, beta and gamma.

    Few starts at a time, as an array of all starts, points and knots can be too large for the memory.
    """
    reduction_NK, log_lr_NK, log_left_NK = (columns[name] for name in ("reduction", "log_lr", "log_left"))
    shape = np.broadcast_shapes(np.shape(C), np.shape(beta), np.shape(gamma), (len(reduction_NK),))
    C_S, beta_S, gamma_S = (np.reshape(np.broadcast_to(p, (*shape[:-1], 1)), (-1, 1, 1)) for p in (C, beta, gamma))
    kind = np.result_type(C_S, beta_S, gamma_S, float)
    sums_SN = [np.empty((len(C_S), len(reduction_NK)), dtype=kind) for _ in range(4 if slopes else 1)]
    at_once = max(1, _CELLS // max(1, reduction_NK.size))
    for begin in range(0, len(C_S), at_once):
        rows = slice(begin, begin + at_once)
        x = np.exp(log_left_NK - gamma_S[rows] * log_lr_NK)
        log_q = np.log1p(C_S[rows] * x)
        rest = reduction_NK * np.exp(-beta_S[rows] * log_q)  # the part of each reduction that is still to come
        sums_SN[0][rows] = (reduction_NK - rest).sum(-1)
        if slopes:
            by_log_x = rest * beta_S[rows] * x * np.exp(-log_q)
            sums_SN[1][rows] = by_log_x.sum(-1)
            sums_SN[2][rows] = (rest * log_q).sum(-1)
            sums_SN[3][rows] = -(C_S[rows] * by_log_x * log_lr_NK).sum(-1)
    return [values.reshape(shape) for values in sums_SN]


def read_reductions(table: Any, _: Options, *, knots: int = KNOTS) -> dict[str, Array]:
    """`area` S1 (N,), and each row's reductions of the learning rate up to it, gathered into K knots, (N, K):
    `reduction` lr_{k-1} - lr_k, `log_lr` ln lr_k and `log_left` ln S_k(t), zero where a row has fewer.

    Raises:
        FitError: the curves are none.
    """
    curves = trajectories(table)
    n = sum(len(curve.rows) for curve in curves)
    area_N, gathered = np.empty(n), [np.empty((3, 0))] * n
    for curve in curves:
        area_T = area(curve.lr_T)
        area_N[curve.rows] = area_T[curve.steps - 1]
        for row, knots_3K in zip(curve.rows, _gather(curve.lr_T, area_T, curve.steps, knots), strict=True):
            gathered[row] = knots_3K
    width = max(1, *(values.shape[1] for values in gathered))
    padded = np.zeros((3, n, width))
    for row, values in enumerate(gathered):
        padded[:, row, : values.shape[1]] = values
    return {"area": area_N, "reduction": padded[0], "log_lr": padded[1], "log_left": padded[2]}


def _gather(lr_T: Array, area_T: Array, steps: NDArray[np.int64], knots: int) -> list[Array]:
    """Reduction, ln lr_k and ln S_k(t) of the knots at each of some steps t, each (3, K).

    Neighbouring reductions of one sign become one knot, with the mean of both logarithms, weighted by the
    reductions. The error of that grows with (mass of the knot) x (its width)², which the knots share equally.
    """
    falls_T = -np.diff(lr_T, prepend=0.0)
    floor = 1e-12 * lr_T.max()
    at_M = np.flatnonzero(np.abs(falls_T) > floor)
    fall_M, lr_M = falls_T[at_M], lr_T[at_M]
    log_lr_M, before_M = np.log(np.maximum(lr_M, floor)), (area_T - lr_T)[at_M]
    turn_M = np.abs(np.diff(log_lr_M, prepend=log_lr_M[0]))
    reductions = []
    for step in steps:
        until = int(np.searchsorted(at_M, step))
        left = np.maximum(area_T[step - 1] - before_M[:until], lr_M[:until])  # not below it by rounding
        # A last reduction to exactly zero has had no training after it, not even its own step.
        trained = left > floor
        fall, log_lr, log_left = fall_M[:until][trained], log_lr_M[:until][trained], np.log(left[trained])
        if len(fall) <= 2 * knots:
            reductions.append(np.stack([fall, log_lr, log_left]))
            continue
        width = np.abs(np.diff(log_left, prepend=log_left[0])) + turn_M[:until][trained]
        share = np.cumsum(np.cbrt(np.abs(fall) * width**2))
        bin_M = np.minimum((share / share[-1] * knots).astype(int), knots - 1) + knots * (fall < 0)
        _, bin_M = np.unique(bin_M, return_inverse=True)
        mass = np.bincount(bin_M, fall)
        reductions.append(np.stack([mass, *(np.bincount(bin_M, fall * value) / mass for value in (log_lr, log_left))]))
    return reductions


MULTI_POWER = Law(
    name="multi_power",
    formula="L = L0 + A S1^-alpha - B sum_k (lr_{k-1} - lr_k) (1 - (1 + C lr_k^-gamma S_k)^-beta)",
    question="the loss under any learning-rate schedule, with a slow answer to its reductions",
    source="Luo et al. 2025, arXiv 2503.12811",
    columns=(CURVE, STEP, LR),
    parameters=(
        Parameter("L0", "loss after infinite training, the learning rate lowered to 0, nats per token", floor=True),
        _A,
        dataclasses.replace(_ALPHA, starts=(0.3, 0.5)),
        Parameter("B", "fall of the loss per unit of learning rate, in the end", carries=(("reduction", -1.0),)),
        # The data hardly tell C, beta and gamma apart: unbounded, the fit to the paper's three curves of 25M runs to
        # beta 0.11 and gamma 0.90, of 100M to C 0.002 and gamma 1.36, and both predict other schedules worse than
        # the published constants, where the authors' optimiser stopped early.
        Parameter("C", "how soon a reduction acts, in the units of S_k lr_k^-gamma", 0.1, 10.0, starts=(0.5, 3.0)),
        Parameter("beta", "exponent of that delay", 0.2, 1.0, starts=(0.35, 0.7)),
        Parameter("gamma", "exponent of the learning rate in that delay", 0.2, 1.0, starts=(0.35, 0.7)),
    ),
    function=multi_power,
    gradient=_multi_power_gradient,
    read=read_reductions,
    cluster=CURVE.name,
)


LAWS = (
    Family(
        name="lr_annealing",
        formula="L = L0 + A S1^-alpha - C S2",
        question="the loss under any learning-rate schedule, from one or two curves",
        source=SOURCE,
        choices=(DECAY, WARMUP),
        resolve=_resolve,
        build=_build_annealing,
        example={"decay": DECAY.default, "warmup": WARMUP.default},
    ),
    Family(
        name="lr_annealing_size",
        formula="L = L0 + A S1^-alpha + B N^-beta - C S2 N^gamma",
        question="the loss under any learning-rate schedule at any size, from curves of a few sizes",
        source=SOURCE,
        choices=(DECAY, WARMUP),
        resolve=_resolve,
        build=_build_annealing_size,
        example={"decay": DECAY.default, "warmup": WARMUP.default},
    ),
    MULTI_POWER,
)

"""Loss when data are repeated: what an epoch is worth, and how many pools of data to mix.

Shape letters: N points, S starts, K epochs, P pools.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import D, N
from analysis.laws.power import FLOOR, exponent
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

U = Column("n_unique_tokens", "distinct tokens at hand, of which n_tokens may repeat some", "tokens")
MOST_EPOCHS = 10_000
FARTHEST = 50.0  # ln(N / N_opt) up to which excess parameters are counted; more are worth nothing more


def _read_epochs(table: Any) -> dict[str, Array]:
    """Tokens, and epochs over those of them that are distinct, 1 where none was repeated; each (N,)."""
    n_tokens = read_column(table, D)
    epochs = n_tokens / np.minimum(read_column(table, U), n_tokens)
    if epochs.max() > MOST_EPOCHS:
        row = int(np.argmax(epochs))
        raise FitError(f"n_unique_tokens: {epochs[row]:.3g} epochs in row {row + 1}; allowed: at most {MOST_EPOCHS:g}")
    return {"n_tokens": n_tokens, "epochs": epochs}


# --- effective data and parameters -----------------------------------------------------------------------


def effective(unique: Any, excess: Any, r_star: Any) -> Any:
    """X' = U + U R* (1 - exp(-R / R*)): what U distinct tokens are worth after R further passes over them.

    Muennighoff et al. 2023 (arXiv 2305.16264), section 3, for tokens and for parameters. A pass is worth 1/e of new
    data after R* repetitions, and all of them together at most (1 + R*) U.

    Args:
        unique: U, distinct tokens (or useful parameters).
        excess: R >= 0, of what there is beyond U, in units of U.
        r_star: R* > 0.
    """
    return unique * np.exp(_log_worth(excess, r_star))


def _log_worth(excess: Any, r_star: Any) -> Any:
    """ln of X' / U; expm1 keeps it exact where R* is far above R."""
    return np.log1p(-r_star * np.expm1(-excess / r_star))


def optimal_size(n_tokens: Any, *, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """N at which D tokens are compute-optimal: alpha A N^-alpha = beta B D^-beta (Hoffmann et al. 2022, equation 4)."""
    return np.exp(_log_optimal_size(n_tokens, A, B, alpha, beta))


def _log_optimal_size(n_tokens: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    return (np.log(alpha) + np.log(A) - np.log(beta) - np.log(B) + beta * np.log(n_tokens)) / alpha


def data_constrained(columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any) -> Array:
    """L = E + A N'^-alpha + B D'^-beta, with diminishing worth of repeated tokens and of parameters beyond the optimum.

    Muennighoff et al. 2023 (arXiv 2305.16264), section 3:
    D' = U_D (1 + R_D (1 - exp(-(D / U_D - 1) / R_D))), the same in N' with U_N = min(N, N_opt(U_D)), the
    compute-optimal size for U_D tokens. With R_D and R_N large, or data enough, it is the law of Hoffmann et al. 2022.

    Args:
        columns: `n_params`, `n_tokens`, and `epochs` = D / U_D >= 1, U_D being the distinct tokens seen; each (N,).
    """
    log_n, unique = np.log(columns["n_params"]), columns["n_tokens"] / columns["epochs"]
    log_optimum = _log_optimal_size(unique, A, B, alpha, beta)
    beyond = log_n - log_optimum
    beyond = np.where(np.real(beyond) > 0, beyond, 0.0)
    bounded = np.where(np.real(beyond) < FARTHEST, beyond, FARTHEST)
    size = np.exp(-alpha * (log_n - beyond + _log_worth(np.expm1(bounded), R_N)))
    data = np.exp(-beta * (np.log(unique) + _log_worth(columns["epochs"] - 1, R_D)))
    loss: Array = E + A * size + B * data
    return loss


def _log_worth_slopes(excess: Any, r_star: Any) -> tuple[Any, Any]:
    """Derivatives of ln(X' / U) by R and by R*."""
    worth = 1 - r_star * np.expm1(-excess / r_star)
    left = np.exp(-excess / r_star)
    return left / worth, (-np.expm1(-excess / r_star) - excess / r_star * left) / worth


def _data_constrained_gradient(
    columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any
) -> tuple[Array, ...]:
    log_u, repeats = np.log(columns["n_tokens"] / columns["epochs"]), columns["epochs"] - 1
    log_optimum = (np.log(alpha) + np.log(A) - np.log(beta) - np.log(B) + beta * log_u) / alpha
    beyond = np.maximum(np.log(columns["n_params"]) - log_optimum, 0.0)
    bounded = np.minimum(beyond, FARTHEST)
    excess = np.expm1(bounded)
    log_size = np.log(columns["n_params"]) - beyond + _log_worth(excess, R_N)
    log_data = log_u + _log_worth(repeats, R_D)
    size, data = np.exp(-alpha * log_size), np.exp(-beta * log_data)

    by_excess, by_R_N = _log_worth_slopes(excess, R_N)
    by_R_D = _log_worth_slopes(repeats, R_D)[1]
    # d ln N' / d ln N_opt, by which A, B and the exponents act a second time.
    moved = np.where(beyond > 0, 1 - np.where(beyond < FARTHEST, by_excess * np.exp(bounded), 0.0), 0.0)
    return (
        np.ones_like(size + data + E),
        size * (1 - moved),
        data + A / B * size * moved,
        -A * size * (log_size + moved * (1 / alpha - log_optimum)),
        -B * data * log_data - A * size * moved * (log_u - 1 / beta),
        -B * beta * data * by_R_D,
        -A * alpha * size * by_R_N,
    )


def _read_data_constrained(table: Any, _: Options) -> dict[str, Array]:
    return {"n_params": read_column(table, N)} | _read_epochs(table)


# --- utility that decays ---------------------------------------------------------------------------------


def quality_repetition(columns: Columns, *, E: Any, A: Any, b: Any, tau: Any) -> Array:
    """L = E + A U^-b prod_k (n_{k+1} / n_k)^(-b 2^(-k / tau)), over the epochs k = 1, 2, … that end at n_{k+1} tokens.

    Goyal et al. 2024 (arXiv 2404.07177), section 3, whose b is negative and whose a is A^(-1 / b). The utility of a
    pool is the slope -d ln(L - E) / d ln n = b 2^(-k / tau) in its epoch k, counted from 0. The floor E stays outside
    of the product; the released code multiplies it too.

    Args:
        columns: `n_tokens` and `epochs` = n_tokens / U >= 1, U being the tokens of the first epoch; each (N,).
    """
    steps = np.log(columns["n_tokens"] / columns["epochs"]) + _decayed_log(columns["epochs"], tau)
    loss: Array = E + A * np.exp(-b * steps)
    return loss


def _decayed_log(epochs: Array, tau: Any) -> Array:
    """sum_k 2^(-k / tau) ln(n_{k+1} / n_k) over the epochs k >= 1, the last in part: (N,), or (S, N) for tau (S, 1).

    It is ln(epochs) for an infinite half-life and 0 for none.
    """
    k_K = np.arange(1, max(2, int(np.ceil(epochs.max()))))
    # Epoch k runs from k to k + 1 times the pool, or to where the training ends.
    ratio_KN = np.log(np.clip(epochs, k_K[:, None], k_K[:, None] + 1) / k_K[:, None])
    decayed: Array = np.exp(-np.log(2) * k_K / tau) @ ratio_KN
    return decayed


def _read_quality(table: Any, _: Options) -> dict[str, Array]:
    return _read_epochs(table)


def _tokens_to_one_nat(params: Columns) -> dict[str, Array]:
    return {"n_one": np.exp(np.log(params["A"]) / params["b"])}


def pooled_loss(n_tokens: Any, pool_tokens: float, *, E: float, n_one: float, b_P: Any, tau_P: Any) -> Array:
    """Loss after n tokens of an even mixture of P pools of one size.

    Goyal et al. 2024 (arXiv 2404.07177), theorem 1: in pass k over the mixture its utility is the mean over the pools
    of b_i 2^(-k / (P tau_i)), because mixing P pools makes each half-life P times as long.

    Args:
        n_tokens: trained on, a number or (N,).
        pool_tokens: distinct tokens of each pool.
        E: the floor, common to all pools.
        n_one: tokens after which fresh data leave one nat above the floor, common to all pools.
        b_P, tau_P: utilities > 0 and half-lives in epochs of each pool (P,).

    Raises:
        FitError: a number out of range.
    """
    b_P, tau_P = np.atleast_1d(np.asarray(b_P, dtype=float)), np.atleast_1d(np.asarray(tau_P, dtype=float))
    n_N = np.atleast_1d(np.asarray(n_tokens, dtype=float))
    numbers = {"n_tokens": n_N, "pool_tokens": pool_tokens, "n_one": n_one, "b": b_P, "tau": tau_P}
    for name, values in numbers.items():
        if not (np.isfinite(values).all() and np.min(values) > 0):
            raise FitError(f"{name}: {values} is not allowed; allowed: finite numbers > 0")
    if b_P.shape != tau_P.shape:
        raise FitError(f"tau: of {tau_P.size} pools; allowed: {b_P.size}, one for each b")
    mixture = pool_tokens * len(b_P)
    first_N = np.minimum(n_N, mixture)
    decayed_PN = _decayed_log(n_N / first_N, (len(b_P) * tau_P)[:, None])
    steps_PN = np.log(first_N / n_one) + decayed_PN
    loss: Array = E + np.exp(-(b_P @ steps_PN) / len(b_P))
    return loss


def best_pools(
    n_tokens: float, pool_tokens: float, *, E: float, n_one: float, b_P: Any, tau_P: Any
) -> NDArray[np.intp]:
    """Which pools to mix for n training tokens: places of the best pools in `b_P`, as many as minimise the loss.

    Pools join in the order of their utility (Goyal et al. 2024, section 5): a little compute is best spent on the best
    pool alone, more of it on worse data not yet seen. Arguments as in `pooled_loss`.
    """
    b_P, tau_P = np.atleast_1d(np.asarray(b_P, dtype=float)), np.atleast_1d(np.asarray(tau_P, dtype=float))
    order = np.argsort(-b_P, kind="stable")
    losses = [
        pooled_loss(n_tokens, pool_tokens, E=E, n_one=n_one, b_P=b_P[order[:p]], tau_P=tau_P[order[:p]])[0]
        for p in range(1, len(b_P) + 1)
    ]
    return order[: int(np.argmin(losses)) + 1]


SHARE_STARTS = (0.1, 0.3)

LAWS = (
    Law(
        name="data_constrained",
        formula="L = E + A N'^-alpha + B D'^-beta, D' = U (1 + R_D (1 - exp(-(D/U - 1) / R_D))), N' alike",
        question="what repeated tokens and excess parameters are worth; hold E, A, B, alpha, beta of one-epoch runs",
        source="Muennighoff et al. 2023, arXiv 2305.16264",
        columns=(N, D, U),
        parameters=(
            FLOOR,
            # A and B also set the optimal size, so that they are not linear.
            Parameter(
                "A", "coefficient of N'^-alpha", starts=SHARE_STARTS, carries=(("n_params", "alpha"),), of_target=True
            ),
            Parameter(
                "B", "coefficient of D'^-beta", starts=SHARE_STARTS, carries=(("n_tokens", "beta"),), of_target=True
            ),
            Parameter("alpha", "exponent of N'", 0.01, 4.0, starts=(0.2, 0.35, 0.6), typical=(0.05, 1.2)),
            Parameter("beta", "exponent of D'", 0.01, 4.0, starts=(0.2, 0.35, 0.6), typical=(0.05, 1.2)),
            Parameter("R_D", "repetitions after which a pass is worth 1/e", starts=(3.0, 15.0), typical=(1, 100)),
            Parameter("R_N", "the same of parameters beyond the optimum", starts=(3.0, 15.0), typical=(1, 100)),
        ),
        function=data_constrained,
        gradient=_data_constrained_gradient,
        read=_read_data_constrained,
    ),
    Law(
        name="quality_repetition",
        formula="L = E + A U^-b prod_k (n_{k+1}/n_k)^(-b 2^(-k/tau))",
        question="the utility b of a pool of data and the epochs tau in which it halves; n_one tokens leave one nat",
        source="Goyal et al. 2024, arXiv 2404.07177",
        columns=(D, U),
        parameters=(
            FLOOR,
            Parameter("A", "coefficient of n^-b in the first epoch", carries=(("n_tokens", "b"),)),
            exponent("b", "fresh tokens, the utility"),
            Parameter("tau", "half-life of the utility in epochs", starts=(0.5, 2.0, 6.0, 20.0), typical=(0.3, 100)),
        ),
        function=quality_repetition,
        read=_read_quality,
        derived=_tokens_to_one_nat,
    ),
)

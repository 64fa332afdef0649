"""The laws of Kaplan et al. 2020: loss of a size, of data and of steps, and the critical batch size.

N_c, D_c and S_c are where a term would reach one nat, far outside of any data, and move by orders of magnitude
when their exponent moves in the third digit. The fits therefore move A = N_c^alpha, and report N_c as derived.

None of these laws has an irreducible loss.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import D, N
from analysis.laws.power import coefficient, exponent
from analysis.tables.columns import Array, Column, Columns

BATCH = Column("batch_tokens", "tokens per step", "tokens")
MIN_STEPS = Column("min_steps", "steps adjusted to a batch far above B_crit", "steps")
STEP = Column("step", "steps of training", "steps")

KAPLAN = "Kaplan et al. 2020, arXiv 2001.08361"
MCCANDLISH = "McCandlish et al. 2018, arXiv 1812.06162"


# --- loss ------------------------------------------------------------------------------------------------


def kaplan_size(columns: Columns, *, A_N: Any, alpha_N: Any) -> Array:
    """L(N) = A_N N^-alpha_N = (N_c / N)^alpha_N, with data without end. Kaplan et al. 2020, equation 1.1."""
    loss: Array = A_N * np.exp(-alpha_N * np.log(columns["n_params"]))
    return loss


def kaplan_data(columns: Columns, *, A_D: Any, alpha_D: Any) -> Array:
    """L(D) = A_D D^-alpha_D = (D_c / D)^alpha_D, of a large model stopped early. Kaplan et al. 2020, equation 1.2."""
    loss: Array = A_D * np.exp(-alpha_D * np.log(columns["n_tokens"]))
    return loss


def kaplan(columns: Columns, *, A_N: Any, A_D: Any, alpha_N: Any, alpha_D: Any) -> Array:
    """L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D, stopped early. Kaplan et al. 2020, equation 1.5.

    Written as [L(N)^(1/alpha_D) + L(D)^(1/alpha_D)]^alpha_D, a smooth maximum of the two limits, so that
    A_N = N_c^alpha_N and A_D = D_c^alpha_D.
    """
    size, data = _kaplan_terms(columns, A_N, A_D, alpha_N, alpha_D)
    loss: Array = np.exp(alpha_D * np.logaddexp(size, data))
    return loss


def _kaplan_terms(columns: Columns, A_N: Any, A_D: Any, alpha_N: Any, alpha_D: Any) -> tuple[Array, Array]:
    """ln of the two summands."""
    size = (np.log(A_N) - alpha_N * np.log(columns["n_params"])) / alpha_D
    data = np.log(A_D) / alpha_D - np.log(columns["n_tokens"])
    return size, data


def _kaplan_gradient(columns: Columns, *, A_N: Any, A_D: Any, alpha_N: Any, alpha_D: Any) -> tuple[Array, ...]:
    log_n, log_d = np.log(columns["n_params"]), np.log(columns["n_tokens"])
    size, data = _kaplan_terms(columns, A_N, A_D, alpha_N, alpha_D)
    both = np.logaddexp(size, data)
    loss, of_size, of_data = np.exp(alpha_D * both), np.exp(size - both), np.exp(data - both)
    by_alpha_d = both - of_size * size - of_data * (data + log_d)
    return loss * of_size / A_N, loss * of_data / A_D, -loss * of_size * log_n, loss * by_alpha_d


def kaplan_steps(columns: Columns, *, A_N: Any, A_S: Any, alpha_N: Any, alpha_S: Any) -> Array:
    """L(N, S_min) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S, after the warm-up and with data without end.

    Kaplan et al. 2020, equation 1.6; `min_steps` gives S_min.
    """
    size = np.exp(-alpha_N * np.log(columns["n_params"]))
    steps = np.exp(-alpha_S * np.log(columns["min_steps"]))
    loss: Array = A_N * size + A_S * steps
    return loss


def _kaplan_steps_gradient(columns: Columns, *, A_N: Any, A_S: Any, alpha_N: Any, alpha_S: Any) -> tuple[Array, ...]:
    log_n, log_s = np.log(columns["n_params"]), np.log(columns["min_steps"])
    size, steps = np.exp(-alpha_N * log_n), np.exp(-alpha_S * log_s)
    return size + 0 * A_N, steps + 0 * A_S, -A_N * size * log_n, -A_S * steps * log_s


# --- critical batch size ---------------------------------------------------------------------------------


def critical_batch(columns: Columns, *, S_min: Any, B_crit: Any) -> Array:
    """Steps to one level of the loss, S = S_min (1 + B_crit / B), for runs of several batch sizes.

    The same as (S / S_min - 1)(E / E_min - 1) = 1 with E = B S tokens and B_crit = E_min / S_min. McCandlish et al.
    2018, equation 2.11; Kaplan et al. 2020, equation 5.1.
    """
    steps: Array = S_min * (1 + B_crit / columns["batch_tokens"])
    return steps


def _critical_batch_gradient(columns: Columns, *, S_min: Any, B_crit: Any) -> tuple[Array, ...]:
    batch = columns["batch_tokens"]
    return 1 + B_crit / batch, S_min / batch + 0 * B_crit


def critical_batch_loss(columns: Columns, *, B_star: Any, inv_alpha_B: Any) -> Array:
    """B_crit(L) = B_star / L^(1 / alpha_B) in tokens. Kaplan et al. 2020, equation 1.4."""
    b_crit: Array = B_star * np.exp(-inv_alpha_B * np.log(columns["loss"]))
    return b_crit


def _critical_batch_loss_gradient(columns: Columns, *, B_star: Any, inv_alpha_B: Any) -> tuple[Array, ...]:
    log_loss = np.log(columns["loss"])
    power = np.exp(-inv_alpha_B * log_loss)
    return power + 0 * B_star, -B_star * power * log_loss


def min_steps(step: Any, batch_tokens: Any, b_crit: Any) -> Array:
    """S_min = S / (1 + B_crit / B): the steps it would have taken at a batch far above B_crit. Equation 5.4."""
    return np.asarray(step / (1 + b_crit / batch_tokens))


def min_flops(flops: Any, batch_tokens: Any, b_crit: Any) -> Array:
    """C_min = C / (1 + B / B_crit): the compute it would have taken at a batch far below B_crit. Equation 5.5."""
    return np.asarray(flops / (1 + batch_tokens / b_crit))


def overhead_batch(b_crit: Any, reference: Any, overhead: float = 0.2) -> Array:
    """The batch that needs `overhead` more tokens than the batch `reference`, in the unit of `b_crit`.

    B + B_crit = (1 + overhead)(reference + B_crit): the critical batch size of Zhang et al. 2024 (arXiv 2410.21676),
    who take 20 % over a batch of 256 sequences.
    """
    return np.asarray((1 + overhead) * reference + overhead * b_crit)


# --- what follows from the constants ---------------------------------------------------------------------


def overfitting(n_params: Any, n_tokens: Any, *, N_c: Any, D_c: Any, alpha_N: Any, alpha_D: Any) -> Array:
    """L(N, D) / L(N, infinite data) - 1 = (1 + (N / N_c)^(alpha_N / alpha_D) D_c / D)^alpha_D - 1. Equation 4.3."""
    shortage = np.exp(alpha_N / alpha_D * np.log(n_params / N_c)) * D_c / n_tokens
    return np.asarray(np.expm1(alpha_D * np.log1p(shortage)))


def earliest_stop(excess: Any, *, S_c: Any, alpha_S: Any) -> Array:
    """Steps before which early stopping is no use, S_c / (L(N, D) - L(N, infinite data))^(1 / alpha_S).

    Equation 5.7; `excess` is that difference, in nats per token.
    """
    return np.asarray(S_c * np.exp(-np.log(excess) / alpha_S))


def frontier(*, alpha_N: Any, alpha_S: Any, alpha_B: Any) -> dict[str, Array]:
    """Powers of C_min that L, N, B, S and D = B S follow at the best allocation of compute (equations 1.7 and 1.8).

    `alpha_C` is that of the loss, 1 / (1/alpha_S + 1/alpha_B + 1/alpha_N); `loss_ratio` how far the best loss lies
    above that of the same size trained to the end, 1 + alpha_N / alpha_S (appendix B).
    """
    alpha_C = np.asarray(1 / (1 / alpha_S + 1 / alpha_B + 1 / alpha_N))
    return {
        "alpha_C": alpha_C,
        "N": alpha_C / alpha_N,
        "B": alpha_C / alpha_B,
        "S": alpha_C / alpha_S,
        "D": alpha_C / alpha_B + alpha_C / alpha_S,
        "loss_ratio": np.asarray(1 + alpha_N / alpha_S),
    }


def scale(A: Any, alpha: Any) -> Array:
    """N_c of A N^-alpha = (N_c / N)^alpha, kept between 1e-100 and 1e100."""
    critical: Array = np.exp(np.clip(np.log(A) / alpha, -100 * np.log(10), 100 * np.log(10)))
    return critical


def _kaplan_derived(params: Columns) -> dict[str, Array]:
    return {
        "N_c": scale(params["A_N"], params["alpha_N"]),
        "D_c": scale(params["A_D"], params["alpha_D"]),
        "data_exponent": params["alpha_N"] / params["alpha_D"],
    }


def _exponent(name: str, of: str) -> Parameter:
    """A power law's exponent that is not zero, where its scale would be infinite."""
    return dataclasses.replace(exponent(name, of), lower=1e-3)


A_N, ALPHA_N = coefficient("A_N", "n_params", "alpha_N", "N"), _exponent("alpha_N", "N")
A_D, ALPHA_D = coefficient("A_D", "n_tokens", "alpha_D", "D"), _exponent("alpha_D", "D")
A_S, ALPHA_S = coefficient("A_S", "min_steps", "alpha_S", "S_min"), _exponent("alpha_S", "S_min")

# Inside the brackets of L(N, D) the coefficients are not linear; one of them is near the typical loss.
_LIMIT_STARTS = (0.3, 0.7, 0.95)

STEPS = Law(
    name="kaplan_steps",
    formula="L = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S",
    question="the loss of N parameters after S_min steps of constant learning rate on fresh data",
    source=KAPLAN,
    columns=(N, MIN_STEPS),
    parameters=(A_N, A_S, ALPHA_N, ALPHA_S),
    function=kaplan_steps,
    gradient=_kaplan_steps_gradient,
    derived=lambda p: {"N_c": scale(p["A_N"], p["alpha_N"]), "S_c": scale(p["A_S"], p["alpha_S"])},
)

LAWS = (
    Law(
        name="kaplan",
        formula="L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D",
        question="the early-stopped loss of N parameters on D tokens; D must grow as N^data_exponent",
        source=KAPLAN,
        columns=(N, D),
        parameters=(
            dataclasses.replace(A_N, starts=_LIMIT_STARTS, of_target=True),
            dataclasses.replace(A_D, starts=_LIMIT_STARTS, of_target=True),
            ALPHA_N,
            ALPHA_D,
        ),
        function=kaplan,
        gradient=_kaplan_gradient,
        derived=_kaplan_derived,
    ),
    Law(
        name="kaplan_size",
        formula="L = (N_c / N)^alpha_N",
        question="the loss of N parameters trained to the end",
        source=KAPLAN,
        columns=(N,),
        parameters=(A_N, ALPHA_N),
        function=kaplan_size,
        derived=lambda p: {"N_c": scale(p["A_N"], p["alpha_N"])},
    ),
    Law(
        name="kaplan_data",
        formula="L = (D_c / D)^alpha_D",
        question="the early-stopped loss of a large model on D tokens",
        source=KAPLAN,
        columns=(D,),
        parameters=(A_D, ALPHA_D),
        function=kaplan_data,
        derived=lambda p: {"D_c": scale(p["A_D"], p["alpha_D"])},
    ),
    STEPS,
    Law(
        name="critical_batch",
        formula="S = S_min (1 + B_crit / B)",
        question="steps to one level of the loss by batch size, level by level (--group)",
        source=MCCANDLISH,
        columns=(BATCH,),
        parameters=(
            Parameter("S_min", "fewest steps, at a large batch"),
            Parameter(
                "B_crit",
                "batch that takes twice the fewest steps and twice the fewest tokens",
                starts=(0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0),
                carries=(("batch_tokens", 1.0),),
            ),
        ),
        function=critical_batch,
        gradient=_critical_batch_gradient,
        target=STEP,
        objective="lsq_log",
        derived=lambda p: {"E_min": p["S_min"] * p["B_crit"]},
    ),
    Law(
        name="critical_batch_loss",
        formula="B_crit = B_star / L^(1 / alpha_B)",
        question="how the critical batch size grows as the loss falls",
        source=KAPLAN,
        columns=(Column("loss", "level of the loss", "nats per token"),),
        parameters=(
            Parameter("B_star", "critical batch at a loss of one nat", carries=(("loss", "inv_alpha_B"),)),
            Parameter(
                "inv_alpha_B",
                "exponent of 1/L",
                lower=0.1,
                upper=50.0,
                starts=(1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0),
                typical=(1.0, 15.0),
            ),
        ),
        function=critical_batch_loss,
        gradient=_critical_batch_loss_gradient,
        target=Column("b_crit", "critical batch size", "tokens"),
        objective="lsq_log",
        derived=lambda p: {"alpha_B": 1 / p["inv_alpha_B"]},
    ),
)

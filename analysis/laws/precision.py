"""What few bits cost: training in floating-point formats, quantisation-aware training, precision as size."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import D, N, chinchilla
from analysis.laws.power import FLOOR, coefficient, exponent
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

EXPONENT_BITS = Column(
    "exponent_bits", "exponent bits of the format (any where block_size is 1)", "bits", "non-negative"
)
MANTISSA_BITS = Column("mantissa_bits", "mantissa bits of the format, 0 for E3M0", "bits", "non-negative")
BLOCK_SIZE = Column("block_size", "elements that share a scale; 1 in a run without quantisation", "elements")
GROUP_SIZE = Column(
    "group_size", "elements that share a scale; a channel's or token's length if that is it", "elements"
)
DELTA_LOSS = Column("delta_loss", "loss of the quantised run less that of its unquantised twin", "nats per token")
WEIGHT_BITS = Column("weight_bits", "integer bits of the weights", "bits")
ACTIVATION_BITS = Column("activation_bits", "integer bits of the activations", "bits")
KV_BITS = Column("kv_bits", "integer bits of keys and values", "bits")

_BITS = (WEIGHT_BITS.name, ACTIVATION_BITS.name, KV_BITS.name)


# --- floating-point formats ------------------------------------------------------------------------------


def fp_variables(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001  # every reader takes the options
    """The variables of `fp_precision`; raises `FitError`, also for a block of less than one element."""
    block_size = read_column(table, BLOCK_SIZE)
    if (block_size < 1).any():
        raise FitError(f"block_size: {block_size.min():g} is not allowed; allowed: 1 (no quantisation) or more")
    return {
        "n_params": read_column(table, N),
        "n_tokens": read_column(table, D),
        "exponent_bits_plus_half": read_column(table, EXPONENT_BITS) + 0.5,
        "mantissa_bits_plus_half": read_column(table, MANTISSA_BITS) + 0.5,
        "log2_block_size": np.log2(block_size),
    }


def fp_precision(
    columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, k: Any, delta: Any, nu: Any
) -> Array:
    """L = E + A N^-alpha + B D^-beta + k D^beta N^-alpha log2(block) / ((e + 1/2)^delta (m + 1/2)^nu).

    e and m are the bits of exponent and mantissa. Sun et al. 2025 (arXiv 2501.02423), the joint law, with n, d,
    epsilon and 1/gamma called A, B, E and k. The exponents of the last term are those of the other two.
    """
    error = k * _fp_error(columns, alpha, beta, delta, nu)
    loss: Array = chinchilla(columns, E=E, A=A, B=B, alpha=alpha, beta=beta) + error
    return loss


def _fp_error(columns: Columns, alpha: Any, beta: Any, delta: Any, nu: Any) -> Any:
    size = beta * np.log(columns["n_tokens"]) - alpha * np.log(columns["n_params"])
    bits = delta * np.log(columns["exponent_bits_plus_half"]) + nu * np.log(columns["mantissa_bits_plus_half"])
    return np.exp(size - bits) * columns["log2_block_size"]


def _fp_precision_gradient(
    columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, k: Any, delta: Any, nu: Any
) -> tuple[Array, ...]:
    log_n, log_d = np.log(columns["n_params"]), np.log(columns["n_tokens"])
    size, data = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    error = _fp_error(columns, alpha, beta, delta, nu)
    return (
        np.ones_like(error + E),
        size,
        data,
        -(A * size + k * error) * log_n,
        (k * error - B * data) * log_d,
        error,
        -k * error * np.log(columns["exponent_bits_plus_half"]),
        -k * error * np.log(columns["mantissa_bits_plus_half"]),
    )


def optimal_split(bits: Any, *, delta: Any, nu: Any) -> tuple[Any, Any]:
    """The bits of exponent and mantissa that cost least, of `bits` in all, one of them the sign.

    The largest (e + 1/2)^delta (m + 1/2)^nu at e + m = bits - 1 has m + 1/2 = bits nu / (delta + nu), not rounded
    here (Sun et al. 2025, section on the optimal layout).
    """
    mantissa = bits * nu / (delta + nu) - 0.5
    return bits - 1 - mantissa, mantissa


def critical_tokens(
    n_params: Any,
    exponent_bits: Any,
    mantissa_bits: Any,
    block_size: Any,
    *,
    B: Any,
    alpha: Any,
    beta: Any,
    k: Any,
    delta: Any,
    nu: Any,
) -> Any:
    """D_crit in tokens, where dL/dD = 0: in this format more data than that do harm.

    D_crit^(2 beta) = B N^alpha (e + 1/2)^delta (m + 1/2)^nu / (k log2(block)). Sun et al. 2025, section on the
    critical data size. `block_size` is above 1.
    """
    bits = delta * np.log(exponent_bits + 0.5) + nu * np.log(mantissa_bits + 0.5)
    return np.exp((np.log(B / k) + alpha * np.log(n_params) + bits - np.log(np.log2(block_size))) / (2 * beta))


def _gamma(params: Columns) -> dict[str, Array]:
    with np.errstate(divide="ignore"):  # an error of nothing has an infinite gamma
        return {"gamma": 1 / params["k"]}


# --- quantisation-aware training -------------------------------------------------------------------------


def qat_variables(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001  # every reader takes the options
    """The variables of `qat_precision`; raises `FitError`, also for a group of one element."""
    group_size = read_column(table, GROUP_SIZE)
    if (group_size <= 1).any():
        raise FitError(f"group_size: {group_size.min():g} is not allowed; allowed: more than 1")
    return {
        "n_params": read_column(table, N),
        "n_tokens": read_column(table, D),
        "log2_group_size": np.log2(group_size),
    }


def qat_precision(columns: Columns, *, k: Any, gamma_N: Any, gamma_D: Any, gamma_G: Any) -> Array:
    """delta = k D^gamma_D (log2 G)^gamma_G / N^gamma_N. Chen et al. 2025 (arXiv 2505.14302), the unified law."""
    rise = gamma_D * np.log(columns["n_tokens"]) + gamma_G * np.log(columns["log2_group_size"])
    error: Array = k * np.exp(rise - gamma_N * np.log(columns["n_params"]))
    return error


def _qat_precision_gradient(columns: Columns, *, k: Any, gamma_N: Any, gamma_D: Any, gamma_G: Any) -> tuple[Array, ...]:
    error = qat_precision(columns, k=1.0, gamma_N=gamma_N, gamma_D=gamma_D, gamma_G=gamma_G)
    logs = [np.log(columns[name]) for name in ("n_params", "n_tokens", "log2_group_size")]
    return error + 0 * k, -k * error * logs[0], k * error * logs[1], k * error * logs[2]


def _qat_exponent(name: str, of: str) -> Parameter:
    """Of either sign: that the error falls with N and rises with D and G is what an experiment asks."""
    return Parameter(name, f"exponent of {of}", -4.0, 4.0, starts=(-0.2, 0.2, 0.6), typical=(0.02, 1.2))


# --- precision as size -----------------------------------------------------------------------------------


def retention(bits: Any, gamma: Any) -> Any:
    """1 - e^(-bits / gamma), the share of the parameters that integer precision leaves. Kumar et al. 2024."""
    return -np.expm1(-bits / gamma)


def effective_precision(
    columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma_w: Any, gamma_a: Any, gamma_kv: Any
) -> Array:
    """L = E + A N_eff^-alpha + B D^-beta with N_eff = N prod over w, a, kv of (1 - e^(-bits / gamma)).

    Kumar et al. 2024 (arXiv 2411.04330), the law of training precision.
    """
    n_effective = columns["n_params"]
    for name, gamma in zip(_BITS, (gamma_w, gamma_a, gamma_kv), strict=True):
        n_effective = n_effective * retention(columns[name], gamma)
    loss: Array = chinchilla({**columns, "n_params": n_effective}, E=E, A=A, B=B, alpha=alpha, beta=beta)
    return loss


def _effective_precision_gradient(
    columns: Columns, *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, gamma_w: Any, gamma_a: Any, gamma_kv: Any
) -> tuple[Array, ...]:
    levels = [columns[name] / gamma for name, gamma in zip(_BITS, (gamma_w, gamma_a, gamma_kv), strict=True)]
    log_d = np.log(columns["n_tokens"])
    log_n = np.log(columns["n_params"]) + sum(np.log(-np.expm1(-level)) for level in levels)
    size, data = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    # d ln retention / d gamma = -(level / gamma) / (e^level - 1)
    by_gamma = [
        alpha * A * size * level / gamma * np.exp(-level) / -np.expm1(-level)
        for level, gamma in zip(levels, (gamma_w, gamma_a, gamma_kv), strict=True)
    ]
    return (np.ones_like(size + data + E), size, data, -A * size * log_n, -B * data * log_d, *by_gamma)


def _bits_constant(name: str, of: str) -> Parameter:
    return Parameter(name, f"bits at which {of} keep 1 - 1/e", 0.1, 50.0, starts=(0.7, 2.5), typical=(0.3, 8.0))


LAWS = (
    Law(
        name="fp_precision",
        formula="L = E + A N^-alpha + B D^-beta + k D^beta N^-alpha log2(block) / ((e + 1/2)^delta (m + 1/2)^nu)",
        question="what training in a floating-point format costs, and from which number of tokens on more do harm",
        source="Sun et al. 2025, arXiv 2501.02423",
        columns=(N, D, EXPONENT_BITS, MANTISSA_BITS, BLOCK_SIZE),
        parameters=(
            FLOOR,
            coefficient("A", "n_params", "alpha", "N"),
            coefficient("B", "n_tokens", "beta", "D"),
            exponent("alpha", "N, in the size term and in the error"),
            exponent("beta", "D, in the data term and in the error"),
            Parameter(
                "k",
                "coefficient of the error, 1/gamma",
                carries=(
                    ("n_tokens", "-beta"),
                    ("n_params", "alpha"),
                    ("exponent_bits_plus_half", "delta"),
                    ("mantissa_bits_plus_half", "nu"),
                ),
            ),
            Parameter("delta", "exponent of e + 1/2", 0.0, 12.0, starts=(1.5, 4.0), typical=(0.5, 8.0)),
            Parameter("nu", "exponent of m + 1/2", 0.0, 12.0, starts=(1.5, 4.0), typical=(0.5, 8.0)),
        ),
        function=fp_precision,
        gradient=_fp_precision_gradient,
        read=fp_variables,
        derived=_gamma,
    ),
    Law(
        name="qat_precision",
        formula="delta_loss = k D^gamma_D (log2 G)^gamma_G / N^gamma_N",
        question="what quantisation-aware training adds to the loss of the same N and D in full precision",
        source="Chen et al. 2025, arXiv 2505.14302",
        columns=(N, D, GROUP_SIZE),
        parameters=(
            Parameter(
                "k",
                "coefficient of the error",
                carries=(("n_params", "gamma_N"), ("n_tokens", "-gamma_D"), ("log2_group_size", "-gamma_G")),
            ),
            _qat_exponent("gamma_N", "1/N"),
            _qat_exponent("gamma_D", "D"),
            _qat_exponent("gamma_G", "log2 G"),
        ),
        function=qat_precision,
        gradient=_qat_precision_gradient,
        target=DELTA_LOSS,
        objective="lsq_log",
        read=qat_variables,
    ),
    Law(
        name="effective_precision",
        formula="L = E + A N_eff^-alpha + B D^-beta, N_eff = N prod_x (1 - e^(-bits_x / gamma_x))",
        question="how many parameters a model of few integer bits is worth",
        source="Kumar et al. 2024, arXiv 2411.04330",
        columns=(N, D, WEIGHT_BITS, ACTIVATION_BITS, KV_BITS),
        parameters=(
            FLOOR,
            coefficient("A", "n_params", "alpha", "N_eff"),
            coefficient("B", "n_tokens", "beta", "D"),
            exponent("alpha", "N_eff"),
            exponent("beta", "D"),
            _bits_constant("gamma_w", "weights"),
            _bits_constant("gamma_a", "activations"),
            _bits_constant("gamma_kv", "keys and values"),
        ),
        function=effective_precision,
        gradient=_effective_precision_gradient,
    ),
)

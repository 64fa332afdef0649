"""Models that lose weights: the average-parameter law of sparse pre-training, and the joint law with sparsity."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.law import Law
from analysis.laws import chinchilla
from analysis.laws.chinchilla import D
from analysis.laws.power import FLOOR, coefficient, exponent
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

N_AVERAGE = Column("n_params_average", "active parameters, averaged over the training tokens", "parameters")
N_NONZERO = Column("n_params", "parameters that are not zero at the end", "parameters")
SPARSITY = Column("sparsity", "share of weights that are zero at the end", "1", "non-negative")


# --- the average-parameter law ---------------------------------------------------------------------------


def average_params(
    n_params: float, progress: ArrayLike, density: ArrayLike, *, axis: Literal["tokens", "compute"] = "tokens"
) -> float:
    """Active parameters averaged over the training tokens, N = (1/D) integral of N(t) dt, so that C = 6 N D.

    Jin et al. 2025 (arXiv 2501.12486), the definition of the average parameter count. The schedule is a line through
    points; two points of equal progress are a step. With progress in shares of the compute a token costs the
    density, so N is the harmonic mean, 1 / integral of dc / N(c).

    Args:
        n_params: of the dense model.
        progress: shares of the training, from 0 to 1, that do not fall (P,).
        density: share of the parameters that are active there, above 0, at most 1 (P,).
        axis: what `progress` is a share of.

    Raises:
        FitError: a schedule that is none.
    """
    x, rho = np.asarray(progress, float), np.asarray(density, float)
    if x.ndim != 1 or x.shape != rho.shape or len(x) < 2 or x[0] != 0 or x[-1] != 1 or not (np.diff(x) >= 0).all():
        raise FitError(f"schedule: progress {x.tolist()} is not allowed; allowed: from 0 to 1, a density for each")
    if not ((rho > 0) & (rho <= 1)).all():
        raise FitError(f"schedule: density {rho.tolist()} is not allowed; allowed: above 0, at most 1")
    if axis not in ("tokens", "compute"):
        raise FitError(f"schedule: axis {axis!r} is unknown; allowed: tokens, compute")
    width, mean = np.diff(x), (rho[1:] + rho[:-1]) / 2
    if axis == "tokens":
        return float(n_params * np.sum(width * mean))
    log_ratio = np.diff(np.log(rho))
    level = np.abs(log_ratio) < 1e-6  # where the logarithmic mean is the mean, to rounding
    logarithmic_mean = np.where(level, mean, np.diff(rho) / np.where(level, 1.0, log_ratio))
    return float(n_params / np.sum(width / logarithmic_mean))


def linear_pruning(start: float, end: float, final_density: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`(progress, density)` of a model pruned in a line from `start` to `end`, for `average_params`.

    With start + end = 1 (25 % to 75 % is the schedule that Jin et al. 2025 find close to optimal) the average over
    tokens is N0 (1 + final_density) / 2.
    """
    return (0.0, start, end, 1.0), (1.0, 1.0, final_density, final_density)


def _average_variables(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001  # every reader takes them
    return {"n_params": read_column(table, N_AVERAGE), "n_tokens": read_column(table, D)}


# --- the joint law of sparsity, size and data ------------------------------------------------------------


def sparse_variables(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001
    """The variables of `sparse`; raises `FitError`, also for a sparsity of 1."""
    sparsity = read_column(table, SPARSITY)
    if (sparsity >= 1).any():
        raise FitError(f"sparsity: {sparsity.max():g} is not allowed; allowed: shares below 1")
    return {"sparsity": sparsity, "n_params": read_column(table, N_NONZERO), "n_tokens": read_column(table, D)}


def sparse(columns: Columns, *, E: Any, a_S: Any, c_S: Any, B: Any, b_S: Any, b_N: Any, b_D: Any) -> Array:
    """L = E + (a_S (1 - S)^b_S + c_S) N^-b_N + B D^-b_D, with N the parameters that are not zero.

    Frantar et al. 2023 (arXiv 2309.08520), the joint law, whose (a_D / D)^b_D is written B D^-b_D.
    """
    size, data = np.exp(-b_N * np.log(columns["n_params"])), np.exp(-b_D * np.log(columns["n_tokens"]))
    loss: Array = E + (a_S * np.exp(b_S * np.log1p(-columns["sparsity"])) + c_S) * size + B * data
    return loss


def _sparse_gradient(
    columns: Columns, *, E: Any, a_S: Any, c_S: Any, B: Any, b_S: Any, b_N: Any, b_D: Any
) -> tuple[Array, ...]:
    log_n, log_d, log_rho = np.log(columns["n_params"]), np.log(columns["n_tokens"]), np.log1p(-columns["sparsity"])
    size, data, power = np.exp(-b_N * log_n), np.exp(-b_D * log_d), np.exp(b_S * log_rho)
    return (
        np.ones_like(size + power + data + E),
        power * size,
        size,
        data,
        a_S * power * size * log_rho,
        -(a_S * power + c_S) * size * log_n,
        -B * data * log_d,
    )


def sparse_gain(sparsity: Any, *, a_S: Any, c_S: Any, b_S: Any, b_N: Any) -> Any:
    """How many times larger a dense model is that has the loss of a sparse one after the same tokens.

    Sizes count weights that are not zero: [(a_S + c_S) / (a_S (1 - S)^b_S + c_S)]^(1/b_N). Frantar et al. 2023,
    section on the equivalent dense size.
    """
    return ((a_S + c_S) / (a_S * (1 - sparsity) ** b_S + c_S)) ** (1 / b_N)


def _token_scale(params: Columns) -> dict[str, Array]:
    with np.errstate(divide="ignore", over="ignore"):  # where the data term has vanished
        return {"a_D": np.exp(np.log(params["B"]) / params["b_D"])}


_CHINCHILLA = next(law for law in chinchilla.LAWS if law.name == "chinchilla")

LAWS = (
    dataclasses.replace(
        _CHINCHILLA,
        name="average_parameters",
        formula="L = E + A N^-alpha + B D^-beta, N = (1/D) integral of N(t) dt",
        question="the loss of a model pruned while it trains, by its active parameters averaged over the tokens",
        source="Jin et al. 2025, arXiv 2501.12486",
        columns=(N_AVERAGE, D),
        read=_average_variables,
    ),
    Law(
        name="sparse",
        formula="L = E + (a_S (1 - S)^b_S + c_S) N^-b_N + B D^-b_D, B = a_D^b_D",
        question="the loss of N weights left over at sparsity S, after D tokens",
        source="Frantar et al. 2023, arXiv 2309.08520",
        columns=(SPARSITY, N_NONZERO, D),
        parameters=(
            FLOOR,
            Parameter("a_S", "coefficient of (1-S)^b_S N^-b_N", carries=(("n_params", "b_N"),)),
            Parameter("c_S", "coefficient of N^-b_N that sparsity leaves", carries=(("n_params", "b_N"),)),
            coefficient("B", "n_tokens", "b_D", "D"),
            Parameter("b_S", "exponent of 1 - S", 0.0, 6.0, starts=(0.3, 0.8, 2.0), typical=(0.2, 3.0)),
            exponent("b_N", "N"),
            exponent("b_D", "D"),
        ),
        function=sparse,
        gradient=_sparse_gradient,
        read=sparse_variables,
        derived=_token_scale,
    ),
)

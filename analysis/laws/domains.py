"""Loss on one domain, or one language, as a function of scale and of its share in the training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.fitter.family import Family
from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import D, N
from analysis.laws.power import FLOOR, coefficient, exponent
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

SHARE = Column("share", "share of the domain, or the language, in the training tokens", "fraction", "non-negative")


def _read_share(table: Any) -> Array:
    share_N = read_column(table, SHARE)
    if share_N.max() > 1:
        row = int(np.argmax(share_N))
        raise FitError(f"share: {share_N[row]:g} in row {row + 1} is not allowed; allowed: numbers from 0 to 1")
    return share_N


# --- continual pre-training ------------------------------------------------------------------------------


def d_cpt(
    columns: Columns, *, E: Any, A: Any, B: Any, C: Any, alpha: Any, beta: Any, eta: Any, gamma: Any, eps: Any
) -> Array:
    """L = E + A N^-alpha + B r^eta D^-beta + C (r + eps)^-gamma, r the share of the domain.

    Que et al. 2024 (D-CPT, arXiv 2406.01375), section 3. For the loss on the general corpus r is its own share.
    """
    size, data, domain = _d_cpt_terms(columns, alpha, beta, eta, gamma, eps)
    loss: Array = E + A * size + B * data + C * domain
    return loss


def _d_cpt_terms(columns: Columns, alpha: Any, beta: Any, eta: Any, gamma: Any, eps: Any) -> tuple[Array, Array, Array]:
    r = columns["share"]
    r_eta = np.where(r > 0, np.exp(eta * _log_share(r)), 0.0)
    size = np.exp(-alpha * np.log(columns["n_params"]))
    data = r_eta * np.exp(-beta * np.log(columns["n_tokens"]))
    return size, data, np.exp(-gamma * np.log(r + eps))


def _log_share(r: Array) -> Array:
    """ln r, and 0 at r = 0, where r^eta ln r is 0."""
    log_r: Array = np.log(np.where(r > 0, r, 1.0))
    return log_r


def _d_cpt_gradient(
    columns: Columns, *, E: Any, A: Any, B: Any, C: Any, alpha: Any, beta: Any, eta: Any, gamma: Any, eps: Any
) -> tuple[Array, ...]:
    size, data, domain = _d_cpt_terms(columns, alpha, beta, eta, gamma, eps)
    r = columns["share"]
    return (
        np.ones_like(size + E),
        size,
        data,
        domain,
        -A * size * np.log(columns["n_params"]),
        -B * data * np.log(columns["n_tokens"]),
        B * data * _log_share(r),
        -C * domain * np.log(r + eps),
        -C * gamma * domain / (r + eps),
    )


def _read_d_cpt(table: Any, _: Options) -> dict[str, Array]:
    return {"n_params": read_column(table, N), "n_tokens": read_column(table, D), "share": _read_share(table)}


D_CPT = Law(
    name="d_cpt",
    formula="L = E + A N^-alpha + B r^eta D^-beta + C (r + eps)^-gamma",
    question="the loss on a domain after continual pre-training with a share r of it; or on the rest, at its share",
    source="Que et al. 2024, arXiv 2406.01375",
    columns=(N, D, SHARE),
    parameters=(
        FLOOR,
        coefficient("A", "n_params", "alpha", "N"),
        coefficient("B", "n_tokens", "beta", "D"),
        Parameter("C", "coefficient of (r + eps)^-gamma"),
        Parameter("alpha", "exponent of N", 0.0, 4.0, starts=(0.15, 0.45), typical=(0.05, 1.2)),
        Parameter("beta", "exponent of D", 0.0, 4.0, starts=(0.15, 0.5), typical=(0.05, 1.2)),
        Parameter("eta", "exponent of r in the term of D", 0.0, 4.0, starts=(0.1, 0.5, 1.0)),
        Parameter("gamma", "exponent of r + eps", 0.0, 4.0, starts=(0.1, 0.4, 1.2)),
        Parameter("eps", "share that the model has seen before, in effect", starts=(0.02, 0.1, 0.4)),
    ),
    function=d_cpt,
    gradient=_d_cpt_gradient,
    read=_read_d_cpt,
)


# --- languages -------------------------------------------------------------------------------------------


def multilingual(columns: Columns, *, L_inf: Any, beta: Any, alpha: Any) -> Array:
    """L = beta_p N^-alpha + L_inf with one multiplier for each sampling weight p.

    Fernandes et al. 2023 (arXiv 2302.09650), section 4. `columns["level"]` (N,) is the place of p among its levels, and
    `beta` the multipliers in their order.
    """
    power = np.exp(-alpha * np.log(columns["n_params"]))
    multiplier = sum(value * (columns["level"] == k) for k, value in enumerate(beta))
    loss: Array = L_inf + multiplier * power
    return loss


def effective_fraction(beta_p: Any, beta_reference: Any, alpha: Any) -> Any:
    """f = (beta_reference / beta_p)^(1 / alpha): the share of the parameters that in effect serves the language.

    A model of N parameters that samples the language with weight p has the loss of one of f N parameters at the
    reference weight, p = 1 in the paper (Fernandes et al. 2023, section 4).
    """
    return np.exp((np.log(beta_reference) - np.log(beta_p)) / alpha)


def _level(share: float) -> float:
    return float(f"{share:.6g}")


def _resolve_multilingual(table: Any, given: Options) -> dict[str, Any]:
    share_N = _read_share(table)
    levels = sorted(
        {_level(share) for share in _levels(given["levels"])} if given.get("levels") else {*map(_level, share_N)}
    )
    if len(levels) < 2 or levels[0] <= 0:
        shown = ", ".join(f"{level:g}" for level in levels)
        raise FitError(f"share: has the levels {shown}; allowed: at least 2 levels, all above 0")
    if 3 * len(levels) > len(share_N) + 3:
        raise FitError(
            f"share: takes {len(levels)} values in {len(share_N)} rows; allowed: a few levels, each at several N"
        )
    return {"levels": levels}


def _levels(given: str | Sequence[float]) -> list[float]:
    try:
        return [float(part) for part in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        raise FitError(f"levels: {given!r} is not allowed; allowed: numbers separated by commas") from None


def _read_multilingual(table: Any, options: Options) -> dict[str, Array]:
    levels = options["levels"]
    share_N = _read_share(table)
    for row, share in enumerate(share_N):
        if _level(share) not in levels:
            shown = ", ".join(f"{level:g}" for level in levels)
            raise FitError(f"share: {share:g} in row {row + 1} is none of the fitted levels; allowed: {shown}")
    level_N = np.array([float(levels.index(_level(share))) for share in share_N])
    return {"n_params": read_column(table, N), "level": level_N}


def _build_multilingual(options: Options) -> Law:
    names = [f"beta_{level:g}" for level in options["levels"]]

    def function(columns: Columns, *, L_inf: Any, alpha: Any, **beta: Any) -> Array:
        return multilingual(columns, L_inf=L_inf, beta=[beta[name] for name in names], alpha=alpha)

    def gradient(columns: Columns, *, L_inf: Any, alpha: Any, **beta: Any) -> tuple[Array, ...]:
        log_n = np.log(columns["n_params"])
        power = np.exp(-alpha * log_n)
        chosen = [columns["level"] == k for k in range(len(names))]
        multiplier = sum(beta[name] * here for name, here in zip(names, chosen, strict=True))
        return (
            np.ones_like(power + L_inf),
            *(power * here for here in chosen),
            -multiplier * power * log_n,
        )

    def fractions(params: Columns) -> dict[str, Array]:
        return {
            f"f_{level:g}": effective_fraction(params[name], params[names[-1]], params["alpha"])
            for level, name in zip(options["levels"][:-1], names[:-1], strict=True)
        }

    return Law(
        name="multilingual",
        formula=MULTILINGUAL.formula,
        question=MULTILINGUAL.question,
        source=MULTILINGUAL.source,
        columns=(N, SHARE),
        parameters=(
            Parameter("L_inf", "loss of infinitely many parameters, nats per token", floor=True),
            *(
                Parameter(name, f"multiplier at share {level:g}", carries=(("n_params", "alpha"),))
                for level, name in zip(options["levels"], names, strict=True)
            ),
            exponent("alpha", "N"),
        ),
        function=function,
        gradient=gradient,
        read=_read_multilingual,
        derived=fractions,
        strata="share",
        options=options,
    )


MULTILINGUAL = Family(
    name="multilingual",
    formula="L = beta_p N^-alpha + L_inf, one beta for each share p",
    question="how many parameters in effect serve a language sampled with weight p: f_p N, f = 1 at the largest p",
    source="Fernandes et al. 2023, arXiv 2302.09650",
    choices=(Option("levels", "sampling weights separated by commas; by default the values of `share`"),),
    resolve=_resolve_multilingual,
    build=_build_multilingual,
    example={"levels": [0.1, 0.5, 1.0]},
)

LAWS = (D_CPT, MULTILINGUAL)

"""Laws that compare methods: two-part models, capacity density over time, and the multipliers of size and compute."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.fitter.law import FitResult, Law
from analysis.laws.chinchilla import optimum
from analysis.laws.power import FLOOR, exponent
from analysis.tables.columns import Array, Column, Columns, FitError

# --- two-part models ---------------------------------------------------------------------------------------

ENCODER = Column("n_params_encoder", "parameters of the encoder, or of another first part", "parameters")
DECODER = Column("n_params_decoder", "parameters of the decoder, or of another second part", "parameters")


def bivariate(columns: Columns, *, E: Any, A: Any, p_e: Any, p_d: Any) -> Array:
    """L = E + A Ne^-p_e Nd^-p_d. Ghorbani et al. 2021 (arXiv 2109.07740), equation 2; E is their L_inf.

    A product, not a sum: a starved part cannot be made up for by its own exponent alone.
    """
    loss: Array = E + A * _product(columns, p_e, p_d)
    return loss


def _product(columns: Columns, p_e: Any, p_d: Any) -> Any:
    return np.exp(-p_e * np.log(columns["n_params_encoder"]) - p_d * np.log(columns["n_params_decoder"]))


def _bivariate_gradient(columns: Columns, *, E: Any, A: Any, p_e: Any, p_d: Any) -> tuple[Array, ...]:
    product = _product(columns, p_e, p_d)
    log_e, log_d = np.log(columns["n_params_encoder"]), np.log(columns["n_params_decoder"])
    return np.ones_like(product + E), product, -A * product * log_e, -A * product * log_d


def _best_share(params: Columns) -> dict[str, Array]:
    """At a fixed Ne + Nd the loss is lowest at Ne : Nd = p_e : p_d; there it falls with the total to the p_total."""
    total = params["p_e"] + params["p_d"]
    with np.errstate(all="ignore"):
        return {"encoder_share": params["p_e"] / total, "p_total": total}


# --- capacity density --------------------------------------------------------------------------------------

TIME = Column("time", "date, from an origin near the data", "months", "any")
DENSITY = Column("density", "effective over actual parameters, e.g. by `effective_params`", "1")


def densing(columns: Columns, *, density0: Any, rate: Any) -> Array:
    """ln density = ln density0 + rate t. Xiao et al. 2024 (arXiv 2412.04315): ln density = A t + B."""
    density: Array = density0 * np.exp(rate * columns["time"])
    return density


def _densing_gradient(columns: Columns, *, density0: Any, rate: Any) -> tuple[Array, ...]:
    growth = np.exp(rate * columns["time"])
    return growth + 0 * density0, density0 * growth * columns["time"]


def _doubling_time(params: Columns) -> dict[str, Array]:
    """Months until the density has doubled, negative while it halves."""
    with np.errstate(all="ignore"):
        return {"doubling_time": math.log(2) / params["rate"]}


# --- against a reference -----------------------------------------------------------------------------------


def effective_params(reference: FitResult, loss: Any, n_tokens: Any = None) -> Array:
    """The size of a reference family that reaches a loss after so many tokens.

    Divided by the actual size it is the capacity density of Xiao et al. 2024, or a method's parameter
    multiplier.

    Args:
        reference: a fit of `chinchilla`, or of a power law with `n_params` as its x.
        loss: any shape.
        n_tokens: what the reference is granted, broadcast to `loss`; only for `chinchilla`.

    Returns:
        nan where the reference would have to be smaller or larger, or trained for fewer or more tokens, than the
        models that it was fitted to: beyond them a small error of the loss is a large one of the size.

    Raises:
        FitError: another law, or `n_tokens` missing or too many.
    """
    p = reference.values
    if reference.law.name == "chinchilla":
        if n_tokens is None:
            raise FitError("n_tokens: is missing; allowed: the tokens granted to the reference family")
        tokens = np.asarray(n_tokens, dtype=float)
        excess = np.asarray(loss, dtype=float) - p["E"] - p["B"] * tokens ** -p["beta"]
        size = _invert_power(excess, p["A"], p["alpha"])
        return np.where(
            _inside(tokens, reference.ranges["n_tokens"]), _within(size, reference.ranges["n_params"]), np.nan
        )
    if n_tokens is not None:
        raise FitError(f"n_tokens: have no say in {reference.law.name}; allowed: with a fit of chinchilla")
    return _invert_in(reference, "n_params", loss)


def effective_flops(reference: FitResult, loss: Any) -> Array:
    """The compute with which a reference reaches a loss.

    Args:
        reference: a fit of `frontier` or of a power law with `flops` as its x; or of `chinchilla`, which is then
            granted the best allocation at C = 6 N D (Hoffmann et al. 2022, equation 4).
        loss: any shape.

    Returns:
        nan outside of the compute, or of the sizes and tokens, that the reference was fitted to.

    Raises:
        FitError: another law.
    """
    if reference.law.name != "chinchilla":
        return _invert_in(reference, "flops", loss)
    p = reference.values
    constants = {name: p[name] for name in ("A", "B", "alpha", "beta")}
    n_params, n_tokens = optimum(1.0, **constants)
    # Both terms fall as C^-power along the optimum, so their sum is that at one FLOP times C^-power.
    at_one_flop = p["A"] * n_params ** -p["alpha"] + p["B"] * n_tokens ** -p["beta"]
    power = p["alpha"] * p["beta"] / (p["alpha"] + p["beta"])
    flops = _invert_power(np.asarray(loss, dtype=float) - p["E"], at_one_flop, power)
    n_params, n_tokens = optimum(flops, **constants)
    fitted = _inside(n_params, reference.ranges["n_params"]) & _inside(n_tokens, reference.ranges["n_tokens"])
    return np.where(fitted, flops, np.nan)


def compute_multiplier(reference: FitResult, loss: Any, flops: Any) -> Array:
    """CM = C_ref(L) / C: how many times its own compute a run saves against a reference at equal loss.

    Above 1 the run is better than the reference. nan where `effective_flops` is.
    """
    multiplier: Array = effective_flops(reference, loss) / np.asarray(flops, dtype=float)
    return multiplier


def _invert_in(reference: FitResult, column: str, loss: Any) -> Array:
    """x of a law of one variable at a loss, nan outside of the fitted range of x."""
    p = reference.values
    excess = np.asarray(loss, dtype=float) - p.get("E", 0.0)
    match reference.law.name:
        case "power_law" | "power_law_no_offset":
            x = _invert_power(excess, p["A"], p["alpha"])
        case "frontier":
            x = _invert_power(excess, p["A"], p["c"]) - p["B"]
        case law:
            raise FitError(
                f"{law}: is no reference; allowed: chinchilla, power_law, power_law_no_offset, frontier, over {column}"
            )
    if reference.columns["x"] != column:
        raise FitError(f"{reference.law.name}: was fitted over {reference.columns['x']}; allowed: over {column}")
    return _within(x, reference.ranges["x"])


def _invert_power(excess: Array, coefficient: Any, power: float) -> Array:
    """x of excess = coefficient x^-power; nan where nothing is in excess of the floor, or it is out of all range."""
    above = excess > 0
    log_x = np.log(coefficient / np.where(above, excess, 1.0)) / power
    return np.where(above & (log_x < 300), np.exp(np.minimum(log_x, 300)), np.nan)


def _inside(values: Array, fitted: tuple[float, float]) -> Any:
    # The ends belong to the range, whatever the rounding of an inverted formula.
    return (values >= fitted[0] * (1 - 1e-9)) & (values <= fitted[1] * (1 + 1e-9))


def _within(values: Array, fitted: tuple[float, float]) -> Array:
    return np.where(_inside(values, fitted), values, np.nan)


LAWS = (
    Law(
        name="bivariate",
        formula="L = E + A Ne^-p_e Nd^-p_d",
        question="how to share parameters between encoder and decoder, or any two parts",
        source="Ghorbani et al. 2021, arXiv 2109.07740",
        columns=(ENCODER, DECODER),
        parameters=(
            FLOOR,
            Parameter(
                "A", "coefficient of the product", carries=(("n_params_encoder", "p_e"), ("n_params_decoder", "p_d"))
            ),
            exponent("p_e", "Ne"),
            exponent("p_d", "Nd"),
        ),
        function=bivariate,
        gradient=_bivariate_gradient,
        derived=_best_share,
    ),
    Law(
        name="densing",
        formula="density = density0 exp(rate t)",
        question="how fast models reach the loss of larger ones, as months until the density doubles",
        source="Xiao et al. 2024, arXiv 2412.04315",
        columns=(TIME,),
        parameters=(
            Parameter("density0", "density at time 0"),
            Parameter(
                "rate",
                "growth of ln density per month",
                -30.0,
                30.0,
                starts=(-5.0, -1.0, 0.3, 1.0, 3.0, 8.0, 20.0),
                carries=(("time", -1.0),),
            ),
        ),
        function=densing,
        gradient=_densing_gradient,
        target=DENSITY,
        objective="lsq_log",
        derived=_doubling_time,
    ),
)

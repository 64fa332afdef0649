"""Power laws in one quantity that begin late or change their slope: shifted, broken, and with a plateau at each end."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from analysis.fitter.family import Family
from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.power import EXPONENT_STARTS, FLOOR, X, coefficient, exponent
from analysis.tables.columns import Array, Columns, FitError

MOST_BREAKS = 3


def _bounded_exp(z: Any) -> Any:
    """e^z with the real part of z held within ±300, where squares are still finite; z may be complex."""
    return np.exp(z - np.real(z) + np.clip(np.real(z), -300.0, 300.0))


def _softplus(u: Any) -> Any:
    """ln(1 + e^u) without overflow; u may be complex."""
    positive = np.real(u) > 0
    return np.where(positive, u, 0.0) + np.log1p(np.exp(np.where(positive, -u, u)))


def _sigmoid(u: Any) -> Any:
    """1 / (1 + e^-u) without overflow; u may be complex."""
    positive = np.real(u) > 0
    small = np.exp(np.where(positive, -u, u))  # at most 1
    return np.where(positive, 1.0, small) / (1.0 + small)


# --- frontier ----------------------------------------------------------------------------------------------


def frontier(columns: Columns, *, E: Any, A: Any, B: Any, c: Any) -> Array:
    """L = E + A (x + B)^-c, the best loss or error at compute x; flat where x is far below B.

    Nezhurina et al. 2025 (arXiv 2506.04598), who write the exponent as c <= 0 and fit the best run of each bin of
    compute. The best of many noisy runs is biased low: let every bin have equally many.
    """
    loss: Array = E + A * np.exp(-c * np.log(columns["x"] + B))
    return loss


def _frontier_gradient(columns: Columns, *, E: Any, A: Any, B: Any, c: Any) -> tuple[Array, ...]:
    shifted = columns["x"] + B
    power = np.exp(-c * np.log(shifted))
    return np.ones_like(power + E), power, -A * c * power / shifted, -A * power * np.log(shifted)


# --- broken power law --------------------------------------------------------------------------------------

BNSL_FORMULA = "L = E + A x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i)"
BNSL_QUESTION = "how the loss falls with one quantity if the slope changes on the way (1 to 3 breaks)"
BNSL_SOURCE = "Caballero et al. 2022, arXiv 2210.14891"


def bnsl(columns: Columns, *, breaks: int, E: Any, A: Any, c0: Any, **parts: Any) -> Array:
    """L = E + A x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i), a broken neural scaling law.

    Caballero et al. 2022 (arXiv 2210.14891), equation 1, where E is a and A is b. On logarithmic axes the reducible
    loss has slope -(c0 + ... + c_i) behind break i; f_i is the break's width in ln x, and a negative c_i bends the
    curve up, so that it need not be monotonic.

    Args:
        parts: c1, d1, f1, and so on, for each break.
    """
    log_x = np.log(columns["x"])
    log_reducible = -c0 * log_x
    for i in range(1, breaks + 1):
        c, d, f = (parts[f"{name}{i}"] for name in "cdf")
        log_reducible = log_reducible - c * f * _softplus((log_x - np.log(d)) / f)
    loss: Array = E + A * _bounded_exp(log_reducible)
    return loss


def _places(breaks: int, parts: Any) -> dict[str, Any]:
    """The breaks' places d1, d2, ... from d1 and the gaps between their logarithms.

    The formula does not tell its breaks apart; gaps that cannot be negative do, so that a break means the same one in
    every resample.
    """
    places = {"d1": parts["d1"]}
    for i in range(2, breaks + 1):
        places[f"d{i}"] = places[f"d{i - 1}"] * np.exp(parts[f"gap{i}"])
    return places


def _bnsl_in_order(columns: Columns, *, breaks: int, E: Any, A: Any, c0: Any, **parts: Any) -> Array:
    return bnsl(columns, breaks=breaks, E=E, A=A, c0=c0, **(parts | _places(breaks, parts)))


def _bnsl_gradient(columns: Columns, *, breaks: int, E: Any, A: Any, c0: Any, **parts: Any) -> tuple[Array, ...]:
    log_x, places = np.log(columns["x"]), _places(breaks, parts)
    falling = bnsl(columns, breaks=breaks, E=0.0, A=1.0, c0=c0, **(parts | places))
    reducible = A * falling
    by_c, by_log_d, by_f = [], [], []
    for i in range(1, breaks + 1):
        c, f = parts[f"c{i}"], parts[f"f{i}"]
        u = (log_x - np.log(places[f"d{i}"])) / f
        rise, share = _softplus(u), _sigmoid(u)
        by_c.append(-reducible * f * rise)
        by_log_d.append(reducible * c * share)
        by_f.append(-reducible * c * (rise - u * share))
    # A gap moves its own break and all behind it, d1 moves all.
    by_place = [sum(by_log_d[i:]) / (parts["d1"] if i == 0 else 1.0) for i in range(breaks)]
    of_breaks = (slope for three in zip(by_c, by_place, by_f, strict=True) for slope in three)
    return np.ones_like(reducible + E), falling + 0 * A, -reducible * log_x, *of_breaks


def _break_parameters(i: int, of: int) -> tuple[Parameter, ...]:
    """c, d (or the gap to the break before) and f of break i (from 1) out of so many."""
    # Steep changes are common where a task is learnt: Caballero et al. find c1 = 5.7 for four-digit addition.
    slopes = ((-0.5, 0.3, 1.0, 4.0), (-0.5, 0.5, 2.0), (-0.5, 0.5, 2.0))[of - 1]
    places = ((0.15, 0.35, 0.5, 0.65, 0.85), (0.15, 0.3, 0.5), (0.1, 0.25, 0.4))[of - 1]
    widths = ((0.05, 0.2, 0.8), (0.1, 0.5), (0.3,))[of - 1]
    place = Parameter(
        "d1", "place of break 1, in the unit of x", starts=places, quantiles_of="x", carries=(("x", 1.0),)
    )
    gap = Parameter(f"gap{i}", f"ln(d{i} / d{i - 1})", 0.0, 50.0, starts=(1.0, 3.0, 6.0))
    return (
        Parameter(f"c{i}", f"change of slope at break {i}", -4.0, 20.0, starts=slopes),
        place if i == 1 else gap,
        Parameter(f"f{i}", f"width of break {i} in ln x", 0.005, 3.0, starts=widths),
    )


def _read_breaks(_table: Any, options: Options) -> dict[str, Any]:
    given = options.get("breaks", 1)
    if str(given) not in {str(n) for n in range(1, MOST_BREAKS + 1)}:
        raise FitError(f"bnsl: breaks={given} is not allowed; allowed: 1 to {MOST_BREAKS}")
    return {"breaks": int(given)}


def _later_places(breaks: int, params: Columns) -> dict[str, Array]:
    places = _places(breaks, params)
    return {name: places[name] for name in places if name != "d1"}


def _bnsl_law(options: Options) -> Law:
    breaks = options["breaks"]
    first = Parameter("c0", "exponent before the first break", -2.0, 4.0, starts=(0.02, 0.1, 0.4))
    return Law(
        name="bnsl",
        formula=BNSL_FORMULA,
        question=BNSL_QUESTION,
        source=BNSL_SOURCE,
        columns=(X,),
        parameters=(
            FLOOR,
            coefficient("A", "x", "c0", "x"),
            first,
            *(parameter for i in range(1, breaks + 1) for parameter in _break_parameters(i, breaks)),
        ),
        function=partial(_bnsl_in_order, breaks=breaks),
        gradient=partial(_bnsl_gradient, breaks=breaks),
        derived=partial(_later_places, breaks) if breaks > 1 else None,
        options=options,
    )


# --- three regions -----------------------------------------------------------------------------------------


def hestness(columns: Columns, *, E: Any, L0: Any, x_half: Any, beta: Any) -> Array:
    """L = E + (L0 - E) / (1 + (x / x_half)^beta): plateau of small data, power law, irreducible floor.

    The three regions of Hestness et al. 2017 (arXiv 1712.00409), figure 6, as one smooth curve, which is the
    rectified law of Lin et al. 2024 (arXiv 2402.02314), L = B / (D_l + x^beta) + E, written with the loss of best
    guessing L0 = E + B / D_l and with x_half = D_l^(1 / beta), where half of L0 - E is gone. L0 may be known (ln of
    the vocabulary, or the entropy of single tokens) and be held fixed.
    """
    learnt = _sigmoid(beta * (np.log(columns["x"]) - np.log(x_half)))
    loss: Array = L0 * (1.0 - learnt) + E * learnt
    return loss


def _hestness_gradient(columns: Columns, *, E: Any, L0: Any, x_half: Any, beta: Any) -> tuple[Array, ...]:
    from_half = np.log(columns["x"]) - np.log(x_half)
    learnt = _sigmoid(beta * from_half)
    slope = (L0 - E) * learnt * _sigmoid(-beta * from_half)  # -dL / d(beta ln x)
    return learnt + 0 * E, 1.0 - learnt, slope * beta / x_half, -slope * from_half


def _regions(params: Columns) -> dict[str, Array]:
    """Lin's parameters, and where the asymptotes of neighbouring regions meet in the plane of ln x and ln loss.

    The plateau of the reducible loss, L0 - E, meets the power law (L0 - E) (x / x_half)^-beta at x_half; this meets
    the floor E at x_floor.
    """
    E, L0, x_half, beta = params["E"], params["L0"], params["x_half"], params["beta"]
    with np.errstate(all="ignore"):  # a curve that rises, or has no floor, has no such boundary
        D_l = x_half**beta
        return {"D_l": D_l, "B": (L0 - E) * D_l, "x_floor": x_half * np.exp(np.log((L0 - E) / E) / beta)}


LAWS = (
    Law(
        name="frontier",
        formula="L = E + A (x + B)^-c",
        question="how the best loss or error at a compute falls with it, where it starts flat",
        source="Nezhurina et al. 2025, arXiv 2506.04598",
        columns=(X,),
        parameters=(
            FLOOR,
            Parameter("A", "coefficient of (x + B)^-c", carries=(("x", "c"),)),
            Parameter(
                "B",
                "where the fall begins, in the unit of x",
                starts=(1e-4, 1e-2, 0.1, 0.5, 3.0),
                carries=(("x", 1.0),),
            ),
            exponent("c", "x + B"),
        ),
        function=frontier,
        gradient=_frontier_gradient,
    ),
    Family(
        name="bnsl",
        formula=BNSL_FORMULA,
        question=BNSL_QUESTION,
        source=BNSL_SOURCE,
        choices=(Option("breaks", f"number of breaks, 1 to {MOST_BREAKS}", 1),),
        resolve=_read_breaks,
        build=_bnsl_law,
        example={"breaks": 1},
    ),
    Law(
        name="hestness",
        formula="L = E + (L0 - E) / (1 + (x / x_half)^beta) = B / (D_l + x^beta) + E",
        question="from guessing over a power law to the floor, with growing data (the rectified law)",
        source="Hestness et al. 2017, arXiv 1712.00409; Lin et al. 2024, arXiv 2402.02314",
        columns=(X,),
        parameters=(
            FLOOR,
            Parameter("L0", "loss of best guessing, without data"),
            Parameter(
                "x_half",
                "x at which half of the reducible loss is gone",
                starts=(0.05, 0.2, 0.4, 0.6, 0.8, 0.95),
                quantiles_of="x",
                carries=(("x", 1.0),),
            ),
            Parameter("beta", "exponent of the power law", 0.0, 4.0, starts=EXPONENT_STARTS, typical=(0.05, 1.2)),
        ),
        function=hestness,
        gradient=_hestness_gradient,
        derived=_regions,
    ),
)

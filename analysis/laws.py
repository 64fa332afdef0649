"""The laws: each a plain function of columns and named parameters, with all that a fitter must know.

Adding a law is writing its function and the function of its partial derivatives, and one entry of `LAWS`.
Parameters broadcast against columns: parameters of shape (S, 1) and columns of shape (N,) give values (S, N).
Units: loss in nats per token; columns as `Column` says. Law constants carry the unit that makes the formula right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.door import pick

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A positive quantity that a law reads from the table."""

    name: str
    meaning: str
    unit: str


@dataclass(frozen=True)
class Parameter:
    """A named constant of a law.

    Attributes:
        starts: values of the grid that the fit starts from. Empty for a coefficient in which the law is
            linear: for given exponents its best value follows by least squares.
        carries: `(column, exponent)` where the coefficient multiplies `column ** -exponent`. The fit divides
            such a column by its geometric mean x0, and reports `coefficient * x0 ** exponent`.
        typical: outside of this range a fitted value deserves a warning.
        floor: the parameter is the limit of the loss at infinite scale.
    """

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = math.inf
    starts: tuple[float, ...] = ()
    carries: tuple[str, str] | None = None
    typical: tuple[float, float] | None = None
    floor: bool = False

    @property
    def linear(self) -> bool:
        return not self.starts

    @property
    def log(self) -> bool:
        """Whether the fit moves the parameter's logarithm: it may be any positive number."""
        return self.lower == 0.0 and self.upper == math.inf


@dataclass(frozen=True)
class Law:
    """A formula for the loss.

    Attributes:
        function: `(columns, **parameters) -> loss`.
        gradient: `(columns, **parameters) -> partial derivatives of the loss`, in the order of `parameters`.
    """

    name: str
    formula: str
    question: str
    source: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    function: Callable[..., Array]
    gradient: Callable[..., tuple[Array, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def centred(self) -> tuple[str, ...]:
        """The columns that the fit divides by their geometric mean."""
        return tuple(parameter.carries[0] for parameter in self.parameters if parameter.carries)


# --- power law in one variable ---------------------------------------------------------------------------


def power_law(columns: Mapping[str, Array], *, E: Any, A: Any, alpha: Any) -> Array:
    """L = E + A x^-alpha. Hestness et al. 2017 (arXiv 1712.00409), section 3."""
    loss: Array = E + power_law_no_offset(columns, A=A, alpha=alpha)
    return loss


def _power_law_gradient(columns: Mapping[str, Array], *, E: Any, A: Any, alpha: Any) -> tuple[Array, ...]:
    slopes = _power_law_no_offset_gradient(columns, A=A, alpha=alpha)
    return (np.ones_like(slopes[0] + E), *slopes)


def power_law_no_offset(columns: Mapping[str, Array], *, A: Any, alpha: Any) -> Array:
    """L = A x^-alpha. Kaplan et al. 2020 (arXiv 2001.08361), equations 1.1 to 1.3."""
    loss: Array = A * np.exp(-alpha * np.log(columns["x"]))
    return loss


def _power_law_no_offset_gradient(columns: Mapping[str, Array], *, A: Any, alpha: Any) -> tuple[Array, ...]:
    log_x = np.log(columns["x"])
    power = np.exp(-alpha * log_x)
    return power + 0 * A, -A * power * log_x


# --- Chinchilla, approach 3 ------------------------------------------------------------------------------


def chinchilla(columns: Mapping[str, Array], *, E: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Array:
    """L = E + A N^-alpha + B D^-beta. Hoffmann et al. 2022 (arXiv 2203.15556), equation 2."""
    size = np.exp(-alpha * np.log(columns["n_params"]))
    data = np.exp(-beta * np.log(columns["n_tokens"]))
    loss: Array = E + A * size + B * data
    return loss


def _chinchilla_gradient(
    columns: Mapping[str, Array], *, E: Any, A: Any, B: Any, alpha: Any, beta: Any
) -> tuple[Array, ...]:
    log_n, log_d = np.log(columns["n_params"]), np.log(columns["n_tokens"])
    size, data = np.exp(-alpha * log_n), np.exp(-beta * log_d)
    return np.ones_like(size + E), size, data, -A * size * log_n, -B * data * log_d


# --- registry --------------------------------------------------------------------------------------------

_EXPONENT_STARTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)


def _exponent(name: str, of: str) -> Parameter:
    # Above 4 a power law is a step; no published exponent of a loss passes 1.2.
    return Parameter(name, f"exponent of {of}", 0.0, 4.0, starts=_EXPONENT_STARTS, typical=(0.05, 1.2))


_E = Parameter("E", "loss at infinite scale, nats per token", floor=True)
_X = Column("x", "any column, chosen with --x", "its own")
_N = Column("n_params", "parameters, by the convention chosen with --params", "parameters")
_D = Column("n_tokens", "training tokens", "tokens")

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            name="power_law",
            formula="L = E + A x^-alpha",
            question="how the loss falls with one quantity towards a floor",
            source="Hestness et al. 2017, arXiv 1712.00409",
            columns=(_X,),
            parameters=(
                _E,
                Parameter("A", "coefficient of x^-alpha", carries=("x", "alpha")),
                _exponent("alpha", "x"),
            ),
            function=power_law,
            gradient=_power_law_gradient,
        ),
        Law(
            name="power_law_no_offset",
            formula="L = A x^-alpha",
            question="how the loss falls with one quantity, far above its floor",
            source="Kaplan et al. 2020, arXiv 2001.08361",
            columns=(_X,),
            parameters=(
                Parameter("A", "coefficient of x^-alpha", carries=("x", "alpha")),
                _exponent("alpha", "x"),
            ),
            function=power_law_no_offset,
            gradient=_power_law_no_offset_gradient,
        ),
        Law(
            name="chinchilla",
            formula="L = E + A N^-alpha + B D^-beta",
            question="the loss of N parameters after D tokens (approach 3)",
            source="Hoffmann et al. 2022, arXiv 2203.15556",
            columns=(_N, _D),
            parameters=(
                _E,
                Parameter("A", "coefficient of N^-alpha", carries=("n_params", "alpha")),
                Parameter("B", "coefficient of D^-beta", carries=("n_tokens", "beta")),
                _exponent("alpha", "N"),
                _exponent("beta", "D"),
            ),
            function=chinchilla,
            gradient=_chinchilla_gradient,
        ),
    )
}


def get_law(name: str) -> Law:
    """The law of that name; raises `UserError` naming those that exist."""
    return pick("law", name, LAWS)

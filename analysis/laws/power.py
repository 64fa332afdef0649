"""Power laws in one quantity."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.fitter.law import Law
from analysis.tables.columns import Array, Column, Columns

EXPONENT_STARTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)

FLOOR = Parameter("E", "loss at infinite scale, nats per token", floor=True)
X = Column("x", "any column, chosen with --x", "its own")


def exponent(name: str, of: str) -> Parameter:
    """A power law's exponent. Above 4 a power law is a step; no published exponent of a loss passes 1.2."""
    return Parameter(name, f"exponent of {of}", 0.0, 4.0, starts=EXPONENT_STARTS, typical=(0.05, 1.2))


def coefficient(name: str, column: str, power: str, symbol: str) -> Parameter:
    """The factor of `symbol`^-power."""
    return Parameter(name, f"coefficient of {symbol}^-{power}", carries=((column, power),))


def power_law(columns: Columns, *, E: Any, A: Any, alpha: Any) -> Array:
    """L = E + A x^-alpha. Hestness et al. 2017 (arXiv 1712.00409), section 3."""
    loss: Array = E + power_law_no_offset(columns, A=A, alpha=alpha)
    return loss


def _power_law_gradient(columns: Columns, *, E: Any, A: Any, alpha: Any) -> tuple[Array, ...]:
    slopes = _power_law_no_offset_gradient(columns, A=A, alpha=alpha)
    return (np.ones_like(slopes[0] + E), *slopes)


def power_law_no_offset(columns: Columns, *, A: Any, alpha: Any) -> Array:
    """L = A x^-alpha. Kaplan et al. 2020 (arXiv 2001.08361), equations 1.1 to 1.3."""
    loss: Array = A * np.exp(-alpha * np.log(columns["x"]))
    return loss


def _power_law_no_offset_gradient(columns: Columns, *, A: Any, alpha: Any) -> tuple[Array, ...]:
    log_x = np.log(columns["x"])
    power = np.exp(-alpha * log_x)
    return power + 0 * A, -A * power * log_x


LAWS = (
    Law(
        name="power_law",
        formula="L = E + A x^-alpha",
        question="how the loss falls with one quantity towards a floor",
        source="Hestness et al. 2017, arXiv 1712.00409",
        columns=(X,),
        parameters=(FLOOR, coefficient("A", "x", "alpha", "x"), exponent("alpha", "x")),
        function=power_law,
        gradient=_power_law_gradient,
    ),
    Law(
        name="power_law_no_offset",
        formula="L = A x^-alpha",
        question="how the loss falls with one quantity, far above its floor",
        source="Kaplan et al. 2020, arXiv 2001.08361",
        columns=(X,),
        parameters=(coefficient("A", "x", "alpha", "x"), exponent("alpha", "x")),
        function=power_law_no_offset,
        gradient=_power_law_no_offset_gradient,
    ),
)

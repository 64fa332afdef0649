"""A formula with named parameters, and all that a fitter must know of it.

Formula("power", "L = A x^-alpha", …, columns=(X,), parameters=(Parameter("A", …), Parameter("alpha", …)), function=f)
formula.names                                   ("A", "alpha")
formula.partials(variables, parameters)         the derivatives of the target by each parameter
Option("breaks", "how many", 1)                 a choice that a person makes with `--set breaks=2`

Shape letters: S starts or bootstrap replicates, N points, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.tables.columns import LOSS, Array, Column, Columns, FitError

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A named constant of a law.

    A parameter without `starts` is a linear coefficient: for given values of the others its best value follows by
    least squares. One that runs from 0 to infinity is moved by its logarithm.

    Attributes:
        starts: values of the grid that the fit starts from, in centred units (see `carries`).
        quantiles_of: a variable of the law; then `starts` are quantiles of it, and the bounds lie around it.
        carries: `((variable, power), …)`, where the fit divides the variable by a typical value x0 and the
            parameter in the units of the table is the fitted one times x0 to that power. A power is a number, or
            the name of a parameter, with a minus sign in front if need be: in A N^-alpha, A carries
            `("n_params", "alpha")`.
        typical: outside of this range a fitted value deserves a warning.
        floor: the parameter is the limit of the loss at infinite scale.
        of_target: it has the unit of the target, so that its starts and bounds are multiples of a typical target.
            Linear coefficients have it anyway.
    """

    name: str
    meaning: str
    lower: float = 0.0
    upper: float = math.inf
    starts: tuple[float, ...] = ()
    quantiles_of: str | None = None
    carries: tuple[tuple[str, str | float], ...] = ()
    typical: tuple[float, float] | None = None
    floor: bool = False
    of_target: bool = False

    @property
    def linear(self) -> bool:
        return not self.starts

    @property
    def log(self) -> bool:
        """Whether the fit moves the parameter's logarithm: it may be any positive number."""
        return self.lower == 0.0 and self.upper == math.inf


@dataclass(frozen=True)
class Option:
    """A choice that the user makes with `--set name=value`."""

    name: str
    meaning: str
    default: Any = None


def check_options(name: str, options: Options, choices: Sequence[Option]) -> None:
    """Raise `FitError` for an option that the law of this name does not have."""
    known = [choice.name for choice in choices]
    for given in options:
        if given not in known:
            raise FitError(f"{name}: has no option {given}; there are: {', '.join(known) or 'none'}")


@dataclass(frozen=True)
class Formula:
    """A formula for the target, the loss unless said otherwise. Two are equal if all but their functions are.

    Attributes:
        columns: what it reads from the table.
        function: `(variables, **parameters) -> predicted target`; parameters of shape (S, 1) and variables of
            shape (N,) give (S, N). It must also take complex parameters, unless `gradient` is given: no `abs`,
            `maximum` or comparison of what depends on a parameter (use `np.where` on real parts).
        gradient: `(variables, **parameters) -> partial derivatives`, in the order of `parameters`; without it the
            fit takes them by complex steps, which are exact to rounding and cost about four times as much.
        objective: what the fit minimises unless asked otherwise.
        read: `(table, options) -> variables`, where these are not simply the columns.
        guess: `(variables, target) -> values (S, Q)` of the Q parameters that are not linear, in centred units and
            in their order, instead of the grid of starts.
        derived: `(parameters) -> further quantities`, reported with intervals: exponents of the optimum and so on.
        cluster: a column; the bootstrap draws its values (curves, runs) instead of rows.
        strata: a column; the bootstrap draws rows within each of its values, all of which a law needs.
        options: what the law was built from; `read` and `predict` use them again.
    """

    name: str
    formula: str
    question: str
    source: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    function: Callable[..., Array] = field(compare=False)
    gradient: Callable[..., tuple[Array, ...]] | None = field(default=None, compare=False)
    target: Column = LOSS
    objective: str = "huber_log"
    read: Callable[[Any, Options], dict[str, Array]] | None = field(default=None, compare=False)
    guess: Callable[[Columns, Array], Array] | None = field(default=None, compare=False)
    derived: Callable[[Columns], dict[str, Array]] | None = field(default=None, compare=False)
    cluster: str | None = None
    strata: str | None = None
    options: Options = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def centred(self) -> tuple[str, ...]:
        """The variables that the fit divides by a typical value."""
        return tuple(dict.fromkeys(name for parameter in self.parameters for name, _ in parameter.carries))

    def partials(self, variables: Columns, parameters: Columns) -> tuple[Array, ...]:
        """Partial derivatives of the target by each parameter, each broadcastable to (S, N)."""
        if self.gradient is not None:
            return self.gradient(variables, **parameters)
        return complex_step(self.function, variables, parameters)


def complex_step(function: Callable[..., Array], variables: Columns, parameters: Columns) -> tuple[Array, ...]:
    """Derivatives of an analytic function, exact to rounding: Im f(x + ih) / h (Squire and Trapp 1998)."""
    h = 1e-30
    return tuple(
        np.imag(function(variables, **(dict(parameters) | {name: value + 1j * h}))) / h
        for name, value in parameters.items()
    )

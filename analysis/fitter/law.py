"""What a law is: a plain function of columns and named parameters, with all that a fitter must know.

Three kinds answer to one name on the command line:

- a `Law` is a formula, fitted by `analysis.fit`;
- a `Family` makes a law out of options and of what the table holds (how many breaks, which mixture weights);
- a `Procedure` goes in steps that are no single formula (the minima of IsoFLOP curves, then a line through them).

Shape letters: S starts or bootstrap replicates, N points, P parameters, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.tables.columns import LOSS, Array, Column, Columns

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


@dataclass(frozen=True)
class Law:
    """A formula for the target, the loss unless said otherwise.

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
    function: Callable[..., Array]
    gradient: Callable[..., tuple[Array, ...]] | None = None
    target: Column = LOSS
    objective: str = "huber_log"
    read: Callable[[Any, Options], dict[str, Array]] | None = None
    guess: Callable[[Columns, Array], Array] | None = None
    derived: Callable[[Columns], dict[str, Array]] | None = None
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


@dataclass(frozen=True)
class Family:
    """Laws that differ in how many parameters they have.

    Attributes:
        resolve: `(table, options given) -> options complete`, plain values that `fit.json` can hold; raises
            `FitError` for options that make no law.
        build: complete options -> the law, with the `options` in it.
        example: complete options of a member, which is what `python -m analysis laws` shows.
    """

    name: str
    formula: str
    question: str
    source: str
    options: tuple[Option, ...]
    resolve: Callable[[Any, Options], dict[str, Any]]
    build: Callable[[Options], Law]
    example: Options


@dataclass(frozen=True)
class Learner(Family):
    """A predictor that is learnt as a whole: a law without parameters, whose model is text among its options.

    Attributes:
        train: `(variables, target, complete options) -> options with the model`. `build` of these gives a law of
            no parameters that predicts; what the model says about itself is `derived`.
    """

    train: Callable[[Columns, Array, Options], dict[str, Any]]


@dataclass(frozen=True)
class Steps:
    """What a procedure found, in R weightings of the points; the first is the points as they are.

    Attributes:
        params: each (R,); nan where a resample leaves nothing to estimate.
        residuals: of its last step, at the points as they are: ln predicted - ln found.
        points: what its last step went through, to be drawn and saved: columns of one length.
        warnings: sentences.
        derived: what else follows, at the points as they are.
    """

    params: dict[str, Array]
    residuals: Array
    points: dict[str, Array]
    warnings: tuple[str, ...] = ()
    derived: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Procedure:
    """An estimate in several steps.

    Attributes:
        columns: what it reads from the table, the target left out.
        parameters: names, meanings and typical ranges of what it finds.
        estimate: `(columns, target, weights (R, N), options) -> Steps`. Weights say how often each point counts.
        inputs: the columns that `predict` reads.
        optional: columns that `estimate` finds where the table has them.
        predict: `(columns, **parameters) -> {name: predicted}`, each (S, N).
        groups: `(columns) -> codes (N,)` of groups that are no column of the table, such as budgets that are equal
            but for rounding; `estimate` finds them as the column `group`.
        labels: a column of names; `estimate` finds it, under its name, as codes 0, 1, ….
        resample: whether the bootstrap draws rows, rows within each group (or label), or whole groups.
    """

    name: str
    formula: str
    question: str
    source: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    estimate: Callable[[Columns, Array, Array, Options], Steps]
    inputs: tuple[Column, ...]
    predict: Callable[..., dict[str, Array]]
    target: Column = LOSS
    options: tuple[Option, ...] = ()
    optional: tuple[Column, ...] = ()
    groups: Callable[[Columns], NDArray[np.int64]] | None = None
    labels: str | None = None
    resample: Literal["rows", "within groups", "groups"] = "rows"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

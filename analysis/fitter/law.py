"""What can be fitted, and what a fit gives: a formula, a family of formulas and a procedure answer to the same calls.

law.fit(table, FitOptions(delta=0.02))     a `FitResult`
result.values["alpha"]                     a constant, in the units of the table
result.predict(table)                      {"predicted": …, "lo95": …, …}, a value for each row
result.law                                 the law itself, with its options

A `Law` is one formula. `analysis.fitter.family` makes laws out of options and of what the table holds, and
`analysis.fitter.procedure` goes in steps that are no single formula.

Shape letters: S starts or bootstrap replicates, N points, R resamples.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.fitter.fit import check_fixed, check_profiles, delta_of, optimise, problem_of, profile_of
from analysis.fitter.formula import Formula, Option, Options, Parameter, check_options
from analysis.fitter.identify import Identifiability, identify
from analysis.fitter.options import DEFAULTS, FitOptions
from analysis.fitter.points import check_points, digest_of, explained, ranges_of, read_points, read_variables
from analysis.fitter.predict import predict_formula
from analysis.fitter.refit import refit_all
from analysis.fitter.solve import TOLERANCE
from analysis.fitter.uncertainty import objective_value, standard_errors, to_params
from analysis.tables.columns import Array, Column

# --- what every kind answers -----------------------------------------------------------------------------


class Fittable(ABC):
    """What answers to a name on the command line.

    Attributes:
        formula: as people write it.
        question: what it answers.
        source: the paper.
        choices: the options that a person may set.
    """

    name: str
    formula: str
    question: str
    source: str
    choices: tuple[Option, ...]

    @property
    def single(self) -> Law | None:
        """The law itself where it is one formula as it stands; None of a family and of a procedure."""
        return None

    @property
    @abstractmethod
    def shown(self) -> Predictor:
        """What `python -m analysis laws` shows: a member of a family."""

    @property
    def of_curves(self) -> bool:
        """Whether its points are those of training curves."""
        return self.shown.of_curves

    @abstractmethod
    def choose(self, table: Any, options: Options) -> Predictor:
        """`law.choose(table, {"breaks": "2"})`: with its options checked and completed; raises `FitError`."""

    @abstractmethod
    def rebuild(self, options: Options) -> Predictor:
        """`law.rebuild({"breaks": 2})`: what `choose` gave, from its complete options."""

    @abstractmethod
    def fit(self, table: Any, asked: FitOptions = DEFAULTS) -> FitResult:
        """`law.fit(table, FitOptions(bootstrap=0))`: its constants, with all that can be said of them.

        Args:
            table: a polars frame, or a mapping of arrays, with the law's columns and its target.

        Raises:
            FitError: the table lacks a column, or holds what the law cannot be fitted to; an option is not the law's.
        """


class Predictor(Fittable):
    """A law whose options are chosen.

    Attributes:
        columns: what it reads from the table, the target left out.
        target: what it predicts.
        options: complete ones, with which it is built again.
    """

    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    target: Column
    options: Options

    @property
    def names(self) -> tuple[str, ...]:
        """Of the constants."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def shown(self) -> Predictor:
        return self

    @property
    @abstractmethod
    def of_curves(self) -> bool: ...

    @property
    def reads(self) -> tuple[Column, ...]:
        """Every column that a fit reads from the table."""
        return (*self.columns, self.target)

    def choose(self, _table: Any, options: Options) -> Predictor:
        check_options(self.name, options, self.choices)
        return self.rebuild({choice.name: options.get(choice.name, choice.default) for choice in self.choices})

    @abstractmethod
    def predictions(self, result: FitResult, table: Any) -> dict[str, Array]:
        """See `FitResult.predict`."""


# --- what a fit gives ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A fitted quantity; the spread is that of the bootstrap, and missing without one or where it was held."""

    value: float
    std: float | None
    ci95: tuple[float, float] | None


def estimate(value: float, draws: Any) -> Estimate:
    """`estimate(0.34, draws)`: a value with the spread of its bootstrap; resamples that had nothing to estimate (nan)
    are left out."""
    draws = np.asarray(draws)
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return Estimate(value, None, None)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(draws.std(ddof=1)), (float(low), float(high)))


@dataclass(frozen=True)
class FitResult:
    """A fitted law, or what a procedure arrived at.

    Attributes:
        law: with its options.
        columns: column of the law -> column of the table.
        ranges: variable of the law -> its smallest and largest fitted value.
        objective: `name`, `delta` (None where it has no say or is infinite), and `value`, the sum over the points at
            the optimum.
        n: points fitted.
        params: constants in the units of the table.
        derived: what follows from the constants: exponents of an optimum, scales, thresholds.
        fixed: the constants that were held.
        r2: share of the variance of ln target (of the target, where residuals are differences) that is explained;
            None for a procedure.
        starts: `n`, and `best`, how many ended within 1e-6 (relative) of the best objective.
        convergence: `gradient`, the largest cosine between the weighted residuals and a column of the Jacobian at
            the optimum; the `tolerance` for it; whether it was `reached`; `iterations`.
        standard_errors: `sandwich` and, for least squares, `classical`: a value for each constant.
        profiles: constant -> `ci95`, the curve `value`, `deviance`, and its `level`, for those that were asked for.
        warnings: sentences; what the data cannot carry.
        data_sha256: of the fitted columns in canonical order, so that the order of rows does not matter.
        residuals: ln predicted - ln measured (or the difference), in canonical order.
        bootstrap: `n`, `seed`, `unit` (what was drawn), `converged` (share), and `params`, a list of values for each.
        points: what the last step of a procedure went through; empty for a law.
        findings: what the linter says of the table (`analysis.tables.lint`).
        holdout: how well cheaper runs predicted more expensive ones (`analysis.fits.holdout`); None where it was not
            asked.
    """

    law: Predictor
    columns: dict[str, str]
    ranges: dict[str, tuple[float, float]]
    objective: dict[str, Any]
    n: int
    params: dict[str, Estimate]
    derived: dict[str, Estimate]
    fixed: dict[str, float]
    r2: float | None
    seconds: float
    starts: dict[str, int]
    convergence: dict[str, Any]
    identifiability: Identifiability
    standard_errors: dict[str, dict[str, float | None]]
    profiles: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]
    data_sha256: str
    residuals: tuple[float, ...]
    bootstrap: dict[str, Any]
    points: dict[str, list[float]] = field(default_factory=dict)
    findings: tuple[dict[str, Any], ...] = ()
    holdout: dict[str, Any] | None = None

    @property
    def values(self) -> dict[str, float]:
        """The constants alone."""
        return {name: estimate.value for name, estimate in self.params.items()}

    @property
    def draws(self) -> dict[str, Array]:
        """Each constant in every resample (S, 1); nan where a resample left nothing to estimate."""
        return {name: np.array(values, dtype=float)[:, None] for name, values in self.bootstrap["params"].items()}

    def predict(self, table: Any) -> dict[str, Array]:
        """`result.predict(table)["predicted"]`: what the fitted law says of the rows of a table (N,).

        Returns:
            of a law `predicted`; `lo95` and `hi95`, the 95 % interval of the law's mean from its bootstrap; `pi_lo95`
            and `pi_hi95`, that of a new measurement. The intervals are left out where the fit has no bootstrap. Of a
            procedure each of its predictions, with `_lo95` and `_hi95` behind its name.

        Raises:
            FitError: the table lacks a column of the law.
        """
        return self.law.predictions(self, table)


# --- one formula -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law(Formula, Predictor):
    """A formula that is fitted as such: by the bootstrap's resamples too, each from the optimum and from its own two
    best points of the grid of starts."""

    choices: tuple[Option, ...] = ()

    @property
    def single(self) -> Law:
        return self

    @property
    def of_curves(self) -> bool:
        return self.cluster == "curve"

    def rebuild(self, options: Options) -> Law:  # noqa: ARG002
        return self

    def fit(self, table: Any, asked: FitOptions = DEFAULTS) -> FitResult:
        began = time.perf_counter()
        if asked.options != self.options:
            check_options(self.name, asked.options, self.choices)
        fixed, objective = dict(asked.fixed), asked.objective or self.objective
        log = objective.endswith("log")
        check_fixed(self, fixed)
        check_profiles(self, fixed, asked.profiles)
        points = read_points(self, table, asked.x, asked.cluster, asked.se, log)
        check_points(self, points, fixed)
        problem = problem_of(self, points, fixed, log)
        delta = delta_of(objective, asked.delta, problem)

        optimum = optimise(problem, points.weights, delta, asked.starts)
        theta = optimum.theta
        draws, settled = refit_all(problem, theta, points.draw(asked.bootstrap, asked.seed), delta)
        values = {name: float(v[0, 0]) for name, v in to_params(self, theta[None], problem.centre).items()}
        spread = {name: v[:, 0] for name, v in to_params(self, draws, problem.centre).items()}
        identifiability, warnings = identify(problem, theta, draws, points.sources)
        if not optimum.converged:
            warnings.insert(0, f"the optimum was not reached: gradient {optimum.slope:.1e} > {TOLERANCE:g}")
        if settled < 0.99:
            warnings.append(f"{1 - settled:.0%} of the bootstrap fits did not converge; the intervals are unsure")
        residuals = problem.residuals(theta[None])[0]
        kinds = {"sandwich": standard_errors(problem, theta, points.weights, delta, "sandwich", units=points.drawn)}
        if math.isinf(delta):
            kinds["classical"] = standard_errors(problem, theta, points.weights, delta, "classical")
        return FitResult(
            law=self,
            columns=points.sources,
            ranges=ranges_of(points.variables),
            objective={
                "name": objective,
                "delta": asked.delta if objective.startswith("huber") and math.isfinite(asked.delta) else None,
                "value": objective_value(problem, theta, points.weights, delta, absolute=objective == "lad"),
            },
            n=len(points.target),
            params={name: estimate(values[name], () if name in fixed else spread[name]) for name in self.names},
            derived=self._follows(values, spread),
            fixed=fixed,
            r2=explained(np.log(points.target) if log else points.target, residuals),
            seconds=time.perf_counter() - began,
            starts={"n": optimum.n_starts, "best": optimum.n_reached},
            convergence={
                "gradient": optimum.slope,
                "tolerance": TOLERANCE,
                "reached": optimum.converged,
                "iterations": optimum.iterations,
            },
            identifiability=identifiability,
            standard_errors=kinds,
            profiles={name: profile_of(problem, points, values, name, delta) for name in asked.profiles},
            warnings=tuple(warnings),
            data_sha256=digest_of(points.variables, points.target),
            residuals=tuple(residuals.tolist()),
            bootstrap={
                "n": asked.bootstrap,
                "seed": asked.seed,
                "unit": points.unit,
                "converged": settled,
                "params": {name: spread[name].tolist() for name in self.names},
            },
        )

    def predictions(self, result: FitResult, table: Any) -> dict[str, Array]:
        variables = read_variables(self, table, result.columns.get("x"))
        n_free = len(self.names) - len(result.fixed)
        log = str(result.objective["name"]).endswith("log")
        resamples = result.draws if result.bootstrap["n"] else {}
        noise = () if not resamples else np.array(result.residuals) * math.sqrt(result.n / (result.n - n_free))
        return predict_formula(self, variables, result.values, resamples, np.asarray(noise), log=log)

    def _follows(self, values: Mapping[str, float], spread: Mapping[str, Array]) -> dict[str, Estimate]:
        """What follows from the constants, with the spread of the resamples."""
        if self.derived is None:
            return {}
        with np.errstate(all="ignore"):  # a threshold may not exist for some resamples
            point = self.derived({name: np.array([value]) for name, value in values.items()})
            draws = self.derived(spread)
        return {name: estimate(float(point[name][0]), draws[name]) for name in point}

"""Laws that are made before they are fitted: families of laws, and predictors that are learnt as a whole.

family.choose(table, {"breaks": "2"})      the member for a table, its options checked and completed
family.rebuild({"breaks": 2})              the same member from its complete options, as `fit.json` holds them
family.fit(table, FitOptions(…))           the member fitted
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitter.formula import Option, Options, check_options
from analysis.fitter.identify import Identifiability
from analysis.fitter.law import FitResult, Fittable, Law, estimate
from analysis.fitter.options import DEFAULTS, OF_ONE_FORMULA, FitOptions
from analysis.fitter.points import digest_of, explained, ranges_of, read_points
from analysis.fitter.solve import TOLERANCE
from analysis.tables.columns import Array, Columns


@dataclass(frozen=True)
class Family(Fittable):
    """Laws that differ in how many parameters they have: by breaks, or by mixture weights.

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
    choices: tuple[Option, ...]
    resolve: Callable[[Any, Options], dict[str, Any]]
    build: Callable[[Options], Law]
    example: Options

    @property
    def shown(self) -> Law:
        return self.build(self.example)

    def choose(self, table: Any, options: Options) -> Law:
        check_options(self.name, options, self.choices)
        return self.build(self.resolve(table, options))

    def rebuild(self, options: Options) -> Law:
        return self.build(options)

    def fit(self, table: Any, asked: FitOptions = DEFAULTS) -> FitResult:
        law = self.choose(table, asked.options)
        return law.fit(table, dataclasses.replace(asked, options={}))


@dataclass(frozen=True)
class Learner(Family):
    """A predictor that is learnt as a whole: a law without parameters, whose model is text among its options. There
    are no constants, and there is no bootstrap, which would learn it anew each time.

    Attributes:
        train: `(variables, target, complete options) -> options with the model`. `build` of these gives a law of
            no parameters that predicts; what the model says about itself is `derived`.
    """

    train: Callable[[Columns, Array, Options], dict[str, Any]]

    def fit(self, table: Any, asked: FitOptions = DEFAULTS) -> FitResult:
        began = time.perf_counter()
        law = self.choose(table, asked.options)
        asked.refuse(OF_ONE_FORMULA, f"{self.name}: is learnt as a whole, which takes")
        points = read_points(law, table, None, None, None, log=False)
        law = self.build(self.train(points.variables, points.target, law.options))
        residuals = np.asarray(law.function(points.variables)) - points.target
        says = law.derived({}) if law.derived is not None else {}
        return FitResult(
            law=law,
            columns=points.sources,
            ranges=ranges_of(points.variables),
            objective={"name": law.objective, "delta": None, "value": float((residuals**2).sum() / 2)},
            n=len(points.target),
            params={},
            derived={name: estimate(float(value[0]), ()) for name, value in says.items()},
            fixed={},
            r2=explained(points.target, residuals),
            seconds=time.perf_counter() - began,
            starts={"n": 1, "best": 1},
            convergence={"gradient": 0.0, "tolerance": TOLERANCE, "reached": True, "iterations": 0},
            identifiability=Identifiability.of_steps(),
            standard_errors={},
            profiles={},
            warnings=("learnt as a whole: no constants and no intervals",),
            data_sha256=digest_of(points.variables, points.target),
            residuals=tuple(residuals.tolist()),
            bootstrap={"n": 0, "seed": 0, "unit": "rows", "converged": 1.0, "params": {}},
        )

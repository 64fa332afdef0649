"""Estimates in several steps that are no single formula: the minima of IsoFLOP curves, then a line through them.

procedure.fit(table, FitOptions(bootstrap=200))    every step again for each resample
procedure.choose(table, {"curve": "akima"})        the procedure with its options complete

Shape letters: S bootstrap replicates, N points, R weightings of the points.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.identify import Identifiability, about_points
from analysis.fitter.law import FitResult, Predictor, estimate
from analysis.fitter.options import DEFAULTS, OF_ONE_FORMULA, FitOptions
from analysis.fitter.points import digest_of, ranges_of
from analysis.fitter.resample import codes, draw_clusters, draw_rows, draw_within
from analysis.fitter.solve import TOLERANCE
from analysis.tables.columns import LOSS, Array, Column, Columns, FitError, read_column, read_labels, table_names

LINE = 2  # constants of each line that a last step draws through its points


@dataclass(frozen=True)
class Steps:
    """What a procedure arrives at, in R weightings of the points; the first is the points as they are.

    Attributes:
        params: each (R,); nan where a resample leaves nothing to estimate.
        residuals: of its last step, at the points as they are: ln predicted - ln measured.
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
class Procedure(Predictor):
    """An estimate in several steps. Two are equal if all but their functions are.

    Attributes:
        columns: what it reads from the table, the target left out.
        parameters: names, meanings and typical ranges of what it estimates.
        estimate: `(columns, target, weights (R, N), options) -> Steps`. Weights say how often each point counts.
        inputs: the columns that `predict` reads.
        optional: columns that `estimate` is given where the table has them.
        predict: `(columns, **parameters) -> {name: predicted}`, each (S, N).
        groups: `(columns) -> codes (N,)` of groups that are no column of the table, such as budgets that are equal
            but for rounding; `estimate` is given them as the column `group`.
        labels: a column of names; `estimate` is given it, under its name, as codes 0, 1, ….
        resample: whether the bootstrap draws rows, rows within each group (or label), or whole groups.
        options: complete ones, where they have been chosen.
    """

    name: str
    formula: str
    question: str
    source: str
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    estimate: Callable[[Columns, Array, Array, Options], Steps] = field(compare=False)
    inputs: tuple[Column, ...]
    predict: Callable[..., dict[str, Array]] = field(compare=False)
    target: Column = LOSS
    choices: tuple[Option, ...] = ()
    optional: tuple[Column, ...] = ()
    groups: Callable[[Columns], NDArray[np.int64]] | None = field(default=None, compare=False)
    labels: str | None = None
    resample: Literal["rows", "within groups", "groups"] = "rows"
    options: Options = field(default_factory=dict)

    @property
    def of_curves(self) -> bool:
        return self.labels == "curve"

    @property
    def reads(self) -> tuple[Column, ...]:
        labels = () if self.labels is None else (Column(self.labels, f"which {self.labels} the row is of", "name"),)
        optional = (dataclasses.replace(column, meaning=f"{column.meaning}, if there") for column in self.optional)
        return (*self.columns, self.target, *labels, *optional)

    def rebuild(self, options: Options) -> Procedure:
        return dataclasses.replace(self, options=options)

    def fit(self, table: Any, asked: FitOptions = DEFAULTS) -> FitResult:
        began = time.perf_counter()
        law = self.choose(table, asked.options)
        asked.refuse(OF_ONE_FORMULA, f"{self.name}: goes in steps, which take")
        columns, target = self._read(table)
        weights, unit = self._draw(columns, len(target), asked)
        steps = self.estimate(columns, target, np.concatenate([np.ones((1, len(target))), weights]), law.options)
        draws = {name: steps.params[name][1:] for name in self.names}
        whole = np.isfinite(np.array(list(draws.values()))).all(0)
        warnings = [*steps.warnings, *about_points(len(steps.residuals), LINE)]
        if asked.bootstrap and whole.mean() < 0.99:
            warnings.append(f"{1 - whole.mean():.0%} of the resamples left nothing to estimate, and have no say")
        residuals = np.asarray(steps.residuals, dtype=float)
        return FitResult(
            law=law,
            columns={column.name: column.name for column in self.columns},
            ranges=ranges_of({column.name: columns[column.name] for column in self.columns}),
            objective={"name": "steps", "delta": None, "value": float((residuals**2).sum() / 2)},
            n=len(target),
            params={name: estimate(float(steps.params[name][0]), draws[name]) for name in self.names},
            derived={name: estimate(value, ()) for name, value in steps.derived.items()},
            fixed={},
            r2=None,
            seconds=time.perf_counter() - began,
            starts={"n": 1, "best": 1},
            convergence={"gradient": 0.0, "tolerance": TOLERANCE, "reached": True, "iterations": 0},
            identifiability=Identifiability.of_steps(),
            standard_errors={},
            profiles={},
            warnings=tuple(warnings),
            data_sha256=digest_of(columns, target),
            residuals=tuple(residuals.tolist()),
            bootstrap={
                "n": asked.bootstrap,
                "seed": asked.seed,
                "unit": unit,
                "converged": float(whole.mean()) if asked.bootstrap else 1.0,
                "params": {name: [v if np.isfinite(v) else None for v in draws[name].tolist()] for name in self.names},
            },
            points={name: np.asarray(values, dtype=float).tolist() for name, values in steps.points.items()},
        )

    def _read(self, table: Any) -> tuple[dict[str, Any], Array]:
        """The columns that `estimate` is given, and the target, rows in canonical order."""
        there = [column for column in self.optional if column.name in table_names(table)]
        columns: dict[str, Any] = {column.name: read_column(table, column) for column in (*self.columns, *there)}
        target = read_column(table, self.target)
        if len(target) < 2:
            raise FitError(f"{self.name}: {len(target)} point cannot determine {len(self.names)} quantities")
        if self.labels is not None:
            columns[self.labels] = codes(read_labels(table, self.labels))
        order = np.lexsort((target, *columns.values()))
        columns, target = {name: values[order] for name, values in columns.items()}, target[order]
        if self.groups is not None:
            columns["group"] = self.groups(columns)
        return columns, target

    def _draw(self, columns: Mapping[str, Any], n: int, asked: FitOptions) -> tuple[Array, str]:
        """Weights of resamples (R, N), and what they draw."""
        group = columns.get("group", columns.get(self.labels or "group"))
        if self.resample == "rows" or group is None:
            return draw_rows(n, asked.bootstrap, asked.seed), "rows"
        if self.resample == "groups":
            return draw_clusters(group, asked.bootstrap, asked.seed), "groups"
        return draw_within(group, asked.bootstrap, asked.seed), "rows within each group"

    def predictions(self, result: FitResult, table: Any) -> dict[str, Array]:
        columns = {column.name: read_column(table, column) for column in self.inputs}
        n = len(next(iter(columns.values())))
        answer = {}
        draws = result.draws
        spread = self.predict(columns, **draws) if len(next(iter(draws.values()))) else {}
        for name, value in self.predict(columns, **{key: np.array([[v]]) for key, v in result.values.items()}).items():
            answer[name] = np.broadcast_to(value, (1, n))[0]
            if name in spread:
                whole = spread[name][np.isfinite(spread[name]).all(axis=1)]
                if len(whole) > 1:
                    answer[f"{name}_lo95"], answer[f"{name}_hi95"] = np.quantile(whole, [0.025, 0.975], axis=0)
        return answer

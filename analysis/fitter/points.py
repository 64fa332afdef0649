"""A table as a formula sees it: its variables, its target, what each point weighs, and what a bootstrap draws.

points = read_points(law, table, x=None, cluster=None, se=None, log=True)      rows in canonical order
points.draw(1000, seed=0)                                                      weights of 1000 resamples (R, N)
read_variables(law, table)                                                     in the order of the table's rows

Shape letters: N points, R resamples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitter.formula import Formula
from analysis.fitter.resample import FEWEST_CLUSTERS, Codes, blocks, codes, draw_clusters, draw_rows, draw_within
from analysis.tables.columns import Array, FitError, read_column, read_labels


@dataclass(frozen=True)
class Points:
    """A table as a law sees it, rows in canonical order.

    Attributes:
        variables: each (N,) or (N, more); `target` (N,); `weights` (N,), of mean one.
        sources: column of the law -> column of the table.
        drawn: codes of what the bootstrap draws (N,), or None for rows; `within`: strata to draw within, or None.
        unit: what the bootstrap draws, in words.
    """

    variables: dict[str, Array]
    target: Array
    weights: Array
    sources: dict[str, str]
    drawn: Codes | None
    within: Codes | None
    unit: str

    def draw(self, count: int, seed: int) -> Array:
        """Weights of `count` resamples (R, N)."""
        if self.within is not None:
            drawn = draw_within(self.within, count, seed, self.drawn)
        elif self.drawn is not None:
            drawn = draw_clusters(self.drawn, count, seed)
        else:
            drawn = draw_rows(len(self.target), count, seed)
        return drawn * self.weights


def read_variables(law: Formula, table: Any, x: str | None = None) -> dict[str, Array]:
    """What the law's function reads, in the order of the table's rows; raises `FitError`."""
    if law.read is not None:
        return law.read(table, law.options)
    sources = sources_of(law, x)
    return {column.name: _named(table, column, sources[column.name]) for column in law.columns}


def _named(table: Any, column: Any, source: str) -> Array:
    return read_column(table, type(column)(source, column.meaning, column.unit, column.sign))


def sources_of(law: Formula, x: str | None) -> dict[str, str]:
    free = "x" in (column.name for column in law.columns)
    if free and x is None:
        raise FitError(f"{law.name}: say with --x which column x is")
    if x is not None and not free:
        raise FitError(f"{law.name}: has no free variable for --x {x}")
    return {column.name: x if column.name == "x" and x is not None else column.name for column in law.columns}


def read_points(law: Formula, table: Any, x: str | None, cluster: str | None, se: str | None, log: bool) -> Points:
    """The points of a law; raises `FitError` for what it cannot be fitted to."""
    variables = read_variables(law, table, x)
    target = read_column(table, law.target)
    if log and not (target > 0).all():
        row = int(np.flatnonzero(target <= 0)[0])
        raise FitError(
            f"{law.target.name}: {target[row]:g} in row {row + 1} has no logarithm; allowed: positive numbers, "
            "or --objective huber, lsq or lad"
        )
    weights = np.ones(len(target))
    if se is not None:
        spread = read_column(table, se) / (target if log else 1.0)
        weights = (1 / spread**2) / np.mean(1 / spread**2)
    drawn, within, unit = _units(law, table, cluster)
    keys = [values for values in variables.values() if values.ndim == 1]
    order = np.lexsort((weights, target, *([] if drawn is None else [drawn]), *keys))
    return Points(
        variables={name: values[order] for name, values in variables.items()},
        target=target[order],
        weights=weights[order],
        sources=sources_of(law, x),
        drawn=None if drawn is None else drawn[order],
        within=None if within is None else within[order],
        unit=unit,
    )


def _units(law: Formula, table: Any, cluster: str | None) -> tuple[Codes | None, Codes | None, str]:
    """What the bootstrap draws: rows, clusters, or blocks of consecutive points where there are few curves."""
    name = cluster or law.cluster
    if name is None and law.strata is not None:
        return None, codes(read_labels(table, law.strata)), f"rows within each {law.strata}"
    if name is None:
        return None, None, "rows"
    labels = codes(read_labels(table, name))
    if labels.max() + 1 >= FEWEST_CLUSTERS:
        return labels, None, f"{name}s"
    if cluster is not None:
        raise FitError(
            f"--cluster {cluster}: has {labels.max() + 1} values; allowed: at least {FEWEST_CLUSTERS} to draw from"
        )
    step = np.asarray(table["step"], dtype=float)
    return blocks(labels, step), labels, f"blocks of consecutive points of each {name}"


def check_points(law: Formula, points: Points, fixed: Mapping[str, float]) -> None:
    n, n_free = len(points.target), len(law.names) - len(fixed)
    if n <= n_free:
        raise FitError(
            f"{law.name}: {n} {'point' if n == 1 else 'points'} cannot determine {n_free} parameters; "
            f"at least {n_free + 1} are needed"
        )
    asked = {name for p in law.parameters if p.name not in fixed for name, _ in p.carries}
    for name in law.centred:
        values = points.variables[name]
        if name in asked and np.ptp(values) == 0:
            source = points.sources.get(name, name)
            raise FitError(f"{source}: is {values.flat[0]:g} in every row; its exponent needs a range of values")


def explained(target: Array, residuals: Array) -> float:
    variance = float(((target - target.mean()) ** 2).sum())
    return float(1 - (residuals**2).sum() / variance) if variance > 0 else 0.0


def ranges_of(variables: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    return {name: (float(v.min()), float(v.max())) for name, v in variables.items() if v.ndim == 1}


def digest_of(variables: Mapping[str, Array], target: Array) -> str:
    digest = hashlib.sha256()
    for values in (*variables.values(), target):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()

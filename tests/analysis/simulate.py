"""Points drawn from any law with known parameters: what recovery and coverage are tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.fitter.law import FitResult, Law
from analysis.fitter.points import read_variables
from analysis.laws.registry import get_law
from tests.analysis.helpers import fit


@dataclass(frozen=True, kw_only=True)
class Example:
    """A design and a truth for one law.

    Attributes:
        law: its name; `options` are complete where it is a family.
        truth: every parameter, in the units of the table.
        table: `(rng) -> columns` of the table without the target; the design may be drawn, or ignore `rng`.
        noise: standard deviation of ln target, or of the target itself where the objective has no logarithm.
        x: the column that a law of one free variable reads.
        fit: further keywords of `analysis.fitter.fit.fit`, e.g. `{"delta": 0.01}`.
        tolerance: by how much (relative) a parameter may be off in the test of recovery at `noise`; for `default`
            and by name.
    """

    law: str
    truth: Mapping[str, float]
    table: Callable[[np.random.Generator], dict[str, Any]]
    noise: float
    options: Mapping[str, Any] = field(default_factory=dict)
    x: str | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"default": 0.1})

    def build(self) -> Law:
        law = get_law(self.law, self.options).single
        assert law is not None
        return law

    def objective(self) -> str:
        return self.fit.get("objective", self.build().objective)

    def draw(self, rng: np.random.Generator, *, noise: float | None = None) -> dict[str, Any]:
        """A table with the target, with `noise` instead of the example's own if given."""
        law = self.build()
        table = self.table(rng)
        variables = read_variables(law, table, self.x)
        exact = np.asarray(law.function(variables, **self.truth), dtype=float)
        error = (self.noise if noise is None else noise) * rng.standard_normal(exact.shape)
        logarithmic = self.objective().endswith("log")
        return table | {law.target.name: exact * np.exp(error) if logarithmic else exact + error}

    def fitted(self, table: Mapping[str, Any], **keywords: Any) -> FitResult:
        return fit(self.law, table, x=self.x, options=self.options, **(dict(self.fit) | keywords))

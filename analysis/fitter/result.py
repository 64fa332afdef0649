"""What a fit found, as an object and as `fit.json`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.fitter.identify import Identifiability
from analysis.fitter.law import Law, Procedure
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError


@dataclass(frozen=True)
class Estimate:
    """A fitted quantity; the spread is that of the bootstrap, and missing without one or where it was held."""

    value: float
    std: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class FitResult:
    """A fitted law, or what a procedure found.

    Attributes:
        law: its name in `analysis.laws.registry.LAWS`.
        options: with which it is built again.
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
        findings: what the linter found in the table (`analysis.tables.lint`).
        holdout: how well cheaper runs predicted dearer ones (`analysis.fits.holdout`); None where it was not asked.
    """

    law: str
    options: dict[str, Any]
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
        return {name: estimate.value for name, estimate in self.params.items()}

    @property
    def found(self) -> Law | Procedure:
        """The law, built again from its options."""
        return get_law(self.law, self.options)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `fit.json`; `from_json` reads them back exactly. JSON has no nan: it becomes null."""
        found: dict[str, Any] = _without_nan(dataclasses.asdict(self))
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> FitResult:
        """Raises `FitError` for anything that `to_json` did not make."""
        missing = [spec.name for spec in dataclasses.fields(cls) if spec.name not in found]
        if missing:
            raise FitError(f"not a fit, or one of an older version (no {', '.join(missing)}); fit again")
        try:
            fields = {spec.name: found[spec.name] for spec in dataclasses.fields(cls)}
            for name in ("params", "derived"):
                fields[name] = {
                    key: Estimate(_number(p["value"]), p["std"], tuple(p["ci95"]) if p["ci95"] else None)
                    for key, p in fields[name].items()
                }
            fields["ranges"] = {name: tuple(pair) for name, pair in fields["ranges"].items()}
            fields["identifiability"] = Identifiability.from_json(fields["identifiability"])
            fields["points"] = {name: [_number(v) for v in values] for name, values in fields["points"].items()}
            for name in ("warnings", "residuals", "findings"):
                fields[name] = tuple(fields[name])
            result = cls(**fields)
            result._check()
            return result
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # UserError is a ValueError
            raise FitError(f"not a fit ({error!r})") from None

    def _check(self) -> None:
        """Raise `ValueError` for what no fit of its law can be: `predict` relies on it."""
        law = self.found
        draws = self.bootstrap["params"]
        if tuple(self.params) != law.names or set(draws) != set(law.names):
            raise ValueError(f"its parameters are not those of {self.law}")
        if self.columns.keys() != {column.name for column in law.columns}:
            raise ValueError(f"its columns are not those of {self.law}")
        if any(len(values) != self.bootstrap["n"] for values in draws.values()):
            raise ValueError("its bootstrap is not complete")
        known = {name: np.array([self.values[name], *draws[name]], float) for name in law.names}
        residuals = np.array(self.residuals, float)
        if not isinstance(law, Law):
            return
        if not len(residuals) == self.n > len(law.names) - len(self.fixed) or not np.isfinite(residuals).all():
            raise ValueError("its residuals are not one for each point")
        if not isinstance(self.objective["name"], str):
            raise ValueError("its objective has no name")
        for p in law.parameters:
            if not np.isfinite(known[p.name]).all() or (p.log and not (known[p.name] > 0).all()):
                raise ValueError(f"{p.name} is not {'positive' if p.log else 'a number'} throughout")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def estimate(value: float, draws: Any) -> Estimate:
    """A value with the spread of its bootstrap; resamples that had nothing to estimate (nan) are left out."""
    draws = np.asarray(draws)
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return Estimate(value, None, None)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(draws.std(ddof=1)), (float(low), float(high)))


def read_fit(path: Path) -> FitResult:
    """The fit that `--out` wrote; raises `FitError`."""
    try:
        return FitResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FitError(f"{path}: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise FitError(f"{path}: {error}") from None

"""A fit as `fit.json` holds it.

to_json(result)                      plain values; the law is its name and its options
from_json(values, get_law)           the same result again, exactly; `get_law(name, options)` finds the law
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from analysis.fitter.formula import Options
from analysis.fitter.identify import Identifiability
from analysis.fitter.law import Estimate, FitResult, Predictor
from analysis.tables.columns import FitError


def to_json(result: FitResult) -> dict[str, Any]:
    """`to_json(result)["params"]["alpha"]["value"]`: plain values. JSON has no nan: it becomes null."""
    fields = {spec.name: getattr(result, spec.name) for spec in dataclasses.fields(result) if spec.name != "law"}
    plain: dict[str, Any] = _plain({"law": result.law.name, "options": dict(result.law.options), **fields})
    return plain


def from_json(values: Mapping[str, Any], get_law: Callable[[str, Options], Predictor]) -> FitResult:
    """`from_json(to_json(result), get_law) == result`; raises `FitError` for anything that `to_json` did not make."""
    specs = [spec.name for spec in dataclasses.fields(FitResult)]
    missing = [name for name in (*specs[:1], "options", *specs[1:]) if name not in values]
    if missing:
        raise FitError(f"not a fit, or one of an older version (no {', '.join(missing)}); fit again")
    try:
        fields = {name: values[name] for name in specs}
        fields["law"] = get_law(values["law"], values["options"])
        for name in ("params", "derived"):
            fields[name] = {
                key: Estimate(_number(p["value"]), p["std"], tuple(p["ci95"]) if p["ci95"] else None)
                for key, p in fields[name].items()
            }
        fields["ranges"] = {name: tuple(pair) for name, pair in fields["ranges"].items()}
        fields["identifiability"] = Identifiability.from_json(fields["identifiability"])
        fields["points"] = {name: [_number(v) for v in points] for name, points in fields["points"].items()}
        for name in ("warnings", "residuals", "findings"):
            fields[name] = tuple(fields[name])
        result = FitResult(**fields)
        _check(result)
        return result
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # UserError is a ValueError
        raise FitError(f"not a fit ({error!r})") from None


def _check(result: FitResult) -> None:
    """Raise `ValueError` for what no fit of its law can be: predictions rely on it."""
    law, draws = result.law, result.bootstrap["params"]
    if tuple(result.params) != law.names or set(draws) != set(law.names):
        raise ValueError(f"its parameters are not those of {law.name}")
    if result.columns.keys() != {column.name for column in law.columns}:
        raise ValueError(f"its columns are not those of {law.name}")
    if any(len(values) != result.bootstrap["n"] for values in draws.values()):
        raise ValueError("its bootstrap is not complete")
    known = {name: np.array([result.values[name], *draws[name]], float) for name in law.names}
    residuals = np.array(result.residuals, float)
    if law.single is None:
        return
    if not len(residuals) == result.n > len(law.names) - len(result.fixed) or not np.isfinite(residuals).all():
        raise ValueError("its residuals are not one for each point")
    if not isinstance(result.objective["name"], str):
        raise ValueError("its objective has no name")
    for p in law.parameters:
        if not np.isfinite(known[p.name]).all() or (p.log and not (known[p.name] > 0).all()):
            raise ValueError(f"{p.name} is not {'positive' if p.log else 'a number'} throughout")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value

"""What a fit predicts, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fitter.law import Procedure
from analysis.fitter.points import read_variables
from analysis.fitter.result import FitResult
from analysis.tables.columns import Array, read_column


def predict(result: FitResult, table: Any) -> dict[str, Array]:
    """What a fitted law predicts at the rows of a table.

    Returns:
        of a law `predicted`; `lo95` and `hi95`, the 95 % interval of the law's mean from its bootstrap; `pi_lo95`
        and `pi_hi95`, that of a new measurement: every bootstrap mean with every residual of the fit, the residuals
        inflated by sqrt(n / (n - p)), since fitting p parameters has made them too small. Each (N,); the intervals
        are left out where the fit has no bootstrap. Of a procedure each of its predictions, with `_lo95` and
        `_hi95` behind its name.

    Raises:
        FitError: the table lacks a column of the law.
    """
    law = result.found
    draws = {name: np.array(values, dtype=float)[:, None] for name, values in result.bootstrap["params"].items()}
    if isinstance(law, Procedure):
        return _predict_steps(law, result.values, draws, table)
    variables = read_variables(law, table, result.columns.get("x"))
    n = len(next(iter(variables.values())))
    predicted = np.broadcast_to(law.function(variables, **result.values), n).astype(float)
    answer: dict[str, Array] = {"predicted": predicted}
    if result.bootstrap["n"] == 0:
        return answer
    log = result.objective["name"].endswith("log")
    widest = max(np.size(values) for values in variables.values())
    rows = max(1, 4_000_000 // widest)
    mean_RN = np.concatenate(
        [
            np.broadcast_to(
                law.function(variables, **{name: v[k : k + rows] for name, v in draws.items()}),
                (len(next(iter(draws.values()))[k : k + rows]), n),
            )
            for k in range(0, result.bootstrap["n"], rows)
        ]
    )
    if log:
        mean_RN = np.log(np.maximum(mean_RN, np.finfo(float).tiny))
    n_free = len(law.names) - len(result.fixed)
    noise = np.array(result.residuals) * math.sqrt(result.n / (result.n - n_free))
    if len(noise) > 200:  # evenly spaced quantiles stand for a long list of residuals
        noise = np.quantile(noise, (np.arange(200) + 0.5) / 200)
    # A residual is predicted less measured (in logarithms, over), so a measurement is the mean less it.
    new = [np.quantile((mean[:, None] - noise).ravel(), [0.025, 0.975]) for mean in mean_RN.T]
    ends = [*np.quantile(mean_RN, [0.025, 0.975], axis=0), *np.array(new).reshape(-1, 2).T]
    names = ("lo95", "hi95", "pi_lo95", "pi_hi95")
    return answer | {name: np.exp(end) if log else end for name, end in zip(names, ends, strict=True)}


def _predict_steps(
    law: Procedure, values: Mapping[str, float], draws: Mapping[str, Array], table: Any
) -> dict[str, Array]:
    columns = {column.name: read_column(table, column) for column in law.inputs}
    n = len(next(iter(columns.values())))
    answer = {}
    spread = law.predict(columns, **draws) if len(next(iter(draws.values()))) else {}
    for name, value in law.predict(columns, **{key: np.array([[v]]) for key, v in values.items()}).items():
        answer[name] = np.broadcast_to(value, (1, n))[0]
        if name in spread:
            whole = spread[name][np.isfinite(spread[name]).all(axis=1)]
            if len(whole) > 1:
                answer[f"{name}_lo95"], answer[f"{name}_hi95"] = np.quantile(whole, [0.025, 0.975], axis=0)
    return answer

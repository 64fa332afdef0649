"""What a formula predicts, with intervals from its bootstrap and its residuals.

predict_formula(law, variables, values, draws, noise, log=True)      {"predicted": …, "lo95": …, …}

Shape letters: R resamples, N rows, K residuals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis.fitter.formula import Formula
from analysis.tables.columns import Array, Columns

MOST_VALUES = 4_000_000  # of a variable, that are predicted at once
MOST_RESIDUALS = 200  # evenly spaced quantiles stand for a longer list of residuals


def predict_formula(
    law: Formula,
    variables: Columns,
    values: Mapping[str, float],
    draws: Mapping[str, Array],
    noise_K: Array,
    *,
    log: bool,
) -> dict[str, Array]:
    """`predict_formula(law, variables, {"A": 2.0}, {}, noise_K, log=True)["predicted"]`: the formula at `values` (N,).

    With draws also `lo95` and `hi95`, the 95 % interval of the law's mean, and `pi_lo95` and `pi_hi95`, that of a new
    measurement: every resampled mean with every residual.

    Args:
        draws: constants of the resamples, (R, 1) each; none for no intervals.
        noise_K: the residuals of the fit, inflated by sqrt(n / (n - p)), since fitting p parameters has made them too
            small.
        log: residuals are of ln target.
    """
    n = len(next(iter(variables.values())))
    answer = {"predicted": np.broadcast_to(law.function(variables, **values), n).astype(float)}
    if not draws:
        return answer
    count = len(next(iter(draws.values())))
    rows = max(1, MOST_VALUES // max(np.size(column) for column in variables.values()))
    parts = [{name: v[k : k + rows] for name, v in draws.items()} for k in range(0, count, rows)]
    mean_RN = np.concatenate(
        [np.broadcast_to(law.function(variables, **part), (len(next(iter(part.values()))), n)) for part in parts]
    )
    if log:
        mean_RN = np.log(np.maximum(mean_RN, np.finfo(float).tiny))
    if len(noise_K) > MOST_RESIDUALS:
        noise_K = np.quantile(noise_K, (np.arange(MOST_RESIDUALS) + 0.5) / MOST_RESIDUALS)
    # A residual is predicted less measured (in logarithms, over), so a measurement is the mean less it.
    new = [np.quantile((mean[:, None] - noise_K).ravel(), [0.025, 0.975]) for mean in mean_RN.T]
    ends = [*np.quantile(mean_RN, [0.025, 0.975], axis=0), *np.array(new).reshape(-1, 2).T]
    names = ("lo95", "hi95", "pi_lo95", "pi_hi95")
    return answer | {name: np.exp(end) if log else end for name, end in zip(names, ends, strict=True)}

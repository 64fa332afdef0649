"""The one fitter: a law and a table in, a `FitResult` out; and what a fit predicts.

The objective is a sum over points, never a mean: an absolute tolerance on a mean stops early, the cause of the
published misfit of Chinchilla's approach 3 (Besiroglu et al. 2024, arXiv 2404.10102).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.identify import Identifiability, identify
from analysis.laws import Array, Law, get_law
from analysis.solve import TOLERANCE, Problem, Solution, huber, minimise, seeds
from conf.schema import UserError

OBJECTIVES = {
    "huber_log": "Huber's loss of ln predicted - ln measured, linear beyond delta",
    "lsq": "half the squared difference of losses",
    "lad": "the absolute difference of losses",
}


FEWEST_RESAMPLES = 20  # fewer have neither intervals nor correlations


class FitError(UserError):
    """Data that a law cannot be fitted to, or a fit that cannot do what is asked of it."""


@dataclass(frozen=True)
class Estimate:
    """A fitted parameter; the spread is that of the bootstrap, and missing without one."""

    value: float
    std: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class FitResult:
    """A fitted law.

    Attributes:
        law: its name in `analysis.laws.LAWS`.
        columns: column of the law -> column of the table.
        ranges: column of the law -> its smallest and largest fitted value.
        objective: `name`, `delta` (None where it has no say or is infinite, which makes `huber_log` least squares
            on ln loss), and `value`, the sum over the points at the optimum.
        n: points fitted.
        params: constants in the units of the table.
        r2: share of the variance of ln loss that the law explains.
        starts: `n`, and `best`, how many ended within 1e-6 (relative) of the best objective.
        convergence: `gradient`, the largest cosine between the weighted residuals and a column of the Jacobian at
            the optimum; the `tolerance` for it; whether it was `reached`; `iterations`.
        warnings: sentences; what the data cannot carry.
        data_sha256: of the fitted columns in canonical order, so that the order of rows does not matter.
        residuals: ln predicted - ln measured, in canonical order.
        bootstrap: `n`, `seed`, `converged` (share), and `params`, a list of values for each parameter.
    """

    law: str
    columns: dict[str, str]
    ranges: dict[str, tuple[float, float]]
    objective: dict[str, Any]
    n: int
    params: dict[str, Estimate]
    r2: float
    seconds: float
    starts: dict[str, int]
    convergence: dict[str, Any]
    identifiability: Identifiability
    warnings: tuple[str, ...]
    data_sha256: str
    residuals: tuple[float, ...]
    bootstrap: dict[str, Any]

    @property
    def values(self) -> dict[str, float]:
        return {name: estimate.value for name, estimate in self.params.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values for `fit.json`; `from_json` reads them back exactly."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> FitResult:
        """Raises `FitError` for anything that `to_json` did not make."""
        try:
            fields = {spec.name: found[spec.name] for spec in dataclasses.fields(cls)}
            fields["params"] = {
                name: Estimate(p["value"], p["std"], tuple(p["ci95"]) if p["ci95"] else None)
                for name, p in fields["params"].items()
            }
            fields["ranges"] = {name: tuple(pair) for name, pair in fields["ranges"].items()}
            fields["identifiability"] = Identifiability.from_json(fields["identifiability"])
            fields["warnings"], fields["residuals"] = tuple(fields["warnings"]), tuple(fields["residuals"])
            result = cls(**fields)
            result._check()
            return result
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # UserError is a ValueError
            raise FitError(f"not a fit ({error!r})") from None

    def _check(self) -> None:
        """Raise `ValueError` for what no fit of its law can be: `predict` relies on it."""
        law = get_law(self.law)
        draws = self.bootstrap["params"]
        if tuple(self.params) != law.names or set(draws) != set(law.names):
            raise ValueError(f"its parameters are not those of {self.law}")
        if set(self.columns) != {column.name for column in law.columns}:
            raise ValueError(f"its columns are not those of {self.law}")
        if {len(values) for values in draws.values()} != {self.bootstrap["n"]}:
            raise ValueError("its bootstrap is not complete")
        if not len(self.residuals) == self.n > len(law.names):
            raise ValueError("its residuals are not one for each point")
        np.array([*self.values.values(), *self.residuals, *(v for values in draws.values() for v in values)], float)


def read_fit(path: Path) -> FitResult:
    """The fit that `--out` wrote; raises `FitError`."""
    try:
        return FitResult.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FitError(f"{path}: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise FitError(f"{path}: {error}") from None


# --- data ------------------------------------------------------------------------------------------------


def read_column(table: Any, name: str) -> Array:
    """A column of a table (a polars frame or a mapping of arrays) as positive finite numbers (N,).

    Raises:
        FitError: it is missing, has no numbers, or holds a value that no law can read.
    """
    names = list(table.columns) if hasattr(table, "columns") else list(table)
    if name not in names:
        raise FitError(f"{name}: no such column (rename with --map {name}=COLUMN); there are: {', '.join(names)}")
    values = np.asarray(table[name])
    if values.dtype == object and all(value is None or isinstance(value, (int, float)) for value in values):
        values = values.astype(float)
    if values.dtype.kind not in "fiu":
        row = next((k for k, value in enumerate(values) if not _is_number(value)), 0)
        raise FitError(f"{name}: not a column of numbers; row {row + 1} is {str(values[row])!r}")
    values = values.astype(float)
    bad = ~((values > 1e-100) & (values < 1e100))  # squares must stay finite
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = "is missing or not a number" if np.isnan(values[row]) else "is not allowed; allowed: positive numbers"
        raise FitError(f"{name}: {values[row]:g} in row {row + 1} {what} (leave rows out with --where)")
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _read(law: Law, table: Any, x: str | None) -> tuple[dict[str, str], dict[str, Array], Array]:
    """Names of the columns, the columns, and the loss, with the rows in canonical order."""
    free = "x" in (column.name for column in law.columns)
    if free and x is None:
        raise FitError(f"{law.name}: say with --x which column x is")
    if x is not None and not free:
        raise FitError(f"{law.name}: has no free variable for --x {x}")
    sources = {column.name: x if column.name == "x" and x is not None else column.name for column in law.columns}
    columns = {name: read_column(table, source) for name, source in sources.items()}
    loss = read_column(table, "loss")
    if len(loss) <= len(law.parameters):
        raise FitError(
            f"{law.name}: {len(loss)} {'point' if len(loss) == 1 else 'points'} cannot determine "
            f"{len(law.parameters)} parameters; at least {len(law.parameters) + 1} are needed"
        )
    for name, values in columns.items():
        if np.ptp(values) == 0:
            raise FitError(f"{sources[name]}: is {values[0]:g} in every row; its exponent needs a range of values")
    order = np.lexsort((loss, *columns.values()))
    return sources, {name: values[order] for name, values in columns.items()}, loss[order]


# --- the fit ---------------------------------------------------------------------------------------------


def fit(
    law: Law | str,
    table: Any,
    *,
    x: str | None = None,
    objective: str = "huber_log",
    delta: float = 1e-3,
    bootstrap: int = 1000,
    seed: int = 0,
    starts: Array | None = None,
) -> FitResult:
    """Fit a law to the points of a table.

    Every start of the law's grid is advanced at once, first by least squares and then under the objective, and the
    best end is taken. The bootstrap draws whole rows (cases) with replacement; each resample is fitted from the
    optimum and from its own two best points of the grid, since a warm start alone gives too narrow intervals.

    Args:
        table: a polars frame, or a mapping of arrays, with the law's columns and `loss`.
        x: the column that a law of one free variable reads.
        objective: a key of `OBJECTIVES`.
        delta: of `huber_log`, in units of ln loss. 1e-3 is the published choice for Chinchilla and nearly least
            absolute deviations; one to three standard deviations of the noise is the more efficient choice.
        bootstrap: resamples; 0 for none.
        starts: values of the parameters to start from (S, P), in the units of the table, instead of the grid.

    Raises:
        FitError: the table lacks a column, or holds what the law cannot be fitted to.
    """
    began = time.perf_counter()
    law = get_law(law) if isinstance(law, str) else law
    _check_options(objective, delta, bootstrap, seed)
    sources, columns, loss = _read(law, table, x)
    centre = {name: float(np.exp(np.log(columns[name]).mean())) for name in law.centred}
    centred = {name: values / centre.get(name, 1.0) for name, values in columns.items()}
    problem = Problem(law, centred, loss, log=objective == "huber_log")
    # Least absolute deviations are Huber's loss, divided by delta, with a delta too small to matter.
    bend = {"huber_log": delta, "lsq": math.inf, "lad": 1e-5 * float(np.median(loss))}[objective]

    ones = np.ones((1, len(loss)))
    first = seeds(problem, ones)[0][0] if starts is None else _to_theta(law, starts, centre)
    solution = _settle(problem, first, ones, bend)
    # Among the best ends, which differ by rounding, the flattest.
    level = np.flatnonzero(solution.cost <= solution.cost.min() * (1 + 1e-12))
    best = int(level[np.argmin(solution.slope[level])])
    theta = solution.theta[best]

    draws, settled = _resample(problem, theta, bend, bootstrap, seed)
    values = _to_params(law, theta[None], centre)
    table_of_draws = _to_params(law, draws, centre)
    residuals = np.log(law.function(columns, **values) / loss)[0]
    identifiability, warnings = identify(problem, theta, draws, columns, sources)
    if not solution.converged[best]:
        warnings.insert(0, f"the optimum was not reached: gradient {solution.slope[best]:.1e} > {TOLERANCE:g}")
    if settled < 0.99:
        warnings.append(f"{1 - settled:.0%} of the bootstrap fits did not converge; the intervals are unsure")
    r = problem.residuals(theta[None])
    value = np.abs(r).sum() if objective == "lad" else huber(r, bend).sum()
    return FitResult(
        law=law.name,
        columns=sources,
        ranges={name: (float(v.min()), float(v.max())) for name, v in columns.items()},
        objective={
            "name": objective,
            "delta": delta if objective == "huber_log" and math.isfinite(delta) else None,
            "value": float(value),
        },
        n=len(loss),
        params={name: _estimate(float(values[name][0, 0]), table_of_draws[name][:, 0]) for name in law.names},
        r2=float(1 - (residuals**2).sum() / ((np.log(loss) - np.log(loss).mean()) ** 2).sum()) if np.ptp(loss) else 0.0,
        seconds=time.perf_counter() - began,
        starts={
            "n": len(solution.cost),
            "best": int((solution.cost <= solution.cost[best] * (1 + 1e-6) + 1e-25).sum()),
        },
        convergence={
            "gradient": float(solution.slope[best]),
            "tolerance": TOLERANCE,
            "reached": bool(solution.converged[best]),
            "iterations": int(solution.iterations[best]),
        },
        identifiability=identifiability,
        warnings=tuple(warnings),
        data_sha256=hashlib.sha256(np.stack([*columns.values(), loss]).tobytes()).hexdigest(),
        residuals=tuple(residuals.tolist()),
        bootstrap={
            "n": bootstrap,
            "seed": seed,
            "converged": settled,
            "params": {name: table_of_draws[name][:, 0].tolist() for name in law.names},
        },
    )


def _check_options(objective: str, delta: float, bootstrap: int, seed: int) -> None:
    if objective not in OBJECTIVES:
        raise FitError(f"objective: {objective!r} is not allowed; allowed: {', '.join(OBJECTIVES)}")
    if not delta > 0:
        raise FitError(f"delta: {delta!r} is not allowed; allowed: > 0")
    if bootstrap < 0 or 0 < bootstrap < FEWEST_RESAMPLES:
        raise FitError(f"bootstrap: {bootstrap} is not allowed; allowed: 0, or at least {FEWEST_RESAMPLES} resamples")
    if seed < 0:
        raise FitError(f"seed: {seed} is not allowed; allowed: >= 0")


def _settle(problem: Problem, theta_SP: Array, weights_SN: Array, bend: float) -> Solution:
    """A few steps of least squares, then the objective to the end."""
    smooth = minimise(problem, theta_SP, weights_SN, math.inf, max_iterations=8)
    return minimise(problem, smooth.theta, weights_SN, bend)


def _resample(problem: Problem, theta: Array, bend: float, count: int, seed: int) -> tuple[Array, float]:
    """Optima of `count` resamples of the points (R, P), and the share of them that converged."""
    n, n_parameters = len(problem.target), len(theta)
    rng = np.random.default_rng(seed)
    weights_RN = rng.multinomial(n, np.full(n, 1 / n), size=count).astype(float)
    draws, converged = np.empty((count, n_parameters)), np.empty(count, dtype=bool)
    rows = max(1, 1_000_000 // (3 * n * n_parameters))  # so many at once keep the arrays in a few MB of cache
    for begin in range(0, count, rows):
        weights = weights_RN[begin : begin + rows]
        found, misfit = seeds(problem, weights)
        ahead = np.argsort(misfit, axis=1, kind="stable")[:, :2]
        own = np.take_along_axis(found, ahead[:, :, None], axis=1).reshape(-1, n_parameters)
        twice = np.repeat(weights, ahead.shape[1], axis=0)
        own = minimise(problem, own, twice, math.inf, max_iterations=8).theta
        warm = np.broadcast_to(theta, (len(weights), n_parameters))
        solution = minimise(problem, np.concatenate([warm, own]), np.concatenate([weights, twice]), bend)
        # (starts, resamples): the warm start first, then the resample's own
        grouped = np.concatenate(
            [np.arange(len(weights))[None], len(weights) + np.arange(len(own)).reshape(len(weights), -1).T]
        )
        pick = grouped[np.argmin(solution.cost[grouped], axis=0), np.arange(len(weights))]
        draws[begin : begin + rows] = solution.theta[pick]
        converged[begin : begin + rows] = solution.converged[pick]
    return draws, float(converged.mean()) if count else 1.0


def _to_params(law: Law, theta_SP: Array, centre: Mapping[str, float]) -> dict[str, Array]:
    """Parameters in the units of the table, each (S, 1): a coefficient takes back x0 ** exponent."""
    raw = {p.name: theta_SP[:, k, None] for k, p in enumerate(law.parameters)}
    params = {}
    for p in law.parameters:
        shift = math.log(centre[p.carries[0]]) * raw[p.carries[1]] if p.carries else 0.0
        params[p.name] = np.exp(raw[p.name] + shift) if p.log else raw[p.name]
    return params


def _to_theta(law: Law, params_SP: Array, centre: Mapping[str, float]) -> Array:
    """The inverse of `_to_params`, from an array (S, P)."""
    theta = np.array(params_SP, dtype=float)
    if theta.ndim != 2 or theta.shape[1] != len(law.parameters):
        raise FitError(f"starts: of shape {theta.shape}; allowed: (starts, {len(law.parameters)})")
    for k, p in enumerate(law.parameters):
        if p.log:
            if not (theta[:, k] > 0).all():
                raise FitError(f"starts: {p.name} must be positive")
            theta[:, k] = np.log(theta[:, k])
        if p.carries:
            exponent = np.asarray(params_SP)[:, law.names.index(p.carries[1])]
            theta[:, k] -= math.log(centre[p.carries[0]]) * exponent
    return theta


def _estimate(value: float, draws: Array) -> Estimate:
    if len(draws) == 0:
        return Estimate(value, None, None)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(draws.std(ddof=1)), (float(low), float(high)))


# --- prediction ------------------------------------------------------------------------------------------


def predict(result: FitResult, table: Any) -> dict[str, Array]:
    """The loss that a fitted law predicts at the rows of a table.

    Returns:
        `predicted`; `lo95` and `hi95`, the 95 % interval of the law's mean from its bootstrap; `pi_lo95` and
        `pi_hi95`, that of a new measurement: every bootstrap mean times every residual of the fit, with the
        residuals inflated by sqrt(n / (n - p)), since fitting p parameters has made them too small. Each (N,);
        the intervals are left out where the fit has no bootstrap.

    Raises:
        FitError: the table lacks a column of the law.
    """
    law = get_law(result.law)
    columns = {name: read_column(table, source) for name, source in result.columns.items()}
    predicted = np.broadcast_to(law.function(columns, **result.values), len(next(iter(columns.values()))))
    answer: dict[str, Array] = {"predicted": predicted}
    if result.bootstrap["n"] == 0:
        return answer
    draws = {name: np.array(values)[:, None] for name, values in result.bootstrap["params"].items()}
    log_mean_RN = np.log(law.function(columns, **draws))
    answer["lo95"], answer["hi95"] = np.exp(np.quantile(log_mean_RN, [0.025, 0.975], axis=0))
    inflation = math.sqrt(result.n / (result.n - len(law.parameters)))
    noise = np.array(result.residuals) * inflation
    if len(noise) > 200:  # evenly spaced quantiles stand for a long list of residuals
        noise = np.quantile(noise, (np.arange(200) + 0.5) / 200)
    # A residual is predicted over measured, so a measurement is the mean over it.
    new = [np.quantile((mean[:, None] - noise).ravel(), [0.025, 0.975]) for mean in log_mean_RN.T]
    answer["pi_lo95"], answer["pi_hi95"] = np.exp(np.array(new).reshape(-1, 2).T)
    return answer

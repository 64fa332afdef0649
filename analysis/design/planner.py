"""What a plan is for, which runs it takes, and the interval that it promises.

planner = Planner(law, prior, candidates)
design = planner.design(limits, quantity(law, "alpha"))      how many seeds of each candidate: `design.counts`
design.expected["alpha"].ci95                                the interval that a fit of these runs would have

Shape letters: K draws of the constants, M candidates, P free constants, Q quantities.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.design.candidates import Candidate, columns_of
from analysis.design.optimal import Aim, Counts, Limits, relax, search
from analysis.design.prior import Prior
from analysis.fitter.law import Law
from analysis.fitter.options import FitOptions
from analysis.fitter.points import read_variables
from analysis.fitter.solve import Problem
from analysis.fitter.uncertainty import to_params, to_theta
from analysis.laws.chinchilla import optimum
from analysis.tables.columns import Array, FitError, table_names
from conf.command_line import pick

CRITERIA = {
    "c": "the variance of the quantity asked for",
    "a": "the sum of the relative variances of all constants",
    "d": "the volume of all constants' joint region",
}
_Z = 1.96


# --- what is asked ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A number that follows from the constants, (S,) from (S,) each; `log` where its logarithm is what is uncertain
    by about the same amount up and down."""

    name: str
    function: Callable[[Mapping[str, Array]], Array]
    log: bool


_OPTIMA = {"n_params_opt": 0, "n_tokens_opt": 1}


def quantity(law: Law, name: str) -> Quantity:
    """`quantity(law, "n_params_opt@1e18")`: what `--for` names: a constant of the law, what follows
    from it, or `n_params_opt@FLOPS`.

    Raises:
        UserError: there is no such quantity.
    """
    kind, at, compute = name.partition("@")
    if at and law.name == "chinchilla" and kind in _OPTIMA:
        flops = _positive(compute)
        if flops is None:
            raise FitError(f"--for {name}: {compute!r} is no compute; allowed: FLOPs, e.g. {kind}@1e18")
        index = _OPTIMA[kind]
        return Quantity(name, lambda p: optimum(flops, **{k: p[k] for k in ("A", "B", "alpha", "beta")})[index], True)
    if at and kind not in _OPTIMA:
        raise FitError(f"--for {name}: {kind!r} has no target compute; allowed: {', '.join(_OPTIMA)}, of chinchilla")
    return pick("--for", name, {known.name: known for known in quantities(law)})


def quantities(law: Law) -> list[Quantity]:
    """`quantities(law)[0].name` is "E": every constant of a law and what follows from the constants."""

    def constant(name: str) -> Callable[[Mapping[str, Array]], Array]:
        return lambda params: params[name]

    def follows(name: str) -> Callable[[Mapping[str, Array]], Array]:
        assert law.derived is not None
        derived = law.derived
        return lambda params: derived(params)[name]

    every = [Quantity(p.name, constant(p.name), p.log) for p in law.parameters]
    if law.derived is not None:
        example = {p.name: np.array([1.0]) for p in law.parameters}
        with np.errstate(all="ignore"):  # only the names are wanted
            names = list(law.derived(example))
        every += [Quantity(name, follows(name), name.endswith("_opt")) for name in names]
    return every


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 and math.isfinite(value) else None


# --- the plan --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """A quantity before the runs.

    Attributes:
        value: what is believed.
        sd: the standard deviation that a fit of the runs would have, of the quantity's logarithm where `log`.
        ci95: the interval that goes with it.
        sd_range: smallest and largest `sd` over the prior's draws.
        simulated: the middle 95 % of fits to simulated outcomes of the runs; None without simulations.
    """

    value: float
    sd: float
    ci95: tuple[float, float]
    sd_range: tuple[float, float]
    log: bool
    simulated: tuple[float, float] | None = None

    @property
    def optimistic(self) -> bool:
        """Whether fits scatter much more than `ci95` says: the runs are too few for a law taken to be straight."""
        if self.simulated is None:
            return False
        size = np.log if self.log else np.asarray
        return bool(np.ptp(size(self.simulated)) > 1.5 * np.ptp(size(self.ci95)))


@dataclass(frozen=True)
class Design:
    """The runs to make, and what they promise.

    Attributes:
        counts: seeds of each candidate (M,); `grid`, those of the best full grid within the same limits, or None where
            none fits.
        expected: of each quantity; `by_grid` the same with the grid.
        asked: the quantity that the design is for, None for a criterion of all constants.
        bound: no design within the limits has a root of the variance asked for below `bound` times this one's.
    """

    counts: Counts
    grid: Counts | None
    expected: dict[str, Expected]
    by_grid: dict[str, Expected] | None
    asked: str | None
    bound: float


class Planner:
    """Candidates seen through a law: how much a run of each tells about each constant."""

    def __init__(
        self, law: Law, prior: Prior, candidates: Sequence[Candidate], known: Mapping[str, Array] | None = None
    ) -> None:
        """`known` are runs that the fit will have besides, as columns; raises `FitError` for a law that reads what
        candidates do not have."""
        columns = columns_of(candidates)
        lacking = [c.name for c in law.columns if c.name not in columns]
        if lacking or law.read is not None:
            what = ", ".join(lacking) or "more than columns"
            raise FitError(f"{law.name}: reads {what}; allowed: a law of {', '.join(table_names(columns))}")
        self.law, self.prior, self.candidates, self.columns = law, prior, candidates, columns
        self.known = known or {name: values[:0] for name, values in columns.items()}
        self.centre = {name: float(np.exp(np.log(columns[name]).mean())) for name in law.centred}
        rows = np.array([[prior.values[name], *prior.draws[name]] for name in law.names]).T
        self.theta_KP = to_theta(law, rows, self.centre)
        self.free = [k for k, name in enumerate(law.names) if name not in prior.fixed]
        self.J_KMP = self._sensitivity(columns)
        self.n_known = len(next(iter(self.known.values())))
        J_KNP = self._sensitivity(self.known)
        self.known_KPP = J_KNP.swapaxes(1, 2) @ J_KNP

    def design(
        self,
        limits: Limits,
        asked: Quantity | None,
        criterion: str = "c",
        shown: Sequence[Quantity] = (),
        simulations: int = 0,
        seed: int = 0,
    ) -> Design:
        """`planner.design(limits, quantity(law, "alpha")).counts`: the best design that is reached.

        Args:
            asked: what the criterion `c` is about.
            shown: quantities whose expected intervals are reported besides.
            simulations: outcomes of the design that are drawn and fitted; 0, or at least 40 for an interval.

        Raises:
            FitError: the budget allows too few runs to determine the constants, or the constant asked for is held.
        """
        if asked is not None and asked.name in self.prior.fixed:
            raise FitError(f"--for {asked.name}: the fit holds it; allowed: a constant that is free")
        aim = Aim(self.J_KMP, self._gradients(asked, criterion), self.known_KPP)
        grid = self._best_grid(aim, limits)
        starts = [] if grid is None else [grid]
        counts = search(aim, limits, starts)
        if not self._determines(aim, counts):  # of few runs, none is spent on the other constants unless they count
            counts = search(dataclasses.replace(aim, volume_weight=1.0), limits, starts)
        if not self._determines(aim, counts):
            raise FitError(
                f"--budget: allows {int(counts.sum())} runs, which do not determine the {len(self.free)} constants of "
                f"{self.law.name}; allowed: a larger budget, or runs that are smaller, shorter or of more sizes"
            )
        exact = dataclasses.replace(aim, volume_weight=0.0)  # a bound of what was asked for, and of nothing besides
        _, lowest = relax(exact, limits, counts)
        every = [*([asked] if asked is not None else []), *(q for q in shown if asked is None or q.name != asked.name)]
        every = [q for q in every if q.name not in self.prior.fixed]
        expected = {q.name: self._expected(aim, counts, q) for q in every}
        return Design(
            counts=counts,
            grid=grid,
            expected=self.simulated(counts, every, expected, simulations, seed),
            by_grid=None if grid is None else {q.name: self._expected(aim, grid, q) for q in every},
            asked=asked.name if asked is not None else None,
            bound=math.exp((lowest - exact.value(counts)) / 2),
        )

    def simulated(
        self, counts: Counts, every: Sequence[Quantity], expected: dict[str, Expected], simulations: int, seed: int
    ) -> dict[str, Expected]:
        """`expected` with what fits to simulated outcomes of the runs give, at the believed constants."""
        if simulations == 0:
            return expected
        names = [column.name for column in self.law.columns]
        runs = {name: np.concatenate([self.known[name], np.repeat(self.columns[name], counts)]) for name in names}
        exact = self.law.function(read_variables(self.law, runs), **self.prior.values)
        starts = np.array([[self.prior.values[n], *self.prior.draws[n][:4]] for n in self.law.names]).T
        # With delta at two standard deviations Huber's loss is as good as least squares.
        asked = FitOptions(
            fixed=self.prior.fixed, objective="huber_log", delta=2 * self.prior.noise, bootstrap=0, starts=starts
        )
        rng = np.random.default_rng(seed)
        outcomes: dict[str, list[float]] = {q.name: [] for q in every}
        for _ in range(simulations):
            outcome = exact * np.exp(self.prior.noise * rng.standard_normal(exact.shape))
            result = self.law.fit(runs | {self.law.target.name: outcome}, asked)
            params = {name: np.array([value]) for name, value in result.values.items()}
            for q in every:
                outcomes[q.name].append(float(q.function(params)[0]))
        ends = {name: np.quantile(values, [0.025, 0.975]) for name, values in outcomes.items()}
        return {
            name: dataclasses.replace(believed, simulated=(float(ends[name][0]), float(ends[name][1])))
            for name, believed in expected.items()
        }

    def _sensitivity(self, columns: Mapping[str, Array]) -> Array:
        """Derivatives of ln loss by the free constants at every draw, over the noise (K, N, P)."""
        variables = read_variables(self.law, columns)
        values = {name: value[:1] for name, value in to_params(self.law, self.theta_KP[:1], self.centre).items()}
        target = np.broadcast_to(self.law.function(variables, **values), (1, len(next(iter(variables.values())))))[0]
        scaled = {name: values / self.centre.get(name, 1.0) for name, values in variables.items()}
        problem = Problem(self.law, scaled, target, log=True, centre=self.centre)
        return problem.jacobian(self.theta_KP)[:, self.free].swapaxes(1, 2) / self.prior.noise

    def _gradients(self, asked: Quantity | None, criterion: str) -> Array | None:
        if criterion == "d":
            return None
        if criterion == "a":
            constants = [Quantity(p.name, lambda p_, n=p.name: p_[n], p.log) for p in self.law.parameters]  # type: ignore[misc]
            each = [self._gradient(q) for q in constants if q.name not in self.prior.fixed]
            return np.stack(each, axis=2)
        assert asked is not None
        return self._gradient(asked)[:, :, None]

    def _gradient(self, asked: Quantity) -> Array:
        """Of a quantity's logarithm, or of the quantity over its size, by the free constants (K, P)."""
        columns = []
        for k in self.free:
            step = 1e-5 * np.maximum(1.0, np.abs(self.theta_KP[:, k]))
            ends = []
            for sign in (1, -1):
                theta = self.theta_KP.copy()
                theta[:, k] += sign * step
                ends.append(self._value(asked, theta))
            columns.append((np.log(ends[0] / ends[1]) if asked.log else ends[0] - ends[1]) / (2 * step))
        gradient = np.stack(columns, axis=1)
        return gradient if asked.log else gradient / np.abs(self._value(asked, self.theta_KP))[:, None]

    def _value(self, asked: Quantity, theta_KP: Array) -> Array:
        params = {name: values[:, 0] for name, values in to_params(self.law, theta_KP, self.centre).items()}
        return asked.function(params)

    def _expected(self, aim: Aim, counts: Counts, asked: Quantity) -> Expected:
        gradient = self._gradient(asked)
        sd_K = np.sqrt(np.einsum("kp,kpq,kq->k", gradient, aim.covariance(counts), gradient))
        value = self._value(asked, self.theta_KP)
        if not asked.log:
            sd_K = sd_K * np.abs(value)
        middle, sd = float(value[0]), float(sd_K[0])
        ends = (
            (middle * math.exp(-_Z * sd), middle * math.exp(_Z * sd))
            if asked.log
            else (middle - _Z * sd, middle + _Z * sd)
        )
        return Expected(middle, sd, ends, (float(sd_K.min()), float(sd_K.max())), asked.log)

    def _determines(self, aim: Aim, counts: Counts) -> bool:
        """Whether a fit of these runs has more points than constants, and a Jacobian of full rank."""
        if self.n_known + counts.sum() <= len(self.free):
            return False
        unit = np.sqrt((self.J_KMP[0] ** 2).mean(0))
        M = (aim.known_KPP[0] + np.einsum("mp,m,mq->pq", self.J_KMP[0], counts, self.J_KMP[0])) / np.outer(unit, unit)
        return bool(np.linalg.cond(M) < 1e9)

    def _best_grid(self, aim: Aim, limits: Limits) -> Counts | None:
        """The best of the full grids that fit in: the smallest sizes, each with the same lengths (or rates), spread
        evenly from the shortest up."""
        place = np.array([c.place for c in self.candidates])
        best, value = None, math.inf
        n_rows, n_columns = place.max(axis=0) + 1
        levels = {
            tuple(np.unique(np.linspace(0, last, count).round().astype(int)))
            for last in range(n_columns)
            for count in range(1, last + 2)
        }
        for rows, chosen in itertools.product(range(1, n_rows + 1), sorted(levels)):
            within = (place[:, 0] < rows) & np.isin(place[:, 1], chosen)
            for seeds in range(1, limits.most_seeds + 1):
                counts = within.astype(np.int64) * seeds
                if not limits.allow(counts):
                    break
                if (reached := aim.value(counts)) < value and self._determines(aim, counts):
                    best, value = counts, reached
        return best

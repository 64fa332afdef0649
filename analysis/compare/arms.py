"""Two arms of a table: their points, what of them belongs together, and one joint law with constants of its own for
each arm.

Shape letters: N points, R bootstrap replicates, U places on a grid of log10 x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.fitter.formula import Parameter
from analysis.fitter.law import FitResult, Law
from analysis.fitter.options import FitOptions
from analysis.fitter.resample import Codes, codes
from analysis.laws.chinchilla import optimum
from analysis.tables.columns import Array, Column, Columns, FitError, read_column, read_labels, table_names
from conf.command_line import counted

SAME_SCALE = 0.05  # values of x that differ by less belong to one scale
FEWEST_DRAWN = 7  # draws of a bootstrap, so that few scales are left out of most of them
ARM = Column("arm", "0 for the reference, 1 for the other arm", "1", "non-negative")


# --- the joint model -------------------------------------------------------------------------------------


def split_law(law: Law, names: Sequence[str], arms: tuple[str, str]) -> Law:
    """`split_law(law, ("A",), ("adamw", "muon")).names` is ("E", "A[adamw]", "A[muon]", …): one law for both arms, told
    apart by a column `arm`; each arm has constants `names` of its own, all others are shared."""

    def of_its_arm(name: str, arm: int) -> str:
        return f"{name}[{arms[arm]}]" if name in names else name

    def parameter(p: Parameter, arm: int) -> Parameter:
        carries = []
        for variable, power in p.carries:
            if isinstance(power, str):
                sign = "-" if power.startswith("-") else ""
                power = sign + of_its_arm(power.removeprefix("-"), arm)
            carries.append((variable, power))
        name, starts = of_its_arm(p.name, arm), p.starts
        if name != p.name:
            starts = starts[::2]  # the grid is that of both arms, squared
        return replace(p, name=name, meaning=f"{p.meaning}; {arms[arm]}", starts=starts, carries=tuple(carries))

    parameters: list[Parameter] = []
    for p in law.parameters:
        parameters += [parameter(p, 0), parameter(p, 1)] if p.name in names else [p]

    def of_arm(constants: dict[str, Any], arm: int) -> dict[str, Any]:
        return {name: constants[of_its_arm(name, arm)] for name in law.names}

    def function(columns: Columns, **constants: Any) -> Array:
        both = (law.function(columns, **of_arm(constants, arm)) for arm in (0, 1))
        return np.where(columns["arm"] > 0, *tuple(both)[::-1])

    def gradient(columns: Columns, **constants: Any) -> tuple[Array, ...]:
        first, second = (law.partials(columns, of_arm(constants, arm)) for arm in (0, 1))
        other = columns["arm"] > 0
        slopes: list[Array] = []
        for name, a, b in zip(law.names, first, second, strict=True):
            slopes += [np.where(other, 0.0, a), np.where(other, b, 0.0)] if name in names else [np.where(other, b, a)]
        return tuple(slopes)

    return Law(
        name=law.name,
        formula=law.formula,
        question="whether two methods follow one law",
        source=law.source,
        columns=(*law.columns, ARM),
        parameters=tuple(parameters),
        function=function,
        gradient=gradient,
        target=law.target,
    )


def hypotheses_of(law: Law) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The nested hypotheses: name -> what it says, and the constants that are each arm's own."""
    factors = tuple(p.name for p in law.parameters if p.linear and not p.floor)
    shape = tuple(p.name for p in law.parameters if not p.floor)
    hypotheses = {
        "same": ("one law for both arms", ()),
        "factor": ("own coefficients, common exponents: a constant multiplier of x in a power law", factors),
        "slope": ("own coefficients and exponents, one floor", shape),
        "floor": ("everything its own", law.names),
    }
    if shape == law.names:
        del hypotheses["floor"]
    return hypotheses


def curve(law: Law, constants: Columns, log_x_U: Array) -> Array:
    """Loss over cost: over x, or for `chinchilla` at the best allocation of C = 6 N D (R, U), which is not finite
    where a term has vanished and no allocation is best."""
    x = 10.0**log_x_U
    if law.name != "chinchilla":
        return law.function({"x": x}, **constants)
    with np.errstate(all="ignore"):
        n, d = optimum(x, **{name: constants[name] for name in ("A", "B", "alpha", "beta")})
        return law.function({"n_params": n, "n_tokens": d}, **constants)


# --- data ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trials:
    """The points of both arms.

    Attributes:
        arms: the reference, and what is compared with it.
        columns: what the joint law reads, `arm` among them, each (N,).
        names: column of the law -> name to speak of.
        loss, cost: measured, and what x the point stands at; (N,).
        scale: codes of scales (N,), in no order.
        seed: codes of the column `seed` (N,), or None.
    """

    arms: tuple[str, str]
    columns: dict[str, Array]
    names: dict[str, str]
    loss: Array
    cost: Array
    scale: Codes
    seed: Codes | None

    @property
    def arm(self) -> Array:
        return self.columns["arm"]

    @property
    def x_name(self) -> str:
        return self.names.get("x", "C = 6 N D")

    @property
    def n_scales(self) -> int:
        return int(self.scale.max()) + 1

    def shared_range(self) -> tuple[float, float]:
        """Where both arms were measured."""
        low = max(self.cost[self.arm == k].min() for k in (0, 1))
        high = min(self.cost[self.arm == k].max() for k in (0, 1))
        return float(low), float(high)

    def rows(self, kept: Any) -> Trials:
        return replace(
            self,
            columns={name: values[kept] for name, values in self.columns.items()},
            loss=self.loss[kept],
            cost=self.cost[kept],
            scale=self.scale[kept],
            seed=None if self.seed is None else self.seed[kept],
        )

    def fit(self, law: Law) -> FitResult:
        """By least squares of ln loss: the selection among hypotheses needs a likelihood."""
        table = {self.names.get(name, name): values for name, values in self.columns.items()}
        table[law.target.name] = self.loss
        return law.fit(table, FitOptions(x=self.names.get("x"), objective="lsq_log", bootstrap=0))

    def draw(self, count: int, seed: int, n_constants: int) -> Array:
        """Weights of resamples (count, N) that keep what belongs together together.

        Units with both arms, with the first and with the second are drawn apart. By the share of freedom that the
        constants take fewer are drawn than there are (m out of n), since residuals of a fit are too small by as much.
        """
        unit = self.units()
        both = [len(np.unique(self.arm[unit == k])) == 2 for k in range(int(unit.max()) + 1)]
        stratum = np.where(np.array(both)[unit], 2, self.arm)
        rng = np.random.default_rng(seed)
        weights = np.empty((count, len(unit)))
        for k in np.unique(stratum):
            rows = np.flatnonzero(stratum == k)
            members = codes(unit[rows])
            n = int(members.max()) + 1
            drawn = max(min(n, FEWEST_DRAWN), round(n * (1 - n_constants / len(unit))))
            weights[:, rows] = rng.multinomial(drawn, np.full(n, 1 / n), size=count)[:, members]
        return weights

    def units(self) -> Codes:
        """What belongs together when trials are drawn (N,): a scale and seed with both of its arms; without a column
        `seed` a scale with one trial of each arm, or else a single trial."""
        if self.seed is not None:
            return codes([f"{a} {b}" for a, b in zip(self.scale, self.seed, strict=True)])
        if self.most_trials() == 1:
            return self.scale
        return np.arange(len(self.loss))

    def most_trials(self) -> int:
        return int(np.unique(np.stack([self.scale, self.arm]), axis=1, return_counts=True)[1].max())


def read_trials(law: Law, table: Any, by: str, x: str | None, reference: str | None) -> Trials:
    """The points of a table as two arms.

    Raises:
        FitError: no such column, no two arms, arms that were measured nowhere at the same x, or a law whose loss is
            no function of one cost.
    """
    labels = read_labels(table, by)
    arms = [str(name) for name in np.unique(labels)]
    if len(arms) != 2:
        named = ", ".join([*arms[:4], "…"] if len(arms) > 4 else arms)
        raise FitError(f"--by {by}: has {counted(len(arms), 'value')} ({named}); allowed: exactly two arms")
    if reference is not None and reference not in arms:
        raise FitError(f"--reference {reference}: is no value of {by}; allowed: {' or '.join(arms)}")
    if reference == arms[1]:
        arms.reverse()
    of_law = tuple(column.name for column in law.columns)
    if law.read is not None or not law.objective.endswith("log") or (of_law != ("x",) and law.name != "chinchilla"):
        raise FitError(
            f"{law.name}: its loss is no curve over one cost; allowed: laws of x, such as power_law; chinchilla"
        )
    if of_law == ("x",) and x is None:
        raise FitError(f"{law.name}: say with --x which column x is")
    if of_law != ("x",) and x is not None:
        raise FitError(f"{law.name}: has no free variable for --x {x}")
    names = {"x": x} if x is not None else {}
    columns = {c.name: read_column(table, replace(c, name=names.get(c.name, c.name))) for c in law.columns}
    cost = columns["x"] if x is not None else 6 * columns["n_params"] * columns["n_tokens"]
    columns["arm"] = (labels == arms[1]).astype(float)
    scale = codes([" ".join(map(str, row)) for row in zip(*map(_scales, list(columns.values())[:-1]), strict=True)])
    seed = codes(read_labels(table, "seed")) if "seed" in table_names(table) and by != "seed" else None
    loss = read_column(table, replace(law.target, sign="positive"))
    trials = Trials((arms[0], arms[1]), columns, names, loss, cost, scale, seed)
    low, high = trials.shared_range()
    if low >= high:
        raise FitError(
            f"{by}: the ranges of {trials.x_name} of {arms[0]} and {arms[1]} do not overlap; nothing to compare"
        )
    return trials


def _scales(values: Array) -> Codes:
    """Codes of values that are equal but for rounding."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(np.log(values[order])) > np.log1p(SAME_SCALE)
    scales = np.empty(len(values), dtype=np.int64)
    scales[order] = np.concatenate([[0], np.cumsum(steps)])
    return scales

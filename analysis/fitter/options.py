"""What a fit is asked for. A default of a fit is stated here and nowhere else; the command line is built from it.

FitOptions(delta=0.02, bootstrap=200)      all else as usual
FitOptions(bootstrap=5)                    FitError: bootstrap: 5 is not allowed; allowed: 0, or at least 20 resamples
add_options(parser, FitOptions)            --delta, --bootstrap, …
law.fit(table, options)                    any law's fit
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.tables.columns import Array, FitError
from conf.command_line import flag_of, number_pair, option, pair

OBJECTIVES = {
    "huber_log": "Huber's loss of ln predicted - ln measured, linear beyond delta",
    "lsq_log": "half the squared difference of logarithms",
    "huber": "Huber's loss of the difference, linear beyond delta",
    "lsq": "half the squared difference",
    "lad": "the absolute difference",
}

FEWEST_RESAMPLES = 20  # fewer have neither intervals nor correlations
SMALLEST_DELTA = 1e-12  # below, residuals inside it are rounding

# What only the minimisation of one formula knows.
OF_ONE_FORMULA = ("x", "fixed", "objective", "se", "cluster", "profiles", "starts")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a law is fitted.

    Attributes:
        x: the column that a law of one free variable reads.
        options: of a family or procedure, by name.
        fixed: constants that are held, in the units of the table.
        objective: a key of `OBJECTIVES`; the law's own when None.
        delta: where Huber's loss turns linear, in units of ln target (`huber_log`) or of the target (`huber`). 1e-3
            is the published choice for Chinchilla and nearly least absolute deviations; one to three standard
            deviations of the noise is the more efficient choice.
        bootstrap: resamples; 0 for none.
        cluster: a column whose values the bootstrap draws, instead of rows.
        se: a column of standard errors of the target, in its units. Residuals weigh as 1 / se², and logarithmic ones
            as (target / se)², since the standard error of ln target is se / target.
        profiles: constants whose profile is traced.
        starts: values of the parameters to start from (S, P), in the units of the table, instead of the grid. Linear
            coefficients among them are replaced by their best values for the others, and starts that then are equal
            are advanced once.

    Raises:
        FitError: a value is not allowed.
    """

    x: str | None = option(None, "the variable of a law of one variable, e.g. n_tokens", metavar="COLUMN")
    options: Mapping[str, Any] = option(
        {}, "an option of the law, e.g. breaks=2", flag="--set", parse=pair, metavar="NAME=VALUE", several="again"
    )
    fixed: Mapping[str, float] = option(
        {}, "hold a constant, e.g. E=1.69", flag="--fix", parse=number_pair, metavar="NAME=VALUE", several="again"
    )
    objective: str | None = option(
        None,
        "; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items()) + " (default: the law's own)",
        choices=tuple(OBJECTIVES),
    )
    delta: float = option(1e-3, "where Huber's loss turns linear")
    bootstrap: int = option(1000, "resamples; 0: none", metavar="N")
    cluster: str | None = option(None, "the bootstrap draws its values instead of rows", metavar="COLUMN")
    se: str | None = option(None, "standard errors of the target; points weigh as 1 / se²", metavar="COLUMN")
    seed: int = option(0, "draws the resamples")
    profiles: tuple[str, ...] = option(
        (), "trace the profile of constants, e.g. alpha beta", flag="--profile-of", metavar="NAME", several="in a row"
    )
    starts: Array | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.objective not in (None, *OBJECTIVES):
            raise FitError(f"objective: {self.objective!r} is not allowed; allowed: {', '.join(OBJECTIVES)}")
        if not self.delta >= SMALLEST_DELTA:
            raise FitError(f"delta: {self.delta!r} is not allowed; allowed: >= {SMALLEST_DELTA:g}")
        if self.bootstrap < 0 or 0 < self.bootstrap < FEWEST_RESAMPLES:
            raise FitError(
                f"bootstrap: {self.bootstrap} is not allowed; allowed: 0, or at least {FEWEST_RESAMPLES} resamples"
            )
        if self.seed < 0:
            raise FitError(f"seed: {self.seed} is not allowed; allowed: >= 0")

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """`asked.refuse(("x",), "isoflop: goes in steps, which take")` raises `FitError` where x was given."""
        flags = {spec.name: flag_of(spec) for spec in dataclasses.fields(self)}
        for name in names:
            given = getattr(self, name)
            if given is not None and len(given):
                raise FitError(f"{why} no {flags[name]}")


DEFAULTS = FitOptions()

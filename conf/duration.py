"""Lengths of training, and lists of steps, as they are written in settings.

Duration.parse("20tok/param")                    Duration(value=20.0, unit='tok/param'); ValueError without a unit
Duration.parse("5%").steps(…, run_steps=200)     10
parse_steps("0,200")                              [0, 200]
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Literal, NamedTuple

DurationUnit = Literal["steps", "tok", "tok/param", "%"]
RUN_LENGTHS: tuple[DurationUnit, ...] = ("steps", "tok", "tok/param")
SHARES: tuple[DurationUnit, ...] = ("steps", "tok", "tok/param", "%")
_DURATION = re.compile(r"(?P<value>\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)(?P<unit>tok/param|tok|steps|%)")


class Duration(NamedTuple):
    """A length of training that carries its unit: `500steps`, `2e6tok`, `20tok/param`, `5%` (of the run)."""

    value: float
    unit: DurationUnit

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `<number><unit>`; raise `ValueError` for anything else."""
        match = _DURATION.fullmatch(text)
        if match is None or not isfinite(float(match["value"])):
            raise ValueError(f"{text!r} is not a duration")
        return cls(float(match["value"]), match["unit"])  # type: ignore[arg-type]  # the pattern admits only units

    def steps(self, *, tokens_per_step: int, n_params: int, run_steps: int | None = None) -> int:
        """The number of optimiser steps, rounded to the nearest; `%` needs the length of the run in steps."""
        if self.unit == "%":
            if run_steps is None:
                raise ValueError("a share of the run has no length before the run has one")
            return round(self.value / 100 * run_steps)
        if self.unit == "steps":
            return round(self.value)
        tokens = self.value * (n_params if self.unit == "tok/param" else 1)
        return round(tokens / tokens_per_step)


def parse_steps(text: str) -> list[int]:
    """Whole numbers >= 0 joined by commas; raises `ValueError` for anything else."""
    if re.fullmatch(r"\d+(,\d+)*", text) is None:
        raise ValueError(f"{text!r} is not allowed; allowed: whole numbers joined by ','")
    return [int(part) for part in text.split(",")]

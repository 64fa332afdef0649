"""A claim of a paper, put to the runs: what was measured, a region, and the verdict that follows from the two.

Claim("Peri-LN bears a higher learning rate than pre-LN.",
      of=arms_apart(fails, "lr_fail", "peri", "pre"),
      statistic="log10 failing rate, Peri-LN minus pre-LN",
      accept=above(0)).verdict
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from analysis.claims.region import Region
from analysis.claims.sample import Measured, Sample
from train.record.files import write_json

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what was measured.

    Attributes:
        sentence: the claim in words.
        of: the values of the seeds, or an estimate made in another way.
        statistic: what is estimated, with its unit.
        accept: the accepted region.
        needs: where smaller runs than the paper's cannot show the effect, what it takes to see it.
        measured: the estimate with its interval and the runs behind it, or the reason why there is none.
    """

    sentence: str
    of: Sample | Measured = field(kw_only=True)
    statistic: str = field(kw_only=True)
    accept: Region = field(kw_only=True)
    needs: str | None = field(default=None, kw_only=True)
    measured: Measured = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measured", self.of.measured())

    @property
    def verdict(self) -> Verdict:
        """From the interval, never from the point: inside the region, apart from it (or from the truth), or neither."""
        if self.measured.interval is None:
            return "inconclusive"
        (low, high), region = self.measured.interval, self.accept
        if region.truth is not None and not low <= region.truth <= high:
            return "not reproduced"
        if low == high and low in (region.low, region.high):  # on the border, and no spread to judge it by
            return "inconclusive"
        if region.low <= low and high <= region.high:
            return "reproduced"
        if high < region.low or low > region.high:
            return "not reproduced"
        return "inconclusive"

    def add_to_reason(self, text: str) -> Claim:
        """The claim, which says this besides where it has no estimate."""
        if self.measured.reason is None:
            return self
        return replace(self, of=replace(self.measured, reason=f"{self.measured.reason} ({text})"))

    def to_json(self) -> dict[str, Any]:
        """An infinite end of the region or the interval is null: JSON has no infinity."""

        def ends(*values: float) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values]

        measured, region = self.measured, self.accept
        low, high = ends(region.low, region.high)
        return {
            "sentence": self.sentence,
            "statistic": self.statistic + measured.note,
            "estimate": measured.estimate,
            "interval": ends(*measured.interval) if measured.interval else None,
            "threshold": region.words,
            "low": low,
            "high": high,
            **({"truth": region.truth} if region.truth is not None else {}),
            "n_seeds": measured.n_seeds,
            "n_runs": measured.n_runs,
            "reason": measured.reason,
            **({"scale": self.needs} if self.needs is not None else {}),
            "verdict": self.verdict,
        }


def write_claims(path: Path, study: str, profile: str, claims: Sequence[Claim]) -> None:
    """Replace `claims.json`."""
    write_json(path, {"study": study, "profile": profile, "claims": [claim.to_json() for claim in claims]})

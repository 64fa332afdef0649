"""A claim of a paper, put to the runs: an interval, a region, and the verdict that follows from the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.record.files import write_json

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, and what was measured.

    Attributes:
        sentence: the claim in words.
        statistic: what is estimated, with its unit.
        estimate: its value; None where it could not be estimated.
        interval: its 95 % interval; None where it could not be estimated. An end is infinite where the estimate is only
            a bound.
        threshold: the accepted region in words.
        low, high: the accepted region; one of them may be infinite.
        truth: a value known from elsewhere, which the interval must contain besides lying within the region: the
            region alone would pass an interval that excludes the truth, and the truth alone one of any width.
        n_seeds: seeds per setting behind the estimate.
        n_runs: runs behind the estimate.
        reason: why there is no estimate.
        scale: where smaller runs than the paper's cannot show the effect, what it takes to see it.
    """

    sentence: str
    statistic: str
    estimate: float | None
    interval: tuple[float, float] | None
    threshold: str
    low: float = -math.inf
    high: float = math.inf
    truth: float | None = None
    n_seeds: int
    n_runs: int
    reason: str | None = None
    scale: str | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"the accepted region [{self.low}, {self.high}] is empty")
        if self.truth is not None and not self.low <= self.truth <= self.high:
            raise ValueError(f"the accepted region [{self.low}, {self.high}] leaves out the truth {self.truth}")
        if (self.interval is None) != (self.estimate is None) or (self.interval is None) != (self.reason is not None):
            raise ValueError("a claim has an estimate with its interval, or else a reason why not")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"the interval {self.interval} is upside down or not a number")

    @property
    def verdict(self) -> Verdict:
        """From the interval, never from the point: inside the region, apart from it (or from the truth), or neither."""
        if self.interval is None:
            return "inconclusive"
        low, high = self.interval
        if self.truth is not None and not low <= self.truth <= high:
            return "not reproduced"
        if low == high and low in (self.low, self.high):  # on the border, and no spread to judge it by
            return "inconclusive"
        if self.low <= low and high <= self.high:
            return "reproduced"
        if high < self.low or low > self.high:
            return "not reproduced"
        return "inconclusive"

    def to_json(self) -> dict[str, Any]:
        """An infinite end of the region or the interval is null: JSON has no infinity."""

        def ends(*values: float) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values]

        low, high = ends(self.low, self.high)
        return {
            "sentence": self.sentence,
            "statistic": self.statistic,
            "estimate": self.estimate,
            "interval": ends(*self.interval) if self.interval else None,
            "threshold": self.threshold,
            "low": low,
            "high": high,
            **({"truth": self.truth} if self.truth is not None else {}),
            "n_seeds": self.n_seeds,
            "n_runs": self.n_runs,
            "reason": self.reason,
            **({"scale": self.scale} if self.scale is not None else {}),
            "verdict": self.verdict,
        }


def write_claims(path: Path, study: str, profile: str, claims: Sequence[Claim]) -> None:
    """Replace `claims.json`."""
    write_json(path, {"study": study, "profile": profile, "claims": [claim.to_json() for claim in claims]})

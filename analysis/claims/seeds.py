"""The form that claims are leaving: `Claim(sentence, of=..., statistic=..., accept=...)` takes its place."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.claims.claim import Claim
from analysis.claims.region import Region
from analysis.claims.sample import Sample


def claim_over_seeds(
    values: Sequence[float],
    *,
    sentence: str,
    statistic: str,
    threshold: str,
    low: float = -math.inf,
    high: float = math.inf,
    n_runs: int,
    resolution: float = 0.0,
    bounds: Sequence[str | None] = (),
    scale: str | None = None,
    reason: str | None = None,
) -> Claim:
    """A claim about the mean over seeds of one value each."""
    return Claim(
        sentence,
        of=Sample(dict(enumerate(values)), n_runs, bounds, resolution, reason),
        statistic=statistic,
        accept=Region(threshold, low, high),
        needs=scale,
    )

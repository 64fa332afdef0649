"""What seeds say: an estimate that was made once for each seed, its interval, and the claim that rests on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.claims.claim import Claim
from analysis.claims.student import reach
from conf.command_line import counted

Estimate = tuple[float, tuple[float, float]]
"""A value and its 95 % interval."""


def over_seeds(values: Sequence[float], *, resolution: float = 0.0) -> Estimate:
    """Mean and Student's 95 % interval of independent values, one for each seed.

    Args:
        resolution: the step of values that come in steps, such as a share of few runs. The interval reaches at least
            half of it to each side: seeds that agree say no more than that.

    Raises:
        ValueError: fewer than two values, which tell no spread, or one that is no number.
    """

    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"{values!r} gives no interval; at least two finite values are needed")
    half = reach(len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    half = max(half, resolution / 2)
    mean = float(x.mean())
    return mean, (mean - half, mean + half)


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
    """A claim about the mean over seeds of one value each; without an estimate if there are fewer than two of them.

    Args:
        values: one for each seed.
        resolution: as in `over_seeds`.
        bounds: for each value None, or "at least" or "at most" where the truth lies beyond it. The interval has no end
            on that side (the one on the other side holds, since each truth lies further from it than its value), and
            the statistic says so; of seeds that are bounded on both sides there is no estimate.
        reason: why a seed has none; asked for only where values are too few.
        scale, and the others: as in `Claim`.
    """
    estimate = interval = None
    sides = {bound: list(bounds).count(bound) for bound in bounds if bound is not None}
    told = ", ".join(f"{side} that in {n} of {counted(len(values), 'seed')}" for side, n in sorted(sides.items()))
    if len(sides) > 1:
        reason = f"only bounded: {told}"
    elif len(values) >= 2 and np.isfinite(values).all():
        estimate, (lowest, highest) = over_seeds(values, resolution=resolution)
        interval = -math.inf if "at most" in sides else lowest, math.inf if "at least" in sides else highest
        statistic += f" ({told})" if sides else ""
        reason = None
    elif reason is None:
        if len(values) < 2:
            reason = f"{counted(len(values), 'seed')}; an interval needs at least 2"
        else:
            reason = f"a seed's value is no number: {', '.join(f'{value:g}' for value in values)}"
    return Claim(
        sentence=sentence,
        statistic=statistic,
        estimate=estimate,
        interval=interval,
        threshold=threshold,
        low=low,
        high=high,
        n_seeds=len(values),
        n_runs=n_runs,
        reason=reason,
        scale=scale,
    )

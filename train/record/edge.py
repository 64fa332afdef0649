"""The best value of a grid that was tried, and whether it lies at an end, so that the optimum may lie beyond. No torch.

best_value({1e-3: 3.2, 3e-3: 3.0, 1e-2: 3.1})  ->  (0.003, None)
best_value({1e-3: 3.2, 3e-3: 3.1, 1e-2: 3.0})  ->  (0.01, "largest")
lowest_by_value([1e-3, 1e-3, 3e-3], [3.2, 3.1, 3.0])  ->  {0.001: 3.1, 0.003: 3.0}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

Side = Literal["smallest", "largest"]


def best_value(losses: Mapping[float, float]) -> tuple[float, Side | None]:
    """`best_value({1: 2.0, 2: 3.0})` is `(1, "smallest")`: the value of the lowest loss, and the end of the grid that
    it is, or None inside of it.

    Of equal losses an inner one counts, since the optimum is then bracketed; and if all are infinite, so that every
    value diverged, the smallest value, as if less would not diverge.

    Args:
        losses: the loss of each value tried, infinite where it diverged, none of them nan. A single value is both ends,
            and counts as the smallest.
    """
    low, high = min(losses), max(losses)
    lowest = min(losses.values())
    if math.isinf(lowest):
        return low, "smallest"
    tied = sorted(value for value, loss in losses.items() if loss == lowest)
    inner = [value for value in tied if value not in (low, high)]
    if inner:
        return inner[0], None
    return tied[0], "smallest" if tied[0] == low else "largest"


def lowest_by_value(values: Iterable[float], losses: Iterable[float]) -> dict[float, float]:
    """`lowest_by_value([1, 1, 2], [3.0, 2.0, 5.0])` is `{1: 2.0, 2: 5.0}`: the lowest loss of each value."""
    lowest: dict[float, float] = {}
    for value, loss in zip(values, losses, strict=True):
        lowest[value] = min(loss, lowest.get(value, math.inf))
    return lowest

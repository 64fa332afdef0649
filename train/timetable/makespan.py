"""How long many runs take where a few go at a time.

makespan([3.0, 1.0, 1.0, 1.0], 2)                                    3.0: the longest has a slot of its own
critical_path({"a": 3.0, "b": 2.0}, {"a": None, "b": "a"})           {"a": 5.0, "b": 2.0}: b waits for a
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping


def makespan(seconds: Iterable[float], slots: int) -> float:
    """When the last of the runs ends, `slots` at a time, longest first; in the unit of `seconds`, 0 for no run.

    Longest first is at most 4/3 of the best order (Graham 1969, "Bounds on multiprocessing timing anomalies").
    """
    ends = [0.0] * slots
    for run in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + run)
    return max(ends)


def critical_path(seconds: Mapping[str, float], after: Mapping[str, str | None]) -> dict[str, float]:
    """From the start of each run to the end of the longest chain of runs that begins with it, one after the other.

    The longest of all is the least that any number of slots takes; runs started in falling order of it hold up
    nothing that is longer (list scheduling by the critical path, Hu 1961).

    Args:
        seconds: of each run, by id.
        after: the run that each one waits for; None, or a run that is not in `seconds`, for none. No circles.
    """
    children: dict[str, list[str]] = {name: [] for name in seconds}
    for name in seconds:
        before = after[name]
        if before in children:
            children[before].append(name)
    lengths: dict[str, float] = {}

    def length(name: str) -> float:
        if name not in lengths:
            lengths[name] = seconds[name] + max(map(length, children[name]), default=0.0)
        return lengths[name]

    return {name: length(name) for name in seconds}

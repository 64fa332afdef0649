"""Regions that a paper's claim accepts, each of which says itself.

    above(0)                     -> "above 0"
    below(log10(2), form=".2f")  -> "below 0.30"
    between(-0.02, 0.02)         -> "within -0.02 and 0.02"
    within(0.02)                 -> "within 0.02", the same region
    above(0.5, "half of theory's") -> "above 0.5, half of theory's"

`form` is how a number is written; a note follows a comma.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Region:
    """Where the whole interval of a claim must lie.

    Attributes:
        words: the region as a reader sees it.
        low, high: its ends; one of them or both may be infinite.
        truth: a value known from elsewhere, which the interval must contain besides lying within the region: the
            region alone would pass an interval that excludes the truth, and the truth alone one of any width.
    """

    words: str
    low: float = -inf
    high: float = inf
    truth: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"the accepted region [{self.low}, {self.high}] is empty")
        if self.truth is not None and not self.low <= self.truth <= self.high:
            raise ValueError(f"the accepted region [{self.low}, {self.high}] leaves out the truth {self.truth}")


def above(low: float, note: str = "", *, form: str = "g") -> Region:
    """At least `low`."""
    return Region(_noted(f"above {low:{form}}", note), low=float(low))


def below(high: float, note: str = "", *, form: str = "g") -> Region:
    """At most `high`, said as "below"."""
    return Region(_noted(f"below {high:{form}}", note), high=float(high))


def at_most(high: float, *, rounding: float = 0.0) -> Region:
    """At most `high`, and as much more as rounding adds."""
    return Region(_noted(f"at most {high:g}", "but for rounding" if rounding else ""), high=high + rounding)


def between(low: float, high: float, note: str = "", *, form: str = "g") -> Region:
    """From `low` to `high`."""
    return Region(_noted(f"within {low:{form}} and {high:{form}}", note), low=float(low), high=float(high))


def within(half: float, note: str = "", *, form: str = "g") -> Region:
    """From -half to half."""
    return Region(_noted(f"within {half:{form}}", note), low=-half, high=half)


def containing(known: float | None, *, share: float) -> Region:
    """Around a known value by a share of it; everything where it is not known."""
    low, high = ((1 - share) * known, (1 + share) * known) if known else (-inf, inf)
    words = f"contains the known value, and lies within {100 * share:g} per cent of it"
    return Region(words, low=low, high=high, truth=known)


def around(truth: float, room: float, *, form: str = "g") -> Region:
    """Around a value by `room` to each side."""
    words = f"contains {truth:{form}}, and within {room:{form}} of it"
    return Region(words, low=truth - room, high=truth + room, truth=truth)


def _noted(words: str, note: str) -> str:
    return f"{words}, {note}" if note else words

"""A region says itself."""

from __future__ import annotations

from math import inf, log10

import pytest

from analysis.claims.region import Region, above, around, at_most, below, between, containing, within


@pytest.mark.parametrize(("region", "words", "low", "high"), [
    (above(0), "above 0", 0, inf),
    (above(log10(2), "a factor of 2", form=".2f"), "above 0.30, a factor of 2", log10(2), inf),
    (above(-0.05), "above -0.05", -0.05, inf),
    (below(-0.15), "below -0.15", -inf, -0.15),
    (below(0.1), "below 0.1", -inf, 0.1),
    (at_most(0.003), "at most 0.003", -inf, 0.003),
    (at_most(1, rounding=1e-5), "at most 1, but for rounding", -inf, 1 + 1e-5),
    (between(-0.02, 0.02), "within -0.02 and 0.02", -0.02, 0.02),
    (between(-1.96, 1.96, "half of it", form=".1f"), "within -2.0 and 2.0, half of it", -1.96, 1.96),
    (within(0.02), "within 0.02", -0.02, 0.02),
    (around(1.5, 0.25, form=".2f"), "contains 1.50, and within 0.25 of it", 1.25, 1.75),
    (containing(2.0, share=0.05), "contains the known value, and lies within 5 per cent of it", 1.9, 2.1),
    (containing(None, share=0.05), "contains the known value, and lies within 5 per cent of it", -inf, inf),
])  # fmt: skip
def test_words_and_ends_are_of_one_region(region: Region, words: str, low: float, high: float) -> None:
    assert (region.words, region.low, region.high) == (words, low, high)


def test_only_a_region_around_a_value_has_a_truth() -> None:
    assert (around(1.5, 0.25).truth, containing(2.0, share=0.05).truth) == (1.5, 2.0)
    assert above(0).truth is None


@pytest.mark.parametrize("ends", [
    {"low": 1.0, "high": -1.0},
    {"low": 1.0, "high": 1.0},
    {"low": -0.02, "high": 0.02, "truth": 0.03},
    {"low": -0.02, "high": 0.02, "truth": float("nan")},
])  # fmt: skip
def test_an_empty_region_is_refused(ends: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="region"):
        Region("nowhere", **ends)

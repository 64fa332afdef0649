"""A region says itself."""

from __future__ import annotations

from math import inf, log10

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


SIZES = st.floats(1e-3, 1e3)


@settings(deadline=None)
@given(SIZES, st.floats(-1e3, 1e3))
def test_regions_said_in_two_ways_have_the_same_ends(half: float, centre: float) -> None:
    symmetric, ends, about = within(half), between(-half, half), around(centre, half)
    assert (symmetric.low, symmetric.high) == (ends.low, ends.high) == (-half, half)
    assert about.high - about.low == pytest.approx(2 * half)
    assert about.truth == centre


@settings(deadline=None)
@given(SIZES, st.floats(0.01, 0.9))
def test_a_share_of_a_known_value_scales_with_it(known: float, share: float) -> None:
    region, twice = containing(known, share=share), containing(2 * known, share=share)
    assert (twice.low, twice.high) == pytest.approx((2 * region.low, 2 * region.high))
    assert region.low < known < region.high


def test_a_value_that_is_not_known_or_zero_limits_nothing() -> None:
    """A share of zero would be a region without any width."""
    for unknown in (None, 0.0):
        assert (containing(unknown, share=0.1).low, containing(unknown, share=0.1).high) == (-inf, inf)
    assert containing(1.0, share=0.1).high < inf


def test_a_region_around_a_value_with_no_room_is_refused() -> None:
    for none in (0.0, -0.1):
        with pytest.raises(ValueError, match="is empty"):
            around(1.0, none)
        with pytest.raises(ValueError, match="is empty"):
            within(none)
    with pytest.raises(ValueError, match="is empty"):
        between(0.2, 0.1)


def test_a_note_changes_the_words_alone() -> None:
    for said, plain in (
        (above(0.5, "half of theory's"), above(0.5)),
        (below(0.5, "half of theory's"), below(0.5)),
        (within(0.5, "half of theory's"), within(0.5)),
    ):
        assert said.words == f"{plain.words}, half of theory's"
        assert (said.low, said.high) == (plain.low, plain.high)
        assert said != plain

"""Makespan and critical path: their bounds, and a control that another order does worse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.timetable.makespan import critical_path, makespan

SECONDS = st.lists(st.integers(0, 100).map(float), max_size=12)


def test_makespan():
    assert makespan([], 2) == 0
    assert makespan([1, 1, 1, 3], 1) == 6
    assert makespan([1, 1, 1, 3], 2) == 3  # and not 4, as in the order given


@given(SECONDS, st.integers(1, 5))
def test_a_makespan_lies_within_grahams_bounds(seconds, slots):
    least = max([sum(seconds) / slots, *seconds])
    assert least <= makespan(seconds, slots) + 1e-9
    assert makespan(seconds, slots) <= sum(seconds) / slots + (1 - 1 / slots) * max(seconds, default=0) + 1e-9
    assert makespan(seconds, slots + 1) <= makespan(seconds, 1)
    assert makespan(seconds[::-1], slots) == makespan(seconds, slots)


def test_a_critical_path_is_the_longest_chain_that_a_run_holds_up():
    seconds = {"a": 3.0, "b": 2.0, "c": 5.0, "d": 1.0, "e": 4.0}
    after = {"a": None, "b": "a", "c": "a", "d": "b", "e": "run that has ended"}
    assert critical_path(seconds, after) == {"a": 8.0, "b": 3.0, "c": 5.0, "d": 1.0, "e": 4.0}
    assert critical_path(seconds, dict.fromkeys(seconds)) == seconds
    assert critical_path({}, {}) == {}


@given(st.lists(st.tuples(st.integers(0, 50).map(float), st.integers(-1, 20)), min_size=1, max_size=15))
def test_a_run_holds_up_more_than_any_that_waits_for_it(runs):
    seconds = {str(i): length for i, (length, _) in enumerate(runs)}
    after = {str(i): str(base) if 0 <= base < i else None for i, (_, base) in enumerate(runs)}
    longest = critical_path(seconds, after)
    for name, before in after.items():
        if before is not None:
            assert longest[before] >= seconds[before] + longest[name]
    assert max(seconds.values()) <= max(longest.values()) <= sum(seconds.values())
    # The order of the mapping says nothing.
    assert longest == critical_path(dict(reversed(seconds.items())), after)


@given(SECONDS.filter(len), st.integers(1, 5), st.floats(0.5, 100))
def test_a_makespan_scales_and_never_falls_with_more_work(seconds, slots, factor):
    whole = makespan(seconds, slots)
    assert makespan([factor * run for run in seconds], slots) == pytest.approx(factor * whole)
    assert makespan([*seconds, max(seconds)], slots) >= whole
    assert makespan(seconds, len(seconds)) == max(seconds)  # a slot for each
    assert makespan(seconds, 1) == pytest.approx(sum(seconds))


def test_a_makespan_is_that_of_a_queue_and_not_the_best():
    """Graham's own example: longest first takes 11 where 9 would do, and 4/3 less a third of a slot is the worst."""
    assert makespan([5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0], 3) == 11.0
    assert 11 / 9 <= 4 / 3 - 1 / 9 + 1e-9
    assert max(5.0 + 4.0, 5.0 + 4.0, 3.0 + 3.0 + 3.0) == 9.0

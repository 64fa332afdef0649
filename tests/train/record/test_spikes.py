"""A spike is told by the losses before it: by their order and their differences, and not by their level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.record.spikes import LEAST_RISE, LEAST_WINDOW, TWICE_WITHIN, WINDOW, SpikeDetector, find_spikes

QUICK = settings(max_examples=30, deadline=None)


def curve(seed: int = 0, n: int = 120) -> list[float]:
    return (2 + 0.02 * np.random.default_rng(seed).normal(size=n)).tolist()


def with_high(losses: list[float], *steps: int, rise: float = 1.0) -> list[float]:
    return [loss + rise * (step in steps) for step, loss in enumerate(losses)]


def found(losses: list[float]) -> list[int]:
    return find_spikes(enumerate(losses))


@QUICK
@given(st.integers(0, 99), st.floats(-5, 5), st.integers(WINDOW, 100))
def test_the_level_of_the_losses_says_nothing(seed: int, level: float, at: int) -> None:
    losses = with_high(curve(seed), at, at + 1)
    assert found([loss + level for loss in losses]) == found(losses) == [at]
    assert found(curve(seed)) == []


@pytest.mark.parametrize("later", range(1, 2 * TWICE_WITHIN))
def test_two_high_losses_make_a_spike_if_they_are_near(later: int) -> None:
    for at in (WINDOW, 77):
        assert found(with_high(curve(), at, at + later)) == ([at] if later < TWICE_WITHIN else [])


@pytest.mark.parametrize(("rise", "spikes"), [(0.5 * LEAST_RISE, []), (2 * LEAST_RISE, [60])])
def test_a_smooth_curve_has_no_spikes_of_a_thousandth(rise: float, spikes: list[int]) -> None:
    assert found(with_high([2.0] * 100, 60, 61, rise=rise)) == spikes


def test_nothing_is_a_spike_before_there_is_something_to_compare_it_with() -> None:
    for at in range(LEAST_WINDOW + 2):
        losses = with_high([2.0] * 40, at, at + 1)
        assert found(losses) == ([at] if at >= LEAST_WINDOW else [])


@QUICK
@given(st.lists(st.floats(0, 10), max_size=150))
def test_spikes_are_steps_that_were_seen_and_rise(losses: list[float]) -> None:
    spikes = found(losses)
    assert spikes == sorted(set(spikes))
    assert all(LEAST_WINDOW <= step < len(losses) for step in spikes)
    detector = SpikeDetector()  # one at a time it is the same, and told at the second high loss
    told = [(step, began) for step, loss in enumerate(losses) if (began := detector.see(step, loss)) is not None]
    assert [began for _, began in told] == spikes
    assert all(0 < step - began < TWICE_WITHIN for step, began in told)

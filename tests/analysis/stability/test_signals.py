"""When a loss rose, by curves that are known, and what was measured when."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stability.signals import LEAST_RISE, Event, Signals, find_events
from conf.config import Config


def curve(losses: Any) -> list[dict[str, Any]]:
    return [{"step": step, "train_loss": float(loss)} for step, loss in enumerate(losses, start=1)]


def raised(by: float, first: int, last: int, n: int = 100) -> list[dict[str, Any]]:
    """A flat curve that is higher from one step to another."""
    losses = np.full(n, 2.0)
    losses[first - 1 : last] += by
    return curve(losses)


def signals(rows: list[dict[str, Any]], events: list[Event] | None = None) -> Signals:
    return Signals(Path("run"), {}, Config(), rows, {}, events or [])


# --- rises -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 50), st.integers(5, 30), st.floats(2 * LEAST_RISE, 3))
def test_a_rise_is_found_where_it_begins_and_ends(first: int, length: int, by: float) -> None:
    (event,) = find_events({}, raised(by, first, first + length - 1))
    assert (event.kind, event.step) == ("rise", first)
    assert event.loss == pytest.approx(2 + by)
    assert event.end is not None
    assert abs(event.end - (first + length)) <= 3  # the running median


def test_a_rise_to_the_end_has_none() -> None:
    (event,) = find_events({}, raised(1.0, 60, 100))
    assert (event.step, event.end) == (60, None)


@pytest.mark.parametrize(("after", "ended"), [(0.4, True), (0.7, False), (1.5, False)])
def test_a_rise_is_over_where_less_than_half_of_the_least_is_left(after: float, ended: bool) -> None:
    losses = [2.0] * 39 + [3.0] * 20 + [2.0 + after * LEAST_RISE] * 41
    (event,) = find_events({}, curve(losses))
    assert (event.step, event.end is not None) == (40, ended)


@pytest.mark.parametrize("by", [0.0, 0.5 * LEAST_RISE, 0.9 * LEAST_RISE])
def test_a_small_rise_is_no_event(by: float) -> None:
    assert find_events({}, raised(by, 40, 60)) == []


def test_one_high_loss_is_no_rise_of_the_median() -> None:
    assert find_events({}, raised(3.0, 50, 51)) == []
    assert len(find_events({}, raised(3.0, 50, 52))) == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 0.1))
def test_a_curve_that_falls_and_is_noisy_has_no_event(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    assert find_events({}, curve(4 - 0.01 * np.arange(200) + noise * rng.standard_normal(200))) == []


# --- what the record knows -------------------------------------------------------------------------------


def test_a_spike_of_the_recorder_explains_the_rise_beside_it() -> None:
    rows = raised(1.0, 50, 60)
    spike = {"kind": "spike", "step": 50, "loss": 3.0}
    assert find_events({"flight_events": [spike]}, rows) == [Event(50, "spike", 3.0)]
    far = find_events({"flight_events": [spike | {"step": 20}]}, rows)
    assert [(event.kind, event.step) for event in far] == [("spike", 20), ("rise", 50)]
    assert find_events({"flight_events": [spike | {"kind": "divergence"}]}, raised(0.0, 1, 1)) == []


def test_a_divergence_begins_where_the_loss_left_its_lowest() -> None:
    (event,) = find_events({"diverged_at_step": 100}, raised(4.0, 80, 100))
    assert (event.kind, event.step, event.end, event.loss) == ("divergence", 80, 100, 6.0)


def test_a_sudden_divergence_begins_within_the_last_steps() -> None:
    (event,) = find_events({"diverged_at_step": 101}, raised(4.0, 99, 100))
    assert (event.step, event.end) == (99, 101)
    (unseen,) = find_events({"diverged_at_step": 101}, raised(0.0, 1, 1))
    assert (unseen.step, unseen.end) == (101, 101)


def test_losses_of_shifted_data_are_no_events_but_a_divergence_is() -> None:
    rows, shifted = raised(2.0, 40, 60), set(range(40, 61))
    assert find_events({}, rows, shifted) == []
    assert len(find_events({}, rows)) == 1
    spike = {"flight_events": [{"kind": "spike", "step": 45, "loss": 4.0}]}
    assert find_events(spike, rows, shifted) == []
    assert [event.kind for event in find_events({"diverged_at_step": 100}, rows, shifted)] == ["divergence"]
    # where every step is shifted, none stands out by that
    assert find_events({}, rows, set(range(1, 101))) == find_events({}, rows)


# --- what was measured -----------------------------------------------------------------------------------


def test_a_series_is_of_the_steps_that_measured() -> None:
    rows = [{"step": 1, "x": 1.0}, {"step": 2}, {"step": 3, "x": 3.0}, {"step": 4, "x": 4.0, "y": nan}]
    steps, values = signals(rows).series("x")
    assert (steps.tolist(), values.tolist()) == ([1, 3, 4], [1.0, 3.0, 4.0])
    assert signals(rows).series("x", until=3)[0].tolist() == [1, 3]
    assert signals(rows).series("nothing")[0].shape == (0,)


def test_names_come_in_the_order_of_their_numbers() -> None:
    rows = [{"step": 1, "block10/rms": 1, "block2/rms": 1}, {"step": 2, "block1/rms": 1, "rms": 1, "block1/rms_max": 1}]
    assert signals(rows).names(r"block\d+/rms") == ["block1/rms", "block2/rms", "block10/rms"]
    assert signals(rows).names("block") == []  # whole names


def test_the_divergence_is_the_main_event_and_all_before_it_is_sane() -> None:
    spike, divergence = Event(5, "spike", 3.0), Event(50, "divergence", 9.0, end=60)
    both = signals([], [spike, divergence])
    assert (both.main_event, both.before, both.sane) == (divergence, 49, 49)
    alone = signals([], [spike, Event(9, "rise", 2.0)])
    assert (alone.main_event, alone.before, alone.sane) == (spike, 4, None)
    healthy = signals([])
    assert (healthy.main_event, healthy.before, healthy.sane) == (None, None, None)

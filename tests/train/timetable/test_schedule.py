"""Schedules are functions of numbers."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from conf.schema import ConfigError, GrowConfig, ScheduleConfig
from train.timetable.cost import RunCost
from train.timetable.schedule import SHAPES, Schedule, build_schedule, ramp_steps

QUICK = examples(max_examples=40, deadline=None)


def schedule(**settings: object) -> Schedule:
    return build_schedule(
        ScheduleConfig(**settings), peak=1e-2, cost=RunCost(1000, tokens_per_step=10, n_steps=100, flops=1, flops_6nd=1)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_warmup_is_linear_and_reaches_the_peak_once(shape: str) -> None:
    s = schedule(shape=shape, warmup="10steps")
    rises = [s(step + 1) - s(step) for step in range(10)]
    assert rises == pytest.approx([1 / 11] * 10)
    assert s(10) == 1
    assert 0 < s(0) < 0.1
    assert schedule(shape=shape, warmup="0%")(0) == 1


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
def test_decay_ends_just_above_the_floor(shape: str) -> None:
    for floor_is, floor, relative in (("relative", 0.1, 0.1), ("absolute", 1e-3, 0.1), ("relative", 0.0, 0.0)):
        s = schedule(shape=shape, floor=floor, floor_is=floor_is)
        values = [s(step) for step in range(5, 100)]
        assert values == sorted(values, reverse=True)
        assert relative < values[-1] < relative + 0.06


def test_shapes_where_they_are_known() -> None:
    assert schedule(shape="cosine", warmup="0%")(50) == pytest.approx(0.5)
    assert schedule(shape="linear", warmup="0%")(25) == pytest.approx(0.75)
    assert schedule(shape="inverse_sqrt", warmup="4steps")(36) == pytest.approx(sqrt(4 / 36))
    assert [schedule(shape="wsd", cooldown="20%")(step) for step in (5, 79, 80, 90)] == pytest.approx([1, 1, 1, 0.5])
    assert schedule(shape="constant")(99) == 1
    assert schedule(shape="cosine")(50) != schedule(shape="linear")(50)


def test_durations_in_every_unit() -> None:
    for duration in ("20steps", "200tok", "0.2tok/param", "20%"):
        assert schedule(warmup=duration).warmup == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": "100steps"}, r"schedule\.warmup: '100steps' is 100 of 100 steps"),
        ({"shape": "wsd", "warmup": "50%", "cooldown": "60%"}, r"schedule\.cooldown: '60%' is 60 steps"),
    ],
)
def test_phases_must_fit(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schedule(**settings)


# --- any schedule -----------------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn, shapes: tuple[str, ...] = tuple(SHAPES)) -> Schedule:
    n_steps = draw(st.integers(1, 400))
    warmup = draw(st.integers(0, n_steps - 1))
    cooldown = draw(st.integers(0, n_steps - warmup))
    return Schedule(draw(st.sampled_from(shapes)), n_steps, warmup, cooldown, draw(st.floats(0, 1)))


@QUICK
@given(schedules())
def test_any_schedule_rises_to_its_peak_and_falls_from_it(s: Schedule) -> None:
    values = [s(step) for step in range(s.n_steps)]
    assert max(values) == values[s.warmup] == pytest.approx(1)
    assert min(values) > 0  # no step is spent at a rate of zero
    assert values[: s.warmup + 1] == sorted(values[: s.warmup + 1])
    assert values[s.warmup :] == sorted(values[s.warmup :], reverse=True)


@QUICK
@given(schedules(("cosine", "linear", "wsd")))
def test_what_decays_stays_above_its_floor_and_comes_near_it(s: Schedule) -> None:
    falling = s.cooldown if s.shape == "wsd" else s.n_steps - s.warmup
    assert all(s(step) >= s.floor - 1e-12 for step in range(s.warmup, s.n_steps))
    if falling:
        assert s(s.n_steps - 1) - s.floor <= (1 - s.floor) * 4 / falling
        assert s(s.n_steps) == pytest.approx(s.floor)  # the step that would come next


@QUICK
@given(schedules())
def test_a_schedule_makes_no_leap(s: Schedule) -> None:
    """Nor does it at the end of the warm-up; the steepest is half a cosine, of slope pi/2."""
    fall = s.cooldown if s.shape == "wsd" else max(1, s.n_steps - s.warmup)
    for step in range(s.n_steps - 1):
        assert s(step + 1) - s(step) <= 1 / (s.warmup + 1) + 1e-9
        if s.shape != "inverse_sqrt":
            assert s(step) - s(step + 1) <= 1.6 * (1 - s.floor) / max(1, fall) + 1e-9


@QUICK
@given(schedules(), st.integers(0, 300))
def test_a_schedule_that_goes_on_is_the_rest_of_the_whole(s: Schedule, begun: int) -> None:
    rest = replace(s, begun=begun)
    assert [rest(step) for step in range(5)] == [s(step) for step in range(begun, begun + 5)]


def test_a_share_of_a_run_that_goes_on_is_one_of_all_steps() -> None:
    cost = RunCost(1000, tokens_per_step=10, n_steps=100, flops=1, flops_6nd=1, begun=300)
    s = build_schedule(ScheduleConfig(shape="wsd", warmup="10%", cooldown="25%"), peak=1.0, cost=cost)
    assert (s.n_steps, s.warmup, s.cooldown, s.begun) == (400, 40, 100, 300)
    assert s(0) == 1 > s(1)
    with pytest.raises(ConfigError, match=r"^schedule\.cooldown: '26%' is 104 steps, of which .* only the last 100"):
        build_schedule(ScheduleConfig(shape="wsd", cooldown="26%"), peak=1.0, cost=cost)
    linear = build_schedule(ScheduleConfig(shape="linear", cooldown="26%"), peak=1.0, cost=cost)
    assert linear.cooldown == 0  # which has none


def test_a_warmup_and_a_cooldown_may_fill_the_run() -> None:
    s = schedule(shape="wsd", warmup="40%", cooldown="60%")
    assert [s(39) < 1, s(40), s(41) < 1] == [True, 1, True]
    for shape in set(SHAPES) - {"wsd"}:
        assert schedule(shape=shape, warmup="99%", cooldown="60%")(99) == 1


@pytest.mark.parametrize(("ramp", "steps"), [(None, None), ("1steps", 1), ("100steps", 100), ("10%", 10), ("50tok", 5)])
def test_new_blocks_are_there_after_their_ramp(ramp: str | None, steps: int | None) -> None:
    cost = RunCost(1000, tokens_per_step=10, n_steps=100, flops=1, flops_6nd=1)
    assert ramp_steps(GrowConfig(ramp=ramp), cost) == steps


@pytest.mark.parametrize("ramp", ["101steps", "0.4%", "1tok"])
def test_a_ramp_that_is_none_or_never_ends_is_refused(ramp: str) -> None:
    cost = RunCost(1000, tokens_per_step=10, n_steps=100, flops=1, flops_6nd=1)
    with pytest.raises(ConfigError, match=rf"^grow\.ramp: '{ramp}' is \d+ of the run's 100 steps; allowed: 1 to all"):
        ramp_steps(GrowConfig(ramp=ramp), cost)

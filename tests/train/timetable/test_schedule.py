"""Schedules are functions of numbers."""

from __future__ import annotations

from math import sqrt

import pytest

from conf.schema import ConfigError, ScheduleConfig
from train.timetable.cost import RunCost
from train.timetable.schedule import SHAPES, Schedule, build_schedule


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

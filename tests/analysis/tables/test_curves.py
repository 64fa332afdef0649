"""Curves of a table: their rows in the order of steps, and the rate at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.tables.columns import FitError
from analysis.tables.curves import MOST_STEPS, Curves, at_peak, trajectories


def table(steps: Any, lr: Any = 1e-3, curve: Any = "a") -> dict[str, Any]:
    n = len(steps)
    columns = {"curve": curve, "step": steps, "lr": lr}
    return {name: value if np.ndim(value) else [value] * n for name, value in columns.items()}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 30)), min_size=1, max_size=12, unique=True))
def test_rows_may_come_in_any_order(points: list[tuple[str, int]]) -> None:
    curves, steps = zip(*points, strict=True)
    read = trajectories(table(steps, lr=[1.0 / step for step in steps], curve=curves))
    assert [curve.curve for curve in read] == list(dict.fromkeys(curves))  # as they come
    for curve in read:
        assert curve.steps.tolist() == sorted(step for name, step in points if name == curve.curve)
        assert [points[row] for row in curve.rows] == [(curve.curve, step) for step in curve.steps]
        assert len(curve.lr_T) == curve.steps[-1]
        assert curve.lr_T[curve.steps - 1] == pytest.approx(1 / curve.steps)


def test_the_rate_is_a_straight_line_between_rows_and_level_before_them() -> None:
    (curve,) = trajectories(table([3, 7], lr=[1.0, 0.2]))
    assert curve.lr_T == pytest.approx([1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_a_schedule_of_its_own_tells_what_sparse_points_cannot() -> None:
    points = table([2, 6])
    schedule = table(range(1, 9), lr=[1, 1, 1, 0.9, 0.1, 0.1, 0.05, 0.01])
    (told,) = trajectories(Curves(points, schedule))
    assert told.lr_T == pytest.approx([1, 1, 1, 0.9, 0.1, 0.1])  # as far as it was measured
    (guessed,) = trajectories(Curves(points))
    assert guessed.lr_T == pytest.approx([1e-3] * 6)


@pytest.mark.parametrize(("points", "message"), [
    (table([0, 1]), r"step: 0 in row 1 .* is not allowed; allowed: whole numbers from 1 to 1e\+07"),
    (table([1, 2.5]), r"step: 2\.5 in row 2 .* is not allowed"),
    (table([1, MOST_STEPS + 1]), r"step: 1e\+07 in row 2 .* is not allowed"),
    (table([3, 1, 3]), "step: 3 stands twice in curve 'a' of the .*, in rows 1 and 3; allowed: once"),
    (table([1, 2], lr=[-1.0, 1.0]), "lr: -1 in row 1 is not allowed; allowed: numbers >= 0"),
    (table([4, 9], lr=[0.0, 1.0]), "lr: of curve 'a' is 0 at every step up to row 1"),
    (table([1], curve=[None]), "curve: row 1 is empty"),
    ({"curve": ["a"], "lr": [1.0]}, "step: no such column"),
])  # fmt: skip
def test_what_is_no_curve_is_one_line(points: dict[str, Any], message: str) -> None:
    with pytest.raises(FitError, match=message) as caught:
        trajectories(points)
    assert "\n" not in str(caught.value)


def test_a_fault_is_of_the_points_or_of_their_schedules() -> None:
    whole, twice = table([1, 2, 3]), table([1, 3, 3])
    with pytest.raises(FitError, match="in curve 'a' of the data, in rows 2 and 3"):
        trajectories(Curves(twice, whole))
    with pytest.raises(FitError, match="in curve 'a' of the schedules, in rows 2 and 3"):
        trajectories(Curves(whole, twice))
    assert len(trajectories(Curves(whole, whole))) == 1


def test_one_step_in_two_curves_is_no_fault() -> None:
    assert len(trajectories(table([3, 3], curve=["a", "b"]))) == 2


def test_a_warm_up_from_zero_is_no_fault() -> None:
    (known,) = trajectories(Curves(table([3]), table([1, 2, 3], lr=[0.0, 0.5, 1.0])))
    assert known.lr_T == pytest.approx([0, 0.5, 1])


def test_points_must_lie_on_their_schedule() -> None:
    schedule = table([2, 8])
    assert len(trajectories(Curves(table([2, 8]), schedule))) == 1
    for steps, at, row in (([1, 8], 1, 1), ([2, 9], 9, 2)):
        message = f"step: {at} in row {row} lies outside of the schedule of curve 'a'; allowed: 2 to 8"
        with pytest.raises(FitError, match=message):
            trajectories(Curves(table(steps), schedule))
    with pytest.raises(FitError, match="curve: 'b' of row 1 has no schedule; there are: a"):
        trajectories(Curves(table([3], curve="b"), schedule))


RATES = st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=12)


@settings(deadline=None)
@given(RATES)
def test_a_schedule_at_its_peak_never_rises_before_it_falls(rates: list[float]) -> None:
    lr = np.array(rates)
    peak = at_peak(lr)
    assert len(peak) == len(lr)
    assert (peak >= lr - 1e-9).all()
    assert at_peak(peak) == pytest.approx(peak)  # once is enough
    falls = np.flatnonzero(np.diff(lr) < -1e-9 * lr[:-1])
    first = falls[0] + 1 if len(falls) else len(lr)
    assert peak[:first] == pytest.approx(lr[:first].max(), rel=1e-6)
    assert (peak[first:] == lr[first:]).all()


def test_a_schedule_without_a_warm_up_is_left_as_it_is() -> None:
    for falling in ([1.0, 0.5, 0.1], [1.0] * 3):
        assert at_peak(np.array(falling)).tolist() == falling
    assert at_peak(np.array([0.1, 1.0, 0.5])).tolist() == [1.0, 1.0, 0.5]


def test_curves_read_like_the_table_of_their_points() -> None:
    curves = Curves(table([1, 2]), table([5, 6]))
    assert [curves[name] for name in curves.columns] == list(table([1, 2]).values())

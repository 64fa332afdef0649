"""Durations and lists of steps: text to number and back, and steps that scale as their units say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.duration import RUN_LENGTHS, SHARES, Duration, parse_steps

QUICK = settings(max_examples=50, deadline=None)
VALUES = st.floats(0, 1e15, allow_subnormal=False)
UNITS = st.sampled_from(SHARES)


@QUICK
@given(VALUES, UNITS)
def test_a_duration_reads_back_from_its_text(value: float, unit: str) -> None:
    assert Duration.parse(f"{value!r}{unit}") == (value, unit)


@QUICK
@given(st.text("0123456789.eE+-% stepokn/aram", max_size=10))
def test_what_parses_is_a_number_and_a_unit(text: str) -> None:
    try:
        value, unit = Duration.parse(text)
    except ValueError:
        return
    assert text.endswith(unit)
    assert float(text.removesuffix(unit)) == value >= 0


def test_only_a_share_is_no_length_of_a_run() -> None:
    assert set(SHARES) - set(RUN_LENGTHS) == {"%"}


@QUICK
@given(st.integers(0, 10**6), UNITS, st.integers(1, 10**4), st.integers(1, 10**4), st.integers(1, 10**6))
def test_steps_are_the_nearest_whole_number(value: int, unit: str, batch: int, n_params: int, run_steps: int) -> None:
    exact = {"steps": value, "tok": value / batch, "tok/param": value * n_params / batch, "%": value * run_steps / 100}
    steps = Duration(value, unit).steps(tokens_per_step=batch, n_params=n_params, run_steps=run_steps)
    assert isinstance(steps, int)
    assert abs(steps - exact[unit]) <= 0.5 * (1 + 1e-9)


def test_what_a_length_depends_on() -> None:
    """Each unit by its own size alone; the control is that its own size changes it."""
    usual = {"tokens_per_step": 10, "n_params": 7, "run_steps": 100}
    depends = {"steps": set(), "tok": {"tokens_per_step"}, "tok/param": {"tokens_per_step", "n_params"}}
    depends["%"] = {"run_steps"}
    for unit in SHARES:
        steps = Duration(40, unit).steps(**usual)
        moved = {name for name in usual if Duration(40, unit).steps(**usual | {name: 3 * usual[name]}) != steps}
        assert moved == depends[unit], unit


@QUICK
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_steps_read_back(steps: list[int]) -> None:
    assert parse_steps(",".join(map(str, steps))) == steps


@pytest.mark.parametrize("text", ["", ",", "1,", ",1", "1,,2", "1, 2", "-1", "1.5", "1e3", "a", "1;2", "1\n"])
def test_anything_else_is_no_list_of_steps(text: str) -> None:
    with pytest.raises(ValueError, match="is not allowed; allowed: whole numbers joined by ','"):
        parse_steps(text)

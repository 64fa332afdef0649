"""Which steps of a run read mirrored tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.tables.shifts import shifted_steps
from conf.schema import ConfigError


def run(every: str | None, length: str, *, n_steps: int = 400) -> dict[str, Any]:
    record = {"n_params_total": 1000, "tokens_per_step": 100, "n_steps": n_steps}
    return record | {"data.shift_every": every, "data.shift_for": length}


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 50), st.data())
def test_the_last_steps_of_every_stretch_are_shifted(every: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, every - 1))
    steps = np.arange(1, 4 * every + 1)
    shifted = shifted_steps(run(f"{every}steps", f"{length}steps"), steps)
    assert shifted.sum() == 4 * length
    assert (shifted.reshape(4, every)[:, -length:]).all()
    assert not shifted.reshape(4, every)[:, :-length].any()


def test_steps_may_come_in_any_order_and_none_at_all() -> None:
    assert shifted_steps(run("10steps", "2steps"), np.array([10, 1, 9, 8])).tolist() == [True, False, True, False]
    assert shifted_steps(run("10steps", "2steps"), np.array([], dtype=int)).tolist() == []


def test_without_a_shift_no_step_is_shifted() -> None:
    assert not shifted_steps(run(None, "2steps"), np.arange(1, 50)).any()
    assert shifted_steps(run("10steps", "2steps"), np.arange(1, 50)).any()


def test_lengths_in_tokens_are_those_in_steps() -> None:
    steps = np.arange(1, 101)
    by_tokens = shifted_steps(run("1000tok", "200tok"), steps)
    assert (by_tokens == shifted_steps(run("10steps", "2steps"), steps)).all()
    assert (by_tokens != shifted_steps(run("2000tok", "200tok"), steps)).any()


def test_a_shift_of_every_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.shift_for: '10steps' is 10 steps; allowed: fewer than"):
        shifted_steps(run("10steps", "10steps"), np.array([1]))

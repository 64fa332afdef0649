"""Seconds of a run: its FLOPs at the speed, its steps, and its start; and none of them twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.config import Config
from conf.schema import EvalConfig, ModelConfig, TrainConfig
from sweeps.plan.capacity import Speed, one_at_a_time
from sweeps.plan.cost import run_seconds
from train.timetable.cost import Spent, run_cost

CONFIG = Config(
    model=ModelConfig(depth=1, width=16, heads=2),
    train=TrainConfig(duration="100steps", batch_size=4),
    eval=EvalConfig(every="100%", sequences=2),
)
COST = run_cost(CONFIG, 257)
FREE = Speed(1e30, 0.0, 0.0, "")


@settings(max_examples=40, deadline=None)
@given(st.floats(1e6, 1e15), st.floats(0, 1), st.floats(0, 100), st.integers(0, 100))
def test_seconds_add_up_over_matmuls_steps_and_the_start(rate: float, step: float, run: float, until: int) -> None:
    whole = run_seconds(CONFIG, COST, Speed(rate, step, run, ""), until=until)
    parts = (replace(FREE, flops_per_second=rate), replace(FREE, step_seconds=step), replace(FREE, run_seconds=run))
    assert whole == pytest.approx(sum(run_seconds(CONFIG, COST, part, until=until) for part in parts), abs=1e-9)
    assert run_seconds(CONFIG, COST, parts[2], until=until) == pytest.approx(run)
    assert run_seconds(CONFIG, COST, parts[1], until=until) == pytest.approx(step * until, abs=1e-9)
    assert run_seconds(CONFIG, COST, parts[0], until=until) >= COST.executed_by(until).flops / rate


def test_evaluations_are_charged_as_forward_passes() -> None:
    at = replace(FREE, flops_per_second=1.0)
    seconds = {every: run_seconds(replace(CONFIG, eval=EvalConfig(every=every, sequences=2)), COST, at)
               for every in ("100%", "50%", "1steps")}  # fmt: skip
    tokens = 2 * CONFIG.data.context
    each = seconds["50%"] - seconds["100%"]
    assert each == pytest.approx(tokens * COST.flops / COST.n_tokens / 3)
    assert seconds["100%"] == pytest.approx(COST.flops + each)
    assert seconds["1steps"] == pytest.approx(COST.flops + 100 * each)


def test_the_steps_of_a_tuning_take_as_long_as_others() -> None:
    at = replace(FREE, step_seconds=1.0)
    tuned = replace(COST, tuning=Spent(0, 7 * COST.tokens_per_step, 0, 0))
    assert run_seconds(CONFIG, tuned, at) - run_seconds(CONFIG, COST, at) == pytest.approx(7)


def test_what_is_assumed_says_so_and_is_the_same_for_all() -> None:
    assert one_at_a_time(1, "cpu") == one_at_a_time(99, "cuda")
    assert (one_at_a_time(1, "cpu").jobs, one_at_a_time(1, "cpu").threads) == (1, 1)
    assert "not measured" in one_at_a_time(1, "cpu").speed.basis

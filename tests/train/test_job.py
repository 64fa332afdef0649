"""When something happens in a run, which checkpoints stay, and whose time it is."""

from __future__ import annotations

import pytest

from conf.config import Config
from conf.schema import ConfigError, DataConfig, EvalConfig, ProbeConfig, TrainConfig
from train import job as module
from train.checkpoint import Position
from train.job import Cadence, Clock, check_kept, kept_steps
from train.timetable.cost import RunCost
from train.timetable.shift import Shift

COST = RunCost(n_params=1000, tokens_per_step=50, n_steps=200, flops=1, flops_6nd=1)


def test_each_cadence_is_in_whole_steps_of_the_run() -> None:
    config = Config(
        train=TrainConfig(log_every="100tok", checkpoint_every="5%", keep="0,200"),
        eval=EvalConfig(every="1tok/param"),
        probe=ProbeConfig(every="1tok"),
        data=DataConfig(shift_every="40steps", shift_for="5steps"),
    )
    assert Cadence.of(config, COST) == Cadence(
        log=2, evaluate=20, checkpoint=10, probe=1, shift=Shift(40, 5), keep=frozenset({0, 200})
    )


def test_probes_come_at_the_first_step_and_at_each_multiple() -> None:
    config = Config(probe=ProbeConfig(every="3steps"))
    assert [step for step in range(10) if Cadence.of(config, COST).probes(step)] == [0, 3, 6, 9]
    assert not any(Cadence.of(Config(), COST).probes(step) for step in range(10))


@pytest.mark.parametrize(("keep", "steps"), [(None, []), ("5", [5]), ("0,200", [0, 200]), ("7,5,7", [5, 7])])
def test_kept_steps_are_a_set_within_the_run(keep: str | None, steps: list[int]) -> None:
    assert sorted(kept_steps(Config(train=TrainConfig(keep=keep)), COST)) == steps


def test_a_step_beyond_the_end_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match=r"^train\.keep: 201 is beyond the run's end; allowed: 0 to 200$"):
        kept_steps(Config(train=TrainConfig(keep="5,201")), COST)
    check_kept([], 0)
    check_kept([0, 200], 200)


class Time:
    """A clock that goes when it is told."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_a_clock_tells_training_from_the_rest_and_goes_on_where_a_run_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    clock = Clock(Position(5, seconds=30.0, train_seconds=20.0), "cpu")
    assert clock.position(5) == Position(5, 30.0, 20.0)
    time.now += 4
    assert clock.position(6) == Position(6, 34.0, 24.0)
    with clock.aside():
        time.now += 8
    assert clock.position(6) == Position(6, 42.0, 24.0)
    time.now += 1
    again = Clock(clock.position(7), "cpu")  # another resumption, after any pause
    time.now += 2
    assert again.position(8) == Position(8, 45.0, 27.0)

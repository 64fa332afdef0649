"""Shifts of the training distribution: when they come, what they do, and that validation has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conf.compose import compose
from conf.config import Config
from conf.schema import ConfigError, DataConfig
from tests.helpers import metrics
from train.__main__ import main
from train.data.corpus import open_corpus
from train.record.run import run_dir
from train.run import run
from train.timetable.cost import RunCost
from train.timetable.shift import Shift

Tiny = Callable[..., Config]
Settings = Callable[..., list[str]]

COST = RunCost(n_params=1000, tokens_per_step=50, n_steps=200, flops=1, flops_6nd=1)


def test_a_shift_ends_every_period() -> None:
    """Over three periods, and never in the first step."""
    holds = [Shift(every=5, length=2).holds(step) for step in range(15)]
    assert holds == [False, False, False, True, True] * 3


@pytest.mark.parametrize(
    ("every", "length", "expected"),
    [("40steps", "5steps", (40, 5)), ("10%", "100tok", (20, 2)), ("1tok/param", "1tok", (20, 1))],
)
def test_durations_become_steps(every: str, length: str, expected: tuple[int, int]) -> None:
    assert Shift.of(DataConfig(shift_every=every, shift_for=length), COST) == Shift(*expected)
    assert Shift.of(DataConfig(), COST) is None


@pytest.mark.parametrize(("every", "length"), [("20steps", "20steps"), ("10%", "21steps"), ("1tok", "1tok")])
def test_a_shift_that_never_ends_is_refused(every: str, length: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.shift_for: .* allowed: fewer than") as error:
        Shift.of(DataConfig(shift_every=every, shift_for=length), COST)
    assert "\n" not in str(error.value)


def test_the_refusal_is_one_line_and_status_2(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(settings("data.shift_every=5steps")) == 2  # shift_for is 20 steps
    err = capsys.readouterr().err
    assert err.startswith("error: data.shift_for: '20steps' is 20 steps; allowed: fewer than")
    assert err.count("\n") == 1


def test_a_shift_mirrors_the_tokens_of_its_steps_alone(settings: Settings, cache_dir: Path) -> None:
    corpus = open_corpus(compose(settings()).data, cache_dir=cache_dir)
    shift = Shift(every=4, length=1)
    for step in range(9):
        plain, shifted = corpus.train_batch(0, step, 8), corpus.train_batch(0, step, 8, shift)
        mirrored = corpus.vocab_size - 1 - plain
        assert not np.array_equal(plain, mirrored)
        assert np.array_equal(shifted, mirrored if step in {3, 7} else plain)


def test_a_trained_model_stumbles_at_a_shift_and_validation_stays(tiny: Tiny) -> None:
    """Of one step with the same weights and windows only the training loss is higher. Before it, nothing differs."""
    common = ("train.duration=50steps", "schedule.shape=constant", "optim.lr=0.02", "eval.every=41steps")
    plain, shifted = tiny(*common), tiny(*common, "data.shift_every=45steps", "data.shift_for=5steps")
    for config in (plain, shifted):
        run(config)
    expected, rows = metrics(run_dir(plain)), metrics(run_dir(shifted))
    assert rows[:41] == expected[:41]
    assert rows[41]["train_loss"] > expected[41]["train_loss"] + 0.3
    assert abs(rows[41]["val_loss"] - expected[41]["val_loss"]) < 0.1
    assert rows[46]["train_loss"] < rows[41]["train_loss"] - 0.1  # the text is itself again

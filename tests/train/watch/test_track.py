"""A tracker gets a copy of what is measured, and cannot stop a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conf.config import Config
from conf.schema import ConfigError, TrackConfig
from train.watch import track
from train.watch.track import TRACKERS, Guarded, NoTracker, build_tracker, check_tracker

ROWS = [{"step": 0, "val_loss": 5.0}, {"step": 1, "train_loss": 4.0}]
END = {"state": "finished", "val_loss": 4.0}


class Remembers:
    """A tracker that fails at a call, counted from 0, or never."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls: list[Mapping[str, Any]] = []
        self.fails_at = fails_at

    def log(self, row: Mapping[str, Any]) -> None:
        if len(self.calls) == self.fails_at:
            raise ConnectionError("no network")
        self.calls.append(row)

    def finish(self, record: Mapping[str, Any]) -> None:
        self.log(record)


def seen(tracker: Remembers) -> list[Mapping[str, Any]]:
    """What a run's guarded tracker is given."""
    guarded = Guarded(lambda: tracker)
    for row in ROWS:
        guarded.log(row)
    guarded.finish(END)
    return tracker.calls


@pytest.mark.parametrize("fails_at", [None, 0, 1, 2])
def test_a_failure_is_told_once_and_ends_the_tracking(fails_at: int | None, caplog: pytest.LogCaptureFixture) -> None:
    every = [*ROWS, END]
    with caplog.at_level(logging.WARNING):
        assert seen(Remembers(fails_at)) == every[:fails_at]
    told = [] if fails_at is None else ["the tracker failed and is off for this run: ConnectionError: no network"]
    assert caplog.messages == told


def test_one_that_cannot_be_made_is_a_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> NoTracker:
        raise ImportError("no such package")

    guarded = Guarded(refuse)
    guarded.log(ROWS[0])
    guarded.finish(END)
    assert caplog.messages == ["the tracker failed and is off for this run: ImportError: no such package"]


def test_an_interrupt_is_no_failure_of_the_tracker() -> None:
    def interrupt() -> NoTracker:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guarded(interrupt)


def test_a_package_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: object() if name == "wandb" else None)
    check_tracker("none")
    check_tracker("wandb")
    with pytest.raises(
        ConfigError, match=r"^track\.to: 'tensorboard' is not installed; allowed: none, or `pip install"
    ):
        check_tracker("tensorboard")


def test_the_setting_chooses_the_tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(TRACKERS) == {"none", "tensorboard", "wandb"}
    made: list[tuple[Config, Path]] = []
    tracker = Remembers()
    monkeypatch.setitem(TRACKERS, "wandb", lambda *given: made.append(given) or tracker)  # type: ignore[func-returns-value]
    config = Config(track=TrackConfig(to="wandb"))
    build_tracker(config, tmp_path).log(ROWS[0])
    build_tracker(Config(), tmp_path).log(ROWS[1])
    assert made == [(config, tmp_path)]
    assert tracker.calls == ROWS[:1]
    assert list(tmp_path.iterdir()) == []

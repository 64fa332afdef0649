"""Trackers: a small interface, adapters behind it, and a guard so that none of them can stop a run."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from conf.config import Config
from conf.schema import ConfigError

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where a copy of the metrics goes."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Take one row of metrics; it has a `step`."""

    def finish(self, record: Mapping[str, Any]) -> None:
        """Take the final record and let go."""


class NoTracker:
    """The default."""

    def log(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, record: Mapping[str, Any]) -> None:
        pass


class TensorBoard:
    """Event files in the run's folder, under `tensorboard/`."""

    def __init__(self, config: Config, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{asdict(config)}\n```")

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])

    def finish(self, record: Mapping[str, Any]) -> None:  # noqa: ARG002  # the interface's
        self._writer.close()


class Wandb:
    """Weights & Biases; offline unless `track.mode=online`, its files in the run's folder."""

    def __init__(self, config: Config, folder: Path) -> None:
        import wandb

        self._run = wandb.init(
            project=config.track.project,
            group=config.study,
            name=folder.name,
            id=folder.name,
            resume="allow",
            dir=str(folder),
            mode=config.track.mode,
            settings=wandb.Settings(silent=True),
            config=asdict(config),
        )

    def log(self, row: Mapping[str, Any]) -> None:
        self._run.log(dict(row), step=row["step"])

    def finish(self, record: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(record))
        self._run.finish()


TRACKERS: dict[str, Callable[[Config, Path], Tracker]] = {
    "none": lambda config, folder: NoTracker(),  # noqa: ARG005
    "tensorboard": TensorBoard,
    "wandb": Wandb,
}


class Guarded:
    """A tracker whose first failure is logged, and which is silent from then on."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._tracker: Tracker = NoTracker()
        self._call(lambda: setattr(self, "_tracker", make()))

    def log(self, row: Mapping[str, Any]) -> None:
        self._call(lambda: self._tracker.log(row))

    def finish(self, record: Mapping[str, Any]) -> None:
        self._call(lambda: self._tracker.finish(record))

    def _call(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            log.warning("the tracker failed and is off for this run: %s: %s", type(error).__name__, error)
            self._tracker = NoTracker()


def check_tracker(name: str) -> None:
    """Raises `ConfigError` if the tracker's package is not installed."""
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ConfigError(f"track.to: {name!r} is not installed; allowed: none, or `pip install {name}`")


def build_tracker(config: Config, folder: Path) -> Tracker:
    """The tracker that `track.to` asks for, guarded."""
    return Guarded(lambda: TRACKERS[config.track.to](config, folder))

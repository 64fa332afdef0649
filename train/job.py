"""All that the training loop is given, and when it does what.

Job(config, cost, cadence, model, …)      made by `train.run.assemble`; frozen
Cadence.of(config, cost)                  every how many steps a run is logged, evaluated, saved, probed, shifted
Clock(start, "cpu")                       seconds since the run began, and those of training alone
Outcome(position, diverged_at_step)       how the loop ended; `Interrupted` where it was asked to stop
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from conf.config import Config
from conf.duration import parse_steps
from conf.schema import ConfigError
from models.gpt import GPT
from models.growth.ramp import Ramp
from train.checkpoint import Position
from train.data.corpus import Corpus
from train.distributed import Ranks
from train.record.lineage import Base
from train.record.metrics import Row
from train.step import Forward
from train.timetable.cost import RunCost
from train.timetable.schedule import Schedule
from train.timetable.shift import Shift
from train.watch.progress import RunProgress
from train.watch.track import Tracker


class Interrupted(Exception):  # noqa: N818  # a request, not an error
    """The process was asked to stop; the checkpoint is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@dataclass(frozen=True)
class Cadence:
    """Every how many steps something happens; the last step of a run has all of it but the probes."""

    log: int
    evaluate: int
    checkpoint: int
    probe: int | None
    shift: Shift | None
    keep: frozenset[int]
    """Steps whose checkpoints stay."""

    @classmethod
    def of(cls, config: Config, cost: RunCost) -> Cadence:
        return cls(
            log=cost.every(config.train.log_every),
            evaluate=cost.every(config.eval.every),
            checkpoint=cost.every(config.train.checkpoint_every),
            probe=None if config.probe.every is None else cost.every(config.probe.every),
            shift=Shift.of(config.data, cost),
            keep=kept_steps(config, cost),
        )

    def probes(self, step: int) -> bool:
        """Whether optimiser step `step`, counted from 0, is probed for `metrics.jsonl`."""
        return self.probe is not None and step % self.probe == 0


def kept_steps(config: Config, cost: RunCost) -> frozenset[int]:
    """The steps of `train.keep`; raises `ConfigError` if the run has no such step."""
    steps = frozenset(parse_steps(config.train.keep)) if config.train.keep else frozenset()
    check_kept(steps, cost.n_steps)
    return steps


def check_kept(steps: Collection[int], n_steps: int) -> None:
    """Raises `ConfigError` if one of the steps lies beyond the run's end."""
    if (last := max(steps, default=0)) > n_steps:
        raise ConfigError(f"train.keep: {last} is beyond the run's end; allowed: 0 to {n_steps}")


class Clock:
    """Seconds since the run began, over all its resumptions, and those spent on training alone."""

    def __init__(self, start: Position, device: str) -> None:
        self._began = time.perf_counter() - start.seconds
        self._aside = start.seconds - start.train_seconds
        self._device = device

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time that is not training: evaluation, probes, checkpoints."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self._aside += time.perf_counter() - start

    def position(self, step: int) -> Position:
        seconds = time.perf_counter() - self._began
        return Position(step, seconds, seconds - self._aside)

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Job:
    """All that the loop needs; `train.run` puts it together."""

    config: Config
    cost: RunCost
    cadence: Cadence
    model: GPT
    forward: Forward
    parameters: list[nn.Parameter]
    base: Base | None
    ramp: Ramp | None
    """How the blocks that the base lacks fade in."""
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    corpus: Corpus
    micro_batch: int
    autocast: torch.autocast
    ranks: Ranks
    folder: Path
    tracker: Tracker
    progress: RunProgress
    matmul_rate: float

    @property
    def device(self) -> str:
        return self.config.runtime.device


@dataclass(frozen=True)
class Outcome:
    """How the loop ended."""

    position: Position
    diverged_at_step: int | None = None
    diverged_because: str | None = None
    flight_events: list[Row] | None = None  # None where there was no recorder

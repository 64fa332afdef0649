"""When to step, evaluate, probe, save and stop. What a step does is in `train.step`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conf.duration import parse_steps
from conf.schema import Config, ConfigError
from models.count import RunCost, Spent
from models.gpt import GPT
from train.checkpoint import Position, keep_checkpoint, save_checkpoint
from train.data import Corpus
from train.dead import cause_of_death
from train.distributed import Ranks
from train.evaluate import evaluate
from train.layers import measure_layers
from train.lineage import Base
from train.metrics import METRICS, check_declared
from train.optim import set_lr
from train.probes import ParameterProbe, probe_activations
from train.progress import RunProgress
from train.ramp import Ramp
from train.record import MetricsWriter, RecordError, read_metrics
from train.recorder import Recorder, hash_batch
from train.schedule import Schedule
from train.shift import Shift
from train.step import Forward, train_step
from train.track import Tracker

Row = dict[str, Any]

# A row with anything else in it was measured for its own sake, and is written whatever `train.log_every` says.
_EVERY_STEP = {metric.name for metric in METRICS if metric.cadence == "log"}

# Nats per token: a standard error over windows that is below this says that all have one loss but for rounding.
_ALIKE = 1e-6


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


def train(job: Job, start: Position, writer: MetricsWriter | None, stop_signal: Callable[[], int | None]) -> Outcome:
    """Run from `start` to the end, to a divergence, or until asked to stop.

    A step's metrics are read after the next step has been sent to the device, so that logging never stalls it.

    Args:
        start: where the model and the optimiser are.
        writer: takes the rows; None on processes that do not lead.
        stop_signal: the signal that asks to stop, if one does.

    Raises:
        Interrupted: `stop_signal()` named a signal; a checkpoint has been saved.
    """
    clock = Clock(start, job.device)
    n_steps = job.cost.n_steps
    if job.ramp is not None:
        job.ramp.set(start.step)
    validation_NT1 = torch.from_numpy(job.corpus.val_windows(job.config.eval.sequences)).to(job.device)
    pending: Row | None = None
    recorder = _open_recorder(job, start) if job.config.probe.recorder and writer is not None else None
    events = None if recorder is None else recorder.events

    def validate() -> Row:
        with clock.aside():
            loss = evaluate(
                job.forward,
                validation_NT1,
                batch_size=job.config.eval.batch_size,
                autocast=job.autocast,
                ranks=job.ranks,
            )
        return {"val_loss": loss.mean, "val_loss_se": loss.standard_error}

    def validate_layers() -> Row:
        with clock.aside():
            return measure_layers(
                job.model, validation_NT1, batch_size=job.config.eval.batch_size, autocast=job.autocast
            )

    def save(step: int) -> None:
        if writer is not None:
            with clock.aside():
                writer.sync()
                save_checkpoint(job.folder, job.model, job.optimizer, clock.position(step))

    def keep(step: int) -> None:
        if writer is not None:
            with clock.aside():
                keep_checkpoint(job.folder, job.model, job.optimizer, clock.position(step))

    if start.step == 0:
        _emit(job, clock, writer, recorder, {"step": 0, **_spent(job, 0), **validate()})
        if 0 in job.cadence.keep:
            keep(0)
    for step in range(start.step, n_steps):
        row = step_row(job, clock, step, probed=job.ranks.leads and (recorder is not None or job.cadence.probes(step)))
        if pending is not None and (cause := _emit(job, clock, writer, recorder, pending)):
            return Outcome(clock.position(pending["step"]), pending["step"], cause, events)
        pending, done = row, step + 1
        last = done == n_steps
        if last or done % job.cadence.evaluate == 0:
            pending |= validate()
        if last and job.config.eval.layers and job.ranks.leads:
            pending |= validate_layers()
        stopping = stop_signal()
        saving = last or stopping is not None or done % job.cadence.checkpoint == 0
        if saving or done in job.cadence.keep:
            if cause := _emit(job, clock, writer, recorder, pending):
                return Outcome(clock.position(done), done, cause, events)
            pending = None
            if done in job.cadence.keep:
                keep(done)
            if saving:
                save(done)
            if stopping is not None and not last:
                raise Interrupted(stopping)
    return Outcome(clock.position(n_steps), flight_events=events)


def keep_passed(job: Job, start: Position, steps: Collection[int]) -> None:
    """Carry out steps that the run has made already, and keep the checkpoints of some of them. Writes nothing else.

    Raises:
        RecordError: on a CPU, a training loss is not what the run recorded; so the weights are not those that it had.
    """
    clock = Clock(start, job.device)
    recorded = {row["step"]: row["train_loss"] for row in read_metrics(job.folder) if "train_loss" in row}
    if start.step in steps:
        keep_checkpoint(job.folder, job.model, job.optimizer, start)
    for step in range(start.step, max(steps)):
        loss = to_numbers(step_row(job, clock, step, probed=False))["train_loss"]
        if job.device == "cpu" and loss != recorded.get(step + 1, loss):
            raise RecordError(
                f"{job.folder}: step {step + 1} made again has the loss {loss}, and not {recorded[step + 1]}; "
                "its checkpoints cannot be made up for on this machine with this code; allowed: a new run"
            )
        if step + 1 in steps:
            keep_checkpoint(job.folder, job.model, job.optimizer, clock.position(step + 1))


def _spent(job: Job, step: int) -> Row:
    """The tokens and FLOPs of a row of metrics, with those of the runs that this one grew out of."""
    spent = job.cost.spent(step)
    return {"tokens": spent.tokens, "flops": spent.flops}


def _open_recorder(job: Job, start: Position) -> Recorder:
    return Recorder(
        job.folder,
        keep=job.config.probe.recorder_steps,
        batch_sha256=lambda done: hash_batch(whole_batch(job, done - 1)),
        after_step=start.step if start.step else -1,
    )


def step_row(job: Job, clock: Clock, step: int, *, probed: bool) -> Row:
    """One update, and a row of metrics whose losses are still tensors; what was probed is apart, in `probes`."""
    config, done = job.config, step + 1
    lr = config.optim.lr * job.schedule(step)
    set_lr(job.optimizer, lr)
    windows_BT1 = _own_windows(job, step)
    row: Row = {"step": done, **_spent(job, done), "lr": lr}
    if job.ramp is not None:
        job.ramp.set(step)

    probe = None
    probes: Row = {}
    if probed:
        with clock.aside():
            probe = ParameterProbe(job.model, job.optimizer)
            probes |= probe_activations(job.model, windows_BT1[: config.probe.sequences, :-1], job.autocast)
    job.model.iterate_sigmas()
    row |= train_step(
        job.forward,
        job.parameters,
        job.optimizer,
        windows_BT1,
        micro_batch=job.micro_batch,
        clip=config.optim.clip,
        clip_by=config.optim.clip_by,
        z_loss=config.optim.z_loss,
        autocast=job.autocast,
        reduce=job.ranks.mean,
        observe_gradients=None if probe is None else probe.see_gradients,
    )
    if job.ramp is not None:
        job.ramp.set(done)  # what is measured from here on has made the step
    if probe is not None:
        with clock.aside():
            probes |= probe.row()
    return row | {"probes": probes}


def whole_batch(job: Job, step: int, before: Spent | None = None) -> NDArray[np.int64]:
    """The batch of all processes at optimiser step `step`, counted from 0, (B, T+1).

    Args:
        before: what has been seen before step 0; by default all that the run has inherited, and tuned on.
    """
    before = before or job.cost.spent(0)
    seen = before.tokens // job.config.data.context
    return job.corpus.train_batch(job.config.seed, step, job.config.train.batch_size, job.cadence.shift, seen=seen)


def _own_windows(job: Job, step: int) -> Tensor:
    """This process's share of the step's batch, (B/world, T+1)."""
    batch_BT1 = torch.from_numpy(whole_batch(job, step))
    share = len(batch_BT1) // job.ranks.world
    mine_BT1 = batch_BT1[job.ranks.rank * share : (job.ranks.rank + 1) * share]
    if job.device == "cuda":
        return mine_BT1.pin_memory().to("cuda", non_blocking=True)
    return mine_BT1


def _emit(job: Job, clock: Clock, writer: MetricsWriter | None, recorder: Recorder | None, row: Row) -> str | None:
    """Write a row whose turn it is, and show it to the recorder; returns why the run has diverged, if it has."""
    probes = row.pop("probes", {})
    row = to_numbers(row)
    check_declared(row | probes)
    diverged = _cause_of_divergence(job, clock, row)
    step = row["step"]
    if recorder is not None and step:
        recorder.see(row | probes, diverged=diverged)
    if job.cadence.probes(step - 1):
        row |= probes
    due = step % job.cadence.log == 0 or step == job.cost.n_steps or diverged or not _EVERY_STEP.issuperset(row)
    if due and writer is not None:
        writer.append(row)
        job.tracker.log(row)
    if step and not diverged:
        tokens_per_second = step * job.cost.tokens_per_step / max(clock.position(step).train_seconds, 1e-9)
        utilisation = job.cost.flops / job.cost.n_tokens * tokens_per_second / (job.matmul_rate * job.ranks.world)
        job.progress.update(step, loss=row["train_loss"], tokens_per_second=tokens_per_second, utilisation=utilisation)
    return diverged


def _cause_of_divergence(job: Job, clock: Clock, row: Row) -> str | None:
    """What a row of numbers says of a run that has diverged: `not finite: …`, `exploded: …` or `dead: …`; else None."""
    limit = job.config.train.diverged_above * math.log(job.corpus.vocab_size)
    for name in ("train_loss", "val_loss"):
        if name in row and not math.isfinite(row[name]):
            return f"not finite: {name} {row[name]}"
        if name in row and row[name] > limit:
            return f"exploded: {name} {row[name]:.4g}, above {limit:.4g}"
    # Both are free to look at, and neither is certain: the targets may be balanced, or the readout still zero. So the
    # model is looked at too, even if its weights have made one more step than those of the row.
    no_gradient = row.get("grad_norm") == 0 and row["train_loss"] > 0
    all_alike = row.get("val_loss_se", 1.0) < _ALIKE
    if not (no_gradient or all_alike):
        return None
    with clock.aside():
        # The validation windows are those of every process, which must all come to the same end.
        windows_NT1 = torch.from_numpy(job.corpus.val_windows(job.config.eval.sequences)).to(job.device)
        return cause_of_death(job.model, windows_NT1[: job.config.eval.batch_size, :-1], job.autocast)


def to_numbers(row: Row) -> Row:
    """A row without tensors, waiting for the device."""
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in row.items()}

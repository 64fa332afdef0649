"""`train(job, start, writer, stop_signal)`: from a step to the end, a divergence, or a request to stop.

The loop decides when to evaluate, probe, save and stop; what an update is stands in `train.traced_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from train.checkpoint import Position, keep_checkpoint, save_checkpoint
from train.job import Clock, Interrupted, Job, Outcome
from train.measure.dead import cause_of_death
from train.measure.layers import measure_layers
from train.measure.loss import evaluate
from train.measure.recorder import Recorder, hash_batch
from train.record.metrics import METRICS, Row, check_declared
from train.record.metrics_file import MetricsWriter
from train.traced_step import spent_by, step_row, to_numbers, whole_batch

# A row with anything else in it was measured for its own sake, and is written whatever `train.log_every` says.
_EVERY_STEP = {metric.name for metric in METRICS if metric.cadence == "log"}

# Nats per token: a standard error over windows that is below this says that all have one loss but for rounding.
_ALIKE = 1e-6


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
        _emit(job, clock, writer, recorder, {"step": 0, **spent_by(job, 0), **validate()})
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


def _open_recorder(job: Job, start: Position) -> Recorder:
    return Recorder(
        job.folder,
        keep=job.config.probe.recorder_steps,
        batch_sha256=lambda done: hash_batch(whole_batch(job, done - 1)),
        after_step=start.step if start.step else -1,
    )


def _emit(job: Job, clock: Clock, writer: MetricsWriter | None, recorder: Recorder | None, row: Row) -> str | None:
    """Write a row that is due, and show it to the recorder; returns why the run has diverged, if it has."""
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

"""Checkpoints of steps that a run has made already: `keep_passed(job, start, [50, 200])`.

Someone wants to start from a step whose checkpoint is gone. The steps are made again from an earlier one, compared with
what the run recorded, and nothing but `kept/` is written.
"""

from __future__ import annotations

from collections.abc import Collection

from train.checkpoint import Position, keep_checkpoint
from train.job import Clock, Job
from train.record.metrics_file import read_metrics
from train.record.run import RecordError
from train.traced_step import step_row, to_numbers


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

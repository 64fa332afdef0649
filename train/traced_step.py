"""One update of a job, and what is seen of it.

step_row(job, clock, 7, probed=True)     {'step': 8, 'tokens': …, 'lr': …, 'train_loss': tensor, 'probes': {…}}
to_numbers(row)                          the same without tensors; waits for the device
whole_batch(job, 7)                      the batch of that update, (B, T+1)
spent_by(job, 8)                         {'tokens': …, 'flops': …} of the weights after eight updates

The update itself is `train.step.train_step`, which knows no job.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.job import Clock, Job
from train.measure.probes import ParameterProbe, probe_activations
from train.optim import set_lr
from train.record.metrics import Row
from train.step import train_step
from train.timetable.cost import Spent


def spent_by(job: Job, step: int) -> Row:
    """The tokens and FLOPs of a row of metrics, with those of the runs that this one grew out of."""
    spent = job.cost.spent(step)
    return {"tokens": spent.tokens, "flops": spent.flops}


def step_row(job: Job, clock: Clock, step: int, *, probed: bool) -> Row:
    """One update, and a row of metrics whose losses are still tensors; what was probed is apart, in `probes`."""
    config, done = job.config, step + 1
    lr = config.optim.lr * job.schedule(step)
    set_lr(job.optimizer, lr)
    windows_BT1 = _own_windows(job, step)
    row: Row = {"step": done, **spent_by(job, done), "lr": lr}
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


def to_numbers(row: Row) -> Row:
    """A row without tensors, waiting for the device."""
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in row.items()}

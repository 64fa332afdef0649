"""Learning the map from a base's weights to a grown model's, before the run's first step."""

from __future__ import annotations

import logging
import time

import torch
from torch import Tensor
from torch.func import functional_call

from models.growth.grow import StateDict
from models.growth.learned import LearnedGrowth
from train.job import Job
from train.step import sequence_losses
from train.traced_step import whole_batch
from train.watch.progress import RunProgress, wants_progress

log = logging.getLogger(__name__)


def tune(job: Job, growth: LearnedGrowth) -> StateDict:
    """The grown model's weights after `grow.learn_steps` steps of Adam on the maps, at a constant `grow.learn_lr`.

    The loss is the grown model's cross-entropy on the first batches after the base's; the run's own ones come after
    (`RunCost.tuning`). Nothing is written: a run that is killed here begins anew. The job's model stays as it is.
    """
    config, n_steps = job.config, job.config.grow.learn_steps
    optimizer = torch.optim.Adam(growth.parameters(), lr=config.grow.learn_lr)
    if job.ranks.leads:
        log.info("learning the map from the base: %d steps", n_steps)
    shown = job.ranks.leads and wants_progress(config.runtime.progress)
    losses: list[float] = []
    start = time.perf_counter()
    with RunProgress(shown=shown, title=f"{config.study} map", n_steps=n_steps) as progress:
        for done in range(1, n_steps + 1):
            losses.append(_step(job, growth, optimizer, _windows(job, done - 1)).item())
            rate = done * job.cost.tokens_per_step / (time.perf_counter() - start)
            utilisation = rate * job.cost.tuning.flops / job.cost.tuning.tokens / (job.matmul_rate * job.ranks.world)
            progress.update(done, loss=losses[-1], tokens_per_second=rate, utilisation=utilisation)
    if job.ranks.leads:
        log.info("learned the map: training loss %.4f at its first step, %.4f at its last", losses[0], losses[-1])
    with torch.no_grad():
        return growth.grown_state()


def _windows(job: Job, step: int) -> Tensor:
    """This process's share of the tuning's batch, (B/world, T+1)."""
    batch_BT1 = torch.from_numpy(whole_batch(job, step, before=job.cost.inherited))
    return batch_BT1.chunk(job.ranks.world)[job.ranks.rank].to(job.device)


def _step(job: Job, growth: LearnedGrowth, optimizer: torch.optim.Optimizer, windows_BT1: Tensor) -> Tensor:
    """One update of the maps; returns the loss before it, over all processes.

    The weights are formed once for all micro-batches, whose gradients are gathered before they go on to the maps.
    """
    formed = growth.grown_state()
    weights = {name: tensor.detach().requires_grad_(tensor.requires_grad) for name, tensor in formed.items()}
    total = torch.zeros((), device=windows_BT1.device)
    for windows_MT1 in windows_BT1.split(job.micro_batch):
        share = len(windows_MT1) / len(windows_BT1)  # the last one may be smaller
        with job.autocast:
            logits_MTV = functional_call(job.model, weights, (windows_MT1[:, :-1],))
            loss = sequence_losses(logits_MTV, windows_MT1[:, 1:]).mean() * share
        loss.backward()
        total = total + loss.detach()
    optimizer.zero_grad()
    learned = [name for name, tensor in formed.items() if tensor.requires_grad]
    torch.autograd.backward([formed[name] for name in learned], [weights[name].grad for name in learned])
    gradients = [map_.grad for map_ in growth.parameters() if map_.grad is not None]
    job.ranks.mean([*gradients, total])
    optimizer.step()
    return total

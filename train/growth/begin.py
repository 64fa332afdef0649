"""Where a run starts: at its own init, or from the weights of another run, grown into its model."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from conf.command_line import SI, human
from conf.config import Config
from models.gpt import GPT
from models.growth.grow import Moments, StateDict, grow_moments, grow_state
from models.growth.learned import LearnedGrowth
from models.growth.ramp import Ramp
from models.growth.rules import Growth
from models.growth.templates import untie_templates
from models.parametrize import Shape, residual_multiplier
from train.checkpoint import Position, optimizer_state, read_checkpoint
from train.growth.tune import tune
from train.job import Job
from train.record.lineage import Base
from train.record.run import RecordError
from train.timetable.cost import RunCost
from train.timetable.schedule import ramp_steps

log = logging.getLogger(__name__)

BEGIN = Position(0, 0.0, 0.0)


def begin(job: Job) -> Position:
    """Make the job's model and optimiser what they are before the run's first step.

    Raises:
        RecordError: the base keeps no checkpoint of the step, or a damaged one, or one of another model.
        GrowthError: the base's model cannot become this one.
    """
    if job.base is None:
        return BEGIN
    start = time.perf_counter()
    config, before = job.config, job.base.config
    if job.ranks.leads:
        log.info(
            "starting from %s at step %d: %s parameters become %s, and %s FLOPs are inherited",
            job.base.folder.name,
            job.base.step,
            human(job.base.cost.n_params),
            human(job.cost.n_params),
            human(job.cost.inherited.flops, SI),
        )
    path = job.base.checkpoint()
    weights, moments = read_checkpoint(path)
    _check_is_of(path, before, weights, moments, vocab_size=job.corpus.vocab_size)
    growth = growth_of(before, config)
    grown = grow(weights, job.model.state_dict(), growth)
    if isinstance(grown, LearnedGrowth):
        job.model.load_state_dict(tune(job, grown))
        return Position(0, time.perf_counter() - start, 0.0)  # a part of the run, but not of its steps
    job.model.load_state_dict(grown)
    if config.grow.optimizer == "carry":
        new = optimizer_state(job.model, job.optimizer)
        _restore(job, grow_moments(moments, new, growth))
    return BEGIN


def growth_seed(config: Config) -> int:
    """What a run draws its own weights from: the seed, and of a grown one its base and step. With the base's own seed,
    wider matrices would begin as the base's init once more, and a second growth would draw what the first has drawn."""
    if config.grow.base is None:
        return config.seed
    drawn = hashlib.sha256(f"{config.seed}/{config.grow.base}/{config.grow.step}".encode()).digest()
    return int.from_bytes(drawn[:8], "little")


def growth_of(base: Config, config: Config) -> Growth:
    """What a run of `config` does to the model of its base; raises `GrowthError` if the one cannot become the other."""
    return Growth(
        base=base.model,
        base_param=base.param,
        cfg=config.model,
        param=config.param,
        how=config.grow,
        seed=growth_seed(config),
    )


def grow(weights: StateDict, fresh: StateDict, growth: Growth) -> StateDict | LearnedGrowth:
    """A base's weights as those of the grown model, or the map to them that is still to be learned.

    Args:
        weights: what the base holds.
        fresh: the grown model's state as it is drawn, from `growth_seed`.
    """
    if growth.how.depth == "templates":
        weights, growth = untie_templates(weights, growth)
    if "learn" in {growth.how.depth, growth.how.width}:
        return LearnedGrowth(weights, fresh, growth)
    return grow_state(weights, fresh, growth)


def _check_is_of(path: Path, config: Config, weights: StateDict, moments: Moments, *, vocab_size: int) -> None:
    """Raise `RecordError` if a checkpoint is of another model than its run's settings tell."""
    with torch.device("meta"):
        model = GPT(config.model, vocab_size=vocab_size, context=config.data.context)
    expected = model.state_dict()
    for name in expected.keys() | weights.keys():
        there, asked = (tuple(state[name].shape) if name in state else "nothing" for state in (weights, expected))
        if there != asked:
            raise RecordError(f"{path}: has {there} as {name}, where the run's own config.yaml asks for {asked}")
    for name, parameter in model.named_parameters():
        tensors = moments.get(name, {}).values()
        if not tensors or any(tensor.ndim and tensor.shape != parameter.shape for tensor in tensors):
            raise RecordError(f"{path}: has no optimiser's state, or one of another shape, for {name}")


def _restore(job: Job, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
    with torch.no_grad():
        for name, parameter in job.model.named_parameters():
            for key, tensor in job.optimizer.state[parameter].items():
                tensor.copy_(moments[name][key])


def build_ramp(config: Config, base: Base | None, model: GPT, cost: RunCost) -> Ramp | None:
    """How the new blocks fade in, or None where they are there at once; raises as
    `train.timetable.schedule.ramp_steps`."""
    n_steps = ramp_steps(config.grow, cost)
    if n_steps is None or base is None:
        return None
    shape = Shape(config.model.width, config.model.depth)
    new = range(base.config.model.n_blocks, config.model.n_blocks)
    return Ramp(model, residual_multiplier(config.param, shape), new, n_steps)

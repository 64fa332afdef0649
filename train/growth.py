"""Where a run starts: at its own init, or from the weights of another run, grown into its model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from conf.schema import Config
from models.count import RunCost
from models.gpt import GPT
from models.grow import State, grow_moments, grow_state
from models.learned_growth import LearnedGrowth
from models.parametrize import Shape, residual_multiplier
from models.template_growth import untie_templates
from train.checkpoint import Position, optimizer_state, read_checkpoint
from train.lineage import Base
from train.loop import Job
from train.ramp import Ramp
from train.schedule import ramp_steps
from train.tune_growth import tune

BEGIN = Position(0, 0.0, 0.0)


def begin(job: Job) -> Position:
    """Make the job's model and optimiser what they are before the run's first step.

    Raises:
        RecordError: the base keeps no checkpoint of the step, or a damaged one.
        GrowthError: the base's model cannot become this one.
    """
    if job.base is None:
        return BEGIN
    start = time.perf_counter()
    config, before = job.config, job.base.config
    weights, moments = read_checkpoint(job.base.checkpoint())
    grown = grow(weights, before, job.model.state_dict(), config)
    if isinstance(grown, LearnedGrowth):
        job.model.load_state_dict(tune(job, grown))
        return Position(0, time.perf_counter() - start, 0.0)  # a part of the run, but not of its steps
    job.model.load_state_dict(grown)
    if config.grow.optimizer == "carry":
        new = optimizer_state(job.model, job.optimizer)
        _restore(job, grow_moments(moments, before.model, new, config.model, config.grow))
    return BEGIN


def grow(weights: State, base: Config, fresh: State, config: Config) -> State | LearnedGrowth:
    """A base's weights grown into the model of `config` by its `grow`, or the map to them that is still to be learned.

    Args:
        weights, base: what the base holds, and what it is.
        fresh: the grown model's state as it is drawn.

    Raises:
        GrowthError: the one model cannot become the other.
    """
    how, before = config.grow, base.model
    if how.depth == "templates":
        weights, before = untie_templates(weights, before, config.model, how)
        how = dataclasses.replace(how, depth="stack")  # of as many blocks; only their width may be left to grow
    if "learn" in {how.depth, how.width}:
        return LearnedGrowth(
            weights, before, fresh, config.model, how, param=config.param, base_param=base.param, seed=config.seed
        )
    return grow_state(
        weights, before, fresh, config.model, how, param=config.param, base_param=base.param, seed=config.seed
    )


def _restore(job: Job, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
    with torch.no_grad():
        for name, parameter in job.model.named_parameters():
            for key, tensor in job.optimizer.state[parameter].items():
                tensor.copy_(moments[name][key])


def build_ramp(config: Config, base: Base | None, model: GPT, cost: RunCost) -> Ramp | None:
    """How the new blocks fade in, or None where they are there at once; raises as `train.schedule.ramp_steps`."""
    n_steps = ramp_steps(config.grow, cost)
    if n_steps is None or base is None:
        return None
    shape = Shape(config.model.width, config.model.depth)
    new = range(base.config.model.n_blocks, config.model.n_blocks)
    return Ramp(model, residual_multiplier(config.param, shape), new, n_steps)

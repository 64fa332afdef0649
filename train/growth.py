"""Where a run starts: at its own init, or from the weights of another run, grown into its model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from conf.schema import Config
from models.gpt import GPT
from models.grow import grow_moments, grow_state
from models.parametrize import Shape, residual_multiplier
from train.checkpoint import Position, optimizer_state, read_checkpoint
from train.lineage import Base
from train.loop import Job
from train.ramp import Ramp
from train.record import RecordError, checkpoint_at

BEGIN = Position(0, 0.0, 0.0)


def begin(job: Job) -> Position:
    """Make the job's model and optimiser what they are before the run's first step.

    Raises:
        RecordError: the base keeps no checkpoint of the step, or a damaged one.
        GrowthError: the base's model cannot become this one.
    """
    if job.base is None:
        return BEGIN
    config, before = job.config, job.base.config
    weights, moments = read_checkpoint(_checkpoint(job.base, config))
    fresh = {name: tensor.cpu() for name, tensor in job.model.state_dict().items()}
    grown = grow_state(
        weights, before.model, fresh, config.model, config.grow, param=config.param, base_param=before.param
    )
    job.model.load_state_dict(grown)
    if config.grow.optimizer == "carry":
        new = optimizer_state(job.model, job.optimizer)
        _restore(job, grow_moments(moments, before.model, new, config.model, config.grow))
    return BEGIN


def _checkpoint(base: Base, config: Config) -> Path:
    step = config.grow.step
    assert step is not None  # the schema demands it
    path = checkpoint_at(base.folder, step)
    if path is None:
        raise RecordError(
            f"{base.folder}: keeps no checkpoint of step {step}; allowed: after `train.keep={step}` there, "
            "which a finished run makes up for"
        )
    return path


def _restore(job: Job, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
    with torch.no_grad():
        for name, parameter in job.model.named_parameters():
            for key, tensor in job.optimizer.state[parameter].items():
                tensor.copy_(moments[name][key])


def build_ramp(config: Config, base: Base | None, model: GPT, n_steps: int) -> Ramp | None:
    """How the new blocks fade in, over `n_steps` steps, or None where they are there at once."""
    if config.grow.ramp is None or base is None or n_steps == 0:
        return None
    shape = Shape(config.model.width, config.model.depth)
    new = range(base.config.model.n_blocks, config.model.depth)
    return Ramp(model, residual_multiplier(config.param, shape), new, n_steps)

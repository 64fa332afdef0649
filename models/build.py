"""`build(cfg, param, vocab_size=256, context=64, seed=0)`: a `GPT` of any architecture, with its weights drawn."""

from __future__ import annotations

import hashlib

import torch

from conf.schema import ModelConfig, ParamConfig
from models.blocks import SigmaLinear
from models.gpt import GPT
from models.parametrize import Rule, Shape, logit_multiplier, residual_multiplier, rule
from models.roles import Role, named_roles, named_weights


def build(cfg: ModelConfig, param: ParamConfig, *, vocab_size: int, context: int, seed: int) -> GPT:
    """A GPT with its weights drawn as the parametrisation says; nothing rescales its matrices afterwards.

    Of a block's coefficients only the direction is random, so that a sum of templates has the size of one of them.

    Each parameter has its own stream of random numbers, a function of (seed, its name): adding an option leaves
    every other parameter as it was, and the weights are the same whatever the device.
    """
    shape = Shape(cfg.width, cfg.depth)
    model = GPT(
        cfg,
        vocab_size=vocab_size,
        context=context,
        residual_multiplier=residual_multiplier(param, shape),
        logit_multiplier=logit_multiplier(param, shape, tied=cfg.tie_embeddings),
    )
    rules = parameter_rules(model, param)
    with torch.no_grad():
        for name, parameter, role in named_roles(model):
            std = rules[name].std
            if std is None:
                parameter.fill_(1.0)
            elif std == 0:
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=_generator(seed, name))
            if role is Role.COEFFICIENT:
                parameter.div_(parameter.norm())
    for module in model.modules():
        if isinstance(module, SigmaLinear):
            module.sigma.measure(module.weight)
    return model


def parameter_rules(model: GPT, param: ParamConfig) -> dict[str, Rule]:
    """The rule of every parameter, by its name."""
    shape = Shape(model.cfg.width, model.cfg.depth)
    return {name: rule(w.role, w.fan_in(p.shape), param, shape) for name, p, w in named_weights(model)}


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

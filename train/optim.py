"""Parameters with rules -> AdamW groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
import torch._dynamo  # making an optimiser imports it; here a second is paid once, before the fork server forks
from torch import nn

from conf.schema import OptimConfig
from models.parametrize import Rule


def build_optimizer(model: nn.Module, rules: Mapping[str, Rule], cfg: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with one group per distinct rule.

    With s_t the schedule's multiplier, torch applies w -= s_t lr wd w. Coupled decay passes wd on. Independent
    decay, w -= s_t wd w (Wortsman et al. 2023, section 3.2.2), divides it by the group's own peak rate, so that
    neither `optim.lr` nor a parametrisation's learning-rate scale changes how fast weights decay.

    Raises:
        KeyError: a parameter has no rule.
    """
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        rule = rules[name]
        lr = cfg.lr * rule.lr_scale
        if cfg.decay == "independent":
            decay = cfg.weight_decay / lr if rule.decay_scale else 0.0
        else:
            decay = cfg.weight_decay * rule.decay_scale
        groups[rule.lr_scale, cfg.eps * rule.eps_scale, decay].append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": cfg.lr * lr_scale,
                "lr_scale": lr_scale,
                "eps": eps,
                "weight_decay": decay,
            }
            for (lr_scale, eps, decay), parameters in groups.items()
        ],
        betas=(cfg.beta1, cfg.beta2),
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the base learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]

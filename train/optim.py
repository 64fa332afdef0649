"""Parameters with rules -> AdamW or StableAdamW; what is done to a single tensor's gradient or rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
import torch._dynamo  # making an optimiser imports it; here a second is paid once, before the fork server forks
from torch import Tensor, nn

from conf.schema import OptimConfig
from models.parametrize import Rule

NORM_MEAN_DECAY = 0.98  # AdaGC's beta (Wang et al. 2025, arXiv 2502.11034)


class StableAdamW(torch.optim.AdamW):
    """AdamW that slows a tensor down while its second moment lags behind its gradient.

    Wortsman et al. 2023 (arXiv 2304.13013), algorithm 2: the rate of tensor and step is lr / max(1, `staleness`).
    Their debiased decay rates give the v_hat of Adam. Coupled decay is slowed down with the rate, as published;
    independent decay stays what it is, since it is to depend on the schedule alone.

    Args:
        groups: one parameter in each.
        independent_decay: whether a group's decay per step must not follow its rate.
    """

    def __init__(self, groups: list[dict[str, Any]], *, independent_decay: bool, betas: tuple[float, float]) -> None:
        super().__init__(groups, betas=betas, fused=True)
        self.independent_decay = independent_decay

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no caller has a closure
        groups = [group for group in self.param_groups if group["params"][0].grad is not None]
        stale = torch.stack([self._staleness(group) for group in groups]).tolist()
        before = [(group["lr"], group["weight_decay"]) for group in groups]
        for group, value in zip(groups, stale, strict=True):
            slower = max(1.0, value)
            group["lr"] /= slower
            if self.independent_decay:
                group["weight_decay"] *= slower
        super().step()
        for group, (lr, decay) in zip(groups, before, strict=True):
            group["lr"], group["weight_decay"] = lr, decay

    def _staleness(self, group: dict[str, Any]) -> Tensor:
        parameter, beta2, eps = group["params"][0], group["betas"][1], group["eps"]
        state = self.state[parameter]
        v = state["exp_avg_sq"].lerp(parameter.grad.square(), 1 - beta2)
        return staleness(parameter.grad, debiased(v, beta2, state["step"] + 1), eps)


def debiased(moment: Tensor, beta: float, step: Tensor) -> Tensor:
    """Adam's m_hat or v_hat after `step` updates (Kingma and Ba 2015, algorithm 1)."""
    return moment / (1 - beta ** step.double())  # in float32 a beta of 0.9999 would lose three digits


def staleness(gradient: Tensor, v_hat: Tensor, eps: float) -> Tensor:
    """RMS_t = sqrt(mean(g² / max(v_hat, eps²))), a scalar: 1 while v keeps up, above it when v is out of date.

    Wortsman et al. 2023 (arXiv 2304.13013), algorithm 2; `v_hat` is debiased and includes this gradient.
    """
    return (gradient.square() / v_hat.clamp_min(eps**2)).mean().sqrt()


def build_optimizer(model: nn.Module, rules: Mapping[str, Rule], cfg: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with one group per distinct rule, or `StableAdamW` with one per tensor.

    With s_t the schedule's multiplier, torch applies w -= s_t lr wd w. Coupled decay passes wd on. Independent
    decay, w -= s_t wd w (Wortsman et al. 2023, section 3.2.2), divides it by the group's own peak rate, so that
    neither `optim.lr` nor a parametrisation's learning-rate scale changes how fast weights decay.

    The state of every parameter is there from the start, so that a checkpoint knows what to restore.

    Raises:
        KeyError: a parameter has no rule.
    """
    stable = cfg.name == "stable_adamw"
    groups: dict[tuple[str, float, float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        rule = rules[name]
        lr = cfg.lr * rule.lr_scale
        if cfg.decay == "independent":
            decay = cfg.weight_decay / lr if rule.decay_scale else 0.0
        else:
            decay = cfg.weight_decay * rule.decay_scale
        groups[name if stable else "", rule.lr_scale, cfg.eps * rule.eps_scale, decay].append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "lr_scale": lr_scale, "eps": eps, "weight_decay": decay}
        for (_, lr_scale, eps, decay), parameters in groups.items()
    ]
    betas = (cfg.beta1, cfg.beta2)
    optimizer: torch.optim.AdamW
    if stable:
        optimizer = StableAdamW(settings, independent_decay=cfg.decay == "independent", betas=betas)
    else:
        optimizer = torch.optim.AdamW(settings, betas=betas, fused=True)
    set_lr(optimizer, cfg.lr)
    scalars = ["step", "norm_mean"] if cfg.clip_by == "tensor" else ["step"]
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            **{name: torch.zeros((), device=parameter.device) for name in scalars},
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its rate, `lr` (the peak times the schedule's multiplier) times the scale of its rule. The only
    place that writes it, but for a step of `StableAdamW`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


@torch.no_grad()
def clip_each(optimizer: torch.optim.Optimizer, clip: float) -> None:
    """Limit the norm of each tensor's gradient to `clip` times the running mean of its norms before this step.

    After AdaGC (Wang et al. 2025, arXiv 2502.11034, algorithm 1), with two differences. The mean is of the norms
    before clipping: of clipped ones it could never grow at clip = 1. And it starts with the first norm that is not
    zero, without a warm-up of global clipping; muP's zero queries, for one, leave the keys' first gradient at zero.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            mean = optimizer.state[parameter]["norm_mean"]
            norm = torch.linalg.vector_norm(parameter.grad)
            begun = mean > 0
            limit = torch.where(begun, clip * mean, norm)
            parameter.grad.mul_((limit / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1.0))
            mean.copy_(torch.where(begun, mean.lerp(norm, 1 - NORM_MEAN_DECAY), norm))

"""The optimiser and the step: decay, accumulation, clipping, z-loss."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from conf.schema import OptimConfig, ParamConfig
from models.build import parameter_rules
from models.gpt import GPT
from models.roles import Role, named_roles
from tests.helpers import gpt, tokens
from train.distributed import Ranks
from train.optim import build_optimizer, set_lr
from train.step import sequence_losses, train_step, z_penalty

V, T = 50, 16


def step(model: GPT, optim: OptimConfig | None = None, *, micro_batch: int = 8, **changes: Any) -> dict[str, Tensor]:
    optim = optim or OptimConfig()
    optimizer = build_optimizer(model, parameter_rules(model, ParamConfig()), optim)
    settings: dict[str, Any] = {
        "clip": optim.clip,
        "clip_by": optim.clip_by,
        "z_loss": optim.z_loss,
        "autocast": contextlib.nullcontext(),
        "reduce": Ranks().mean,
    }
    return train_step(
        model, list(model.parameters()), optimizer, tokens(8, T + 1, V), micro_batch=micro_batch, **(settings | changes)
    )


def weights(model: GPT) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def gradients(model: GPT) -> Tensor:
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])


@pytest.mark.parametrize("micro_batch", [1, 3, 4])  # 3 leaves a last one of 2
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_accumulation_changes_nothing(micro_batch: int, z_loss: float) -> None:
    """Loss, norm, gradient: equal up to float32 rounding, however the batch is cut."""
    optim = OptimConfig(z_loss=z_loss, clip=None)
    whole, cut = gpt(), gpt()
    first, second = step(whole, optim), step(cut, optim, micro_batch=micro_batch)
    assert second["train_loss"].item() == pytest.approx(first["train_loss"].item(), rel=1e-6)
    assert second["grad_norm"].item() == pytest.approx(first["grad_norm"].item(), rel=1e-5)
    assert torch.allclose(gradients(cut), gradients(whole), rtol=1e-3, atol=1e-7)


def test_accumulation_test_can_fail() -> None:
    """Half the batch is another gradient."""
    whole, half = gpt(), gpt()
    step(whole, OptimConfig(clip=None))
    losses = sequence_losses(half(tokens(8, T + 1, V)[:4, :-1]), tokens(8, T + 1, V)[:4, 1:])
    losses.mean().backward()
    assert not torch.allclose(gradients(half), gradients(whole), rtol=1e-3, atol=1e-7)


def test_clipping_bounds_the_gradient_and_reports_what_it_was() -> None:
    free, clipped = gpt(), gpt()
    norm = step(free, OptimConfig(clip=None))["grad_norm"].item()
    reported = step(clipped, OptimConfig(clip=norm / 10))["grad_norm"].item()
    assert reported == pytest.approx(norm)
    assert gradients(free).norm().item() == pytest.approx(norm, rel=1e-5)
    assert gradients(clipped).norm().item() == pytest.approx(norm / 10, rel=1e-4)


def test_z_loss_shrinks_log_z_and_not_the_reported_loss() -> None:
    logits = torch.tensor([[[3.0, 3.0]]])
    assert z_penalty(logits).item() == pytest.approx((3 + torch.log(torch.tensor(2.0)).item()) ** 2)
    plain, penalised = gpt(), gpt()
    assert step(plain)["train_loss"] == step(penalised, OptimConfig(z_loss=1.0))["train_loss"]
    x = tokens(8, T, V)
    assert penalised(x).logsumexp(-1).square().mean() < plain(x).logsumexp(-1).square().mean()


def test_gradients_are_observed_before_clipping() -> None:
    model, seen = gpt(), []
    norm = step(model, OptimConfig(clip=1e-3), observe_gradients=lambda: seen.append(gradients(model).norm().item()))
    assert seen == [pytest.approx(norm["grad_norm"].item(), rel=1e-5)]


@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_independent_decay_ignores_the_learning_rate(lr: float) -> None:
    """With zero gradients only the decay is left: 1 - s_t lambda, for every rate and every group."""

    def shrinkage(optim: OptimConfig, param: ParamConfig, schedule: float) -> dict[Role, float]:
        model = gpt("param=standard")
        optimizer = build_optimizer(model, parameter_rules(model, param), optim)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        set_lr(optimizer, optim.lr * schedule)
        optimizer.step()
        return {role: (p.norm() / before[name].norm()).item() for name, p, role in named_roles(model)}

    mup = ParamConfig(name="mup", base_width=8)
    independent = shrinkage(OptimConfig(lr=lr, weight_decay=0.1, decay="independent"), mup, 0.5)
    coupled = shrinkage(OptimConfig(lr=lr, weight_decay=10, decay="coupled"), mup, 0.5)
    for role in (Role.HIDDEN, Role.READOUT, Role.EMBEDDING):
        assert independent[role] == pytest.approx(1 - 0.05, rel=1e-5)
        assert coupled[role] == pytest.approx(1 - 0.5 * lr * 10, rel=1e-5)
    assert independent[Role.BLOCK_NORM] == coupled[Role.BLOCK_NORM] == 1


def test_every_parameter_is_in_one_group_at_its_own_rate() -> None:
    model, param = gpt(), ParamConfig(name="mup", base_width=8)
    optimizer = build_optimizer(model, parameter_rules(model, param), OptimConfig(lr=1.0))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    set_lr(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model.tokens.weight)] == 0.5
    assert rates[id(model.blocks[0].mlp.branch.down.weight)] == 0.5 * 8 / 32


def test_adamw_is_torch_adamw() -> None:
    ours, theirs = gpt(), gpt()
    optim = OptimConfig(lr=1e-2, decay="coupled", weight_decay=0.1, clip=None)
    step(ours, optim)
    reference = torch.optim.AdamW(
        [{"params": [p for p in theirs.parameters() if p.ndim == 2]},
         {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0}],
        lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1,
    )  # fmt: skip
    sequence_losses(theirs(tokens(8, T + 1, V)[:, :-1]), tokens(8, T + 1, V)[:, 1:]).mean().backward()
    reference.step()
    assert torch.allclose(weights(ours), weights(theirs), atol=1e-6)
    assert not torch.allclose(weights(ours), weights(gpt()), atol=1e-3)


def test_normalised_queries_do_not_start_at_zero() -> None:
    """The norm of a zero vector multiplies the gradient by 1/sqrt(eps) = 1000, and clipping would eat the step."""

    def query_share(*overrides: str) -> float:
        model = gpt("param=mup", *overrides)
        norm = step(model, OptimConfig(clip=None))["grad_norm"].item()
        return sum(b.attention.branch.query.weight.grad.square().sum() for b in model.blocks).sqrt().item() / norm

    assert query_share("model.qk_norm=head") < 0.5
    zeroed = gpt("param=mup", "model.qk_norm=head")
    with torch.no_grad():
        for block in zeroed.blocks:
            block.attention.branch.query.weight.zero_()
    norm = step(zeroed, OptimConfig(clip=None))["grad_norm"].item()
    queries = sum(b.attention.branch.query.weight.grad.square().sum() for b in zeroed.blocks).sqrt().item()
    assert queries / norm > 0.9

"""sigma-Reparam: each matrix's largest singular value is its gamma, through init, training and resumption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conf.config import Config
from conf.schema import OptimConfig, ParamConfig
from models.blocks import SigmaLinear, SigmaReparam
from models.build import parameter_rules
from models.gpt import GPT
from models.roles import MATRICES, Role, named_roles
from tests.helpers import gpt, metrics, tokens
from train.checkpoint import Position, load_checkpoint, save_checkpoint
from train.optim import build_optimizer
from train.record.run import run_dir
from train.run import run

V, T = 50, 16
ON = "model.sigma_reparam=true"


def matrices(model: GPT) -> list[SigmaLinear]:
    return [module for module in model.modules() if isinstance(module, SigmaLinear)]


def optimizer_of(model: GPT) -> torch.optim.Optimizer:
    return build_optimizer(model, parameter_rules(model, ParamConfig()), OptimConfig(lr=1e-2))


def train(model: GPT, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        model.iterate_sigmas()
        x_BT = tokens(4, T + 1, V, seed=step)
        optimizer.zero_grad()
        F.cross_entropy(model(x_BT[:, :-1]).flatten(0, 1), x_BT[:, 1:].flatten()).backward()
        optimizer.step()


@torch.no_grad()
def worst_ratio(model: GPT) -> float:
    """The largest singular value of a matrix as it is applied, over its gamma, where that is furthest from 1."""
    ratios = [
        (torch.linalg.matrix_norm(m.sigma(m.weight), ord=2) / m.sigma.gamma.abs()).item() for m in matrices(model)
    ]
    return max(ratios, key=lambda ratio: abs(ratio - 1))


def test_every_matrix_of_the_blocks_has_one_and_no_other() -> None:
    for activation, per_block in (("gelu", 6), ("swiglu", 7)):
        model = gpt(ON, f"model.activation={activation}")
        assert len(matrices(model)) == 4 * per_block
        assert {m.declared["weight"].role for m in matrices(model)} <= MATRICES
        roles = [role for _, _, role in named_roles(model)]
        assert roles.count(Role.MATRIX_GAIN) == 4 * per_block
    assert not matrices(gpt())


def test_the_function_at_init_is_that_of_the_plain_model() -> None:
    x_BT = tokens(2, T, V)
    model = gpt(ON)
    assert torch.allclose(model(x_BT), gpt()(x_BT), atol=1e-5)
    with torch.no_grad():
        matrices(model)[0].sigma.gamma.mul_(2)
    assert not torch.allclose(model(x_BT), gpt()(x_BT), atol=1e-2)


def test_gamma_is_the_largest_singular_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after training; not so where the singular vectors do not follow."""

    def after(steps: int) -> float:
        model = gpt(ON)
        train(model, optimizer_of(model), range(steps))
        return worst_ratio(model)

    assert after(0) == pytest.approx(1, abs=1e-5)
    assert after(30) == pytest.approx(1, abs=0.1)
    monkeypatch.setattr(SigmaReparam, "iterate", lambda *_: None)
    assert after(30) > 1.2


def test_the_gradient_passes_through_sigma() -> None:
    """Against finite differences in float64; a gradient that took sigma for a constant would be wrong."""
    generator = torch.Generator().manual_seed(0)
    weight, downstream, direction = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    sigma = SigmaReparam(4, 6).double()
    sigma.measure(weight)
    with torch.no_grad():
        weight = weight + 0.3 * direction  # so that u and v are not at their fixed point
        sigma.gamma.mul_(1.7)

    def value(w: Tensor) -> Tensor:
        return (downstream * sigma(w)).sum()

    w = weight.clone().requires_grad_()
    value(w).backward()
    step = 1e-6
    with torch.no_grad():
        difference = (value(weight + step * direction) - value(weight - step * direction)) / (2 * step)
        scale = sigma(weight)[0, 0] / weight[0, 0]
        by_gamma = value(weight) / sigma.gamma
    assert (w.grad * direction).sum().item() == pytest.approx(difference.item(), rel=1e-6)
    assert (scale * downstream * direction).sum().item() != pytest.approx(difference.item(), rel=1e-2)
    assert (w.grad * weight).sum().abs() < 1e-10, "a larger W is the same matrix"
    assert sigma.gamma.grad.item() == pytest.approx(by_gamma.item(), rel=1e-10)


def test_passes_change_no_state() -> None:
    model = gpt(ON)
    train(model, optimizer_of(model), range(2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(tokens(2, T, V)).square().mean().backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.iterate_sigmas()
    assert not all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("more_often", [False, True])
def test_how_a_batch_is_split_changes_nothing(more_often: bool, tiny: Callable[..., Config]) -> None:
    """`train.micro_batch` is no part of a run's id; an iteration in each forward pass would make it one."""

    def losses(micro_batch: int) -> list[float]:
        config = tiny(ON, "optim.lr=3e-2", f"train.micro_batch={micro_batch}", f"study=by_{micro_batch}_{more_often}")
        run(config)
        return [row["train_loss"] for row in metrics(run_dir(config)) if "train_loss" in row]

    with pytest.MonkeyPatch.context() as patch:
        if more_often:
            forward = SigmaLinear.forward

            def iterate_and_pass(self: SigmaLinear, x: Tensor) -> Tensor:
                self.sigma.u, self.sigma.v = self.sigma.u.clone(), self.sigma.v.clone()
                self.sigma.iterate(self.weight)
                return forward(self, x)

            patch.setattr(SigmaLinear, "forward", iterate_and_pass)
        assert (losses(8) == pytest.approx(losses(1), rel=1e-5)) is not more_often


def test_the_gain_neither_decays_nor_slows_down_with_width() -> None:
    model = gpt(ON, "param=mup", "param.base_width=8")
    rules = parameter_rules(model, ParamConfig(name="mup", base_width=8))
    gains = [rules[name] for name, _, role in named_roles(model) if role is Role.MATRIX_GAIN]
    assert {(gain.lr_scale, gain.decay_scale) for gain in gains} == {(1.0, 0.0)}
    assert rules["blocks.0.mlp.branch.up.weight"].lr_scale == 0.25


@pytest.mark.parametrize("keep_vectors", [True, False])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path, keep_vectors: bool) -> None:
    """u and v are in the checkpoint; a run that measured them anew would go another way."""
    whole = gpt(ON)
    optimizer = optimizer_of(whole)
    train(whole, optimizer, range(3))
    save_checkpoint(tmp_path, whole, optimizer, Position(3, 0.0, 0.0))
    train(whole, optimizer, range(3, 6))

    resumed = gpt(ON, seed=1)
    optimizer = optimizer_of(resumed)
    assert load_checkpoint(tmp_path / "checkpoint" / "step-000000003", resumed, optimizer).step == 3
    if not keep_vectors:
        for matrix in matrices(resumed):
            gamma = matrix.sigma.gamma.detach().clone()
            matrix.sigma.measure(matrix.weight)
            with torch.no_grad():
                matrix.sigma.gamma.copy_(gamma)
    train(resumed, optimizer, range(3, 6))
    same = [torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items()]
    assert all(same) is keep_vectors

"""StableAdamW and clipping tensor by tensor; plain AdamW is in test_step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conf.config import Config
from conf.schema import OptimConfig
from models.parametrize import Rule
from tests.helpers import interrupt_at, metrics
from train import run as run_module
from train.checkpoint import latest
from train.optim import NORM_MEAN_DECAY, build_optimizer, clip_each, set_lr, staleness
from train.record.run import run_dir
from train.run import run

Tiny = Callable[..., Config]

RULES = {
    "weight": Rule(std=1.0, lr_scale=0.5, eps_scale=1.0, decay_scale=2.0),
    "bias": Rule(std=1.0, lr_scale=1.0, eps_scale=1.0, decay_scale=1.0),
}
GRADIENT = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def layer() -> nn.Linear:
    linear = nn.Linear(3, 4)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.fill_(1.0)
    return linear


def train(sizes: Sequence[float], cfg: OptimConfig, schedule: float = 1.0) -> Tensor:
    """Weights after each step, whose gradient is `GRADIENT` times the step's size; (steps, 4, 3)."""
    linear = layer()
    optimizer = build_optimizer(linear, RULES, cfg)
    seen = []
    for size in sizes:
        set_lr(optimizer, cfg.lr * schedule)
        linear.weight.grad, linear.bias.grad = GRADIENT * size, torch.ones(4)
        optimizer.step()
        seen.append(linear.weight.detach().clone())
    return torch.stack(seen)


def stale_ratio(sizes: Sequence[float], beta2: float) -> float:
    """Of the last of several gradients that differ by a factor: all elements have the same g² / v_hat."""
    v = 0.0
    for size in sizes:
        v = beta2 * v + (1 - beta2) * size**2
    return (sizes[-1] ** 2 * (1 - beta2 ** len(sizes)) / v) ** 0.5


# --- StableAdamW -----------------------------------------------------------------------------------------

FALLING = [0.9**n for n in range(8)]  # v_hat is above g²
BURST = [1.0, 1.0, 1.0, 1.0, 20.0]


@pytest.mark.parametrize("decay", ["independent", "coupled"])
def test_stable_adamw_is_adamw_until_v_is_stale(decay: str) -> None:
    plain, stable = (OptimConfig(name=name, lr=0.01, decay=decay) for name in ("adamw", "stable_adamw"))
    assert torch.allclose(train(FALLING, stable), train(FALLING, plain), rtol=1e-6)
    together, apart = train(BURST, stable), train(BURST, plain)
    assert torch.allclose(together[:4], apart[:4], rtol=1e-6)
    assert not torch.allclose(together[4], apart[4], rtol=1e-4)


def test_a_stale_second_moment_divides_the_rate() -> None:
    """Of two optimisers with the same moments the updates are in the ratio 1 / RMS."""
    plain, stable = (OptimConfig(name=name, lr=0.01, weight_decay=0.0) for name in ("adamw", "stable_adamw"))
    ratio = stale_ratio(BURST, plain.beta2)
    assert ratio > 2
    (*_, before, after), (*_, before_stable, after_stable) = train(BURST, plain), train(BURST, stable)
    assert torch.allclose((after - before) / (after_stable - before_stable), torch.tensor(ratio), rtol=1e-3)


@pytest.mark.parametrize("decay", ["independent", "coupled"])
def test_only_coupled_decay_slows_down_with_the_rate(decay: str) -> None:
    def decayed(schedule: float) -> Tensor:
        """How much the last step takes off the weights for the decay alone, relative to the weights."""
        with_decay, without = (
            train(BURST, OptimConfig(name="stable_adamw", lr=1e-3, decay=decay, weight_decay=wd), schedule)
            for wd in (strength, 0.0)
        )
        last = (without[-1] - without[-2]) - (with_decay[-1] - with_decay[-2])
        return last / with_decay[-2]

    strength = 0.01 if decay == "independent" else 10.0
    rule = RULES["weight"]
    usual = 0.5 * (strength if decay == "independent" else 1e-3 * rule.lr_scale * rule.decay_scale * strength)
    slower = stale_ratio(BURST, OptimConfig().beta2) if decay == "coupled" else 1.0
    assert torch.allclose(decayed(0.5), torch.tensor(usual / slower), rtol=1e-3)


def test_staleness_is_one_while_v_keeps_up() -> None:
    """Also where a gradient is below eps, which then stands in for v: such tensors hardly move."""
    g = torch.tensor([3.0, -0.5, 2.0])
    assert staleness(g, g.square(), eps=1e-8).item() == pytest.approx(1)
    assert staleness(g, g.square() / 9, eps=1e-8).item() == pytest.approx(3)
    assert staleness(1e-9 * g, (1e-9 * g).square() / 9, eps=1e-8).item() < 0.3


# --- clipping by tensor ----------------------------------------------------------------------------------


def clipped_norms(norms: Sequence[float], clip: float) -> list[float]:
    """The norms that a tensor's gradients have after clipping; the other tensor's stay 1 throughout."""
    linear = layer()
    optimizer = build_optimizer(linear, RULES, OptimConfig(clip=clip, clip_by="tensor"))
    seen = []
    for norm in norms:
        linear.weight.grad = GRADIENT / GRADIENT.norm() * norm
        linear.bias.grad = torch.full((4,), 0.5)
        clip_each(optimizer, clip)
        seen.append(linear.weight.grad.norm().item())
        assert torch.equal(linear.bias.grad, torch.full((4,), 0.5))  # a global norm would have cut it too
    return seen


def test_a_tensor_is_limited_by_its_own_past() -> None:
    """Against the rule in plain numbers; the spike comes through at `clip` times the mean before it."""
    norms, mean, expected = [2.0, 3.0, 2.0, 50.0, 2.0, 100.0], 2.0, [2.0]
    for norm in norms[1:]:
        mean_before, mean = mean, NORM_MEAN_DECAY * mean + (1 - NORM_MEAN_DECAY) * norm
        expected.append(min(norm, 1.5 * mean_before))
    seen = clipped_norms(norms, clip=1.5)
    assert seen == pytest.approx(expected, rel=1e-5)
    assert seen[3] < 50 / 10
    assert clipped_norms(norms, clip=1000.0) == pytest.approx(norms, rel=1e-6)


def test_a_tensor_whose_first_gradient_is_zero_still_learns() -> None:
    assert clipped_norms([0.0, 0.0, 2.0, 2.0, 8.0], clip=1.0) == pytest.approx([0, 0, 2, 2, 2], rel=1e-5)


def test_global_clipping_has_no_state_of_its_own() -> None:
    linear = layer()
    each, together = (build_optimizer(linear, RULES, OptimConfig(clip_by=by)) for by in ("tensor", "global"))
    assert set(together.state[linear.weight]) == {"step", "exp_avg", "exp_avg_sq"}
    assert set(each.state[linear.weight]) == {"step", "exp_avg", "exp_avg_sq", "norm_mean"}


# --- in a run --------------------------------------------------------------------------------------------

STABLE = ["optim.name=stable_adamw", "optim.clip_by=tensor", "data.shift_every=12steps", "data.shift_for=5steps",
          "train.duration=40steps", "train.checkpoint_every=10steps", "probe.every=4steps"]  # fmt: skip


@pytest.mark.parametrize("forget", [None, "norm_mean", "exp_avg_sq"])
def test_stable_adamw_clipping_and_shifts_resume_bit_identically(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: str | None
) -> None:
    """Rows and files are those of a run that was never stopped; without a part of the state they are not."""
    config = tiny(*STABLE)
    whole = dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, runs_dir=f"{tmp_path}/whole"))
    run(whole)
    with pytest.MonkeyPatch.context() as stop:
        interrupt_at(stop, 35)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    load = run_module.load_checkpoint

    def forgetful(path: Path, model: Any, optimizer: Any) -> Any:
        position = load(path, model, optimizer)
        assert position.step == 30
        for state in optimizer.state.values() if forget else ():
            state[forget].mul_(0.5)
        return position

    monkeypatch.setattr(run_module, "load_checkpoint", forgetful)
    run(config)
    same = metrics(run_dir(config)) == metrics(run_dir(whole))
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [latest(run_dir(each)) / name for each in (config, whole)]  # type: ignore[operator]
        same = same and files[0].read_bytes() == files[1].read_bytes()
    assert same == (forget is None)


def test_the_settings_reach_the_step(tiny: Tiny) -> None:
    """Every setting here changes the losses of a run."""

    def losses(*overrides: str) -> list[float]:
        config = tiny("optim.lr=0.03", "schedule.warmup=1steps", "optim.beta2=0.99", *overrides)
        run(config)
        return [row["train_loss"] for row in metrics(run_dir(config)) if "train_loss" in row]

    curves = [losses(), losses("optim.name=stable_adamw"), losses("optim.clip_by=tensor")]
    assert len({tuple(curve) for curve in curves}) == 3

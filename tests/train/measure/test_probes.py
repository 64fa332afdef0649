"""Probes against plain re-computations. That they change no loss is in test_run, and here for what has a state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from conf.config import Config
from conf.schema import OptimConfig, ParamConfig
from models.build import parameter_rules
from models.gpt import GPT
from models.roles import named_roles
from tests.helpers import gpt, metrics, tokens
from train.distributed import Ranks
from train.measure.probes import ParameterProbe, named_tensors, probe_activations
from train.optim import build_optimizer, set_lr
from train.record.metrics import check_declared
from train.record.run import run_dir
from train.run import run
from train.step import train_step

Tiny = Callable[..., Config]

V, T, L = 50, 16, 4
NO_CAST: Any = contextlib.nullcontext()


def rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


# --- activations -----------------------------------------------------------------------------------------


def seen(model: GPT, x: Tensor) -> dict[tuple[str, int], Tensor]:
    """All that a forward pass shows."""
    shown: dict[tuple[str, int], Tensor] = {}
    with torch.no_grad():
        model(x, lambda name, layer, value: shown.update({(name, layer): value}))
    return shown


def test_sizes_are_those_of_what_the_model_computes() -> None:
    model, x = gpt(), tokens(4, T, V)
    row, shown = probe_activations(model, x, NO_CAST), seen(model, x)
    assert row["embedding_abs"] == pytest.approx(model.embed(x).abs().mean().item())
    assert row["logits_abs"] == pytest.approx(model(x).abs().mean().item())
    for layer in range(L):
        output = shown["block_output", layer]
        assert row[f"block{layer}/output_abs"] == pytest.approx(output.abs().mean().item())
        variance = (output - output.mean(-1, keepdim=True)).square().mean(-1).mean().item()
        assert row[f"block{layer}/output_variance"] == pytest.approx(variance, rel=1e-5)
        assert row[f"block{layer}/output_variance"] < row[f"block{layer}/output_rms"] ** 2
        for branch in ("attention", "mlp"):
            expected = shown[f"{branch}_out", layer].abs().mean().item()
            assert row[f"block{layer}/{branch}_abs"] == pytest.approx(expected)


def test_branches_are_measured_before_the_residual_multiplier() -> None:
    """Four times the base depth makes the multiplier 1/4; the first branch is the same, what it adds is not."""
    x = tokens(4, T, V)
    deep, base = (probe_activations(gpt("param=completep", f"param.base_depth={n}"), x, NO_CAST) for n in (1, L))
    assert deep["block0/attention_abs"] == pytest.approx(base["block0/attention_abs"])
    assert deep["block0/output_abs"] < 0.98 * base["block0/output_abs"]


def test_qk_cosine_is_of_pairs_that_may_attend() -> None:
    """A loop over the pairs; the largest cosine of all pairs, future ones too, is another number."""
    model, x = gpt(), tokens(2, T, V, seed=3)
    row, shown = probe_activations(model, x, NO_CAST), seen(model, x)
    differ = 0
    for layer in range(L):
        q, k = shown["query", layer], shown["key", layer]
        cosine = torch.cosine_similarity(q[..., :, None, :], k[..., None, :, :], dim=-1)
        allowed = max(cosine[..., t, : t + 1].max().item() for t in range(T))
        assert row[f"block{layer}/qk_cosine"] == pytest.approx(allowed, abs=1e-6)
        differ += cosine.max().item() > allowed + 1e-4
    assert differ > 0


def test_without_blocks_there_are_no_block_metrics(tiny: Tiny) -> None:
    config = tiny("model.depth=0", "probe.every=5steps")
    run(config)
    names = {name for row in metrics(run_dir(config)) for name in row}
    assert {"embedding_abs", "logits_abs", "tokens/staleness", "readout/adam_rms"} <= names
    assert not any(name.startswith("block") for name in names)


# --- parameters ------------------------------------------------------------------------------------------


def test_every_matrix_has_a_name_of_its_own() -> None:
    def names(*overrides: str) -> list[str]:
        return [name for name, _ in named_tensors(gpt(*overrides))]

    attention, mlp = ["query", "key", "value", "out"], ["up", "down"]
    blocks = [f"block{layer}/{name}" for layer in range(L) for name in attention + mlp]
    assert names() == names("model.sigma_reparam=true") == ["tokens", *blocks, "readout"]
    assert names("model.tie_embeddings=true") == ["tokens", *blocks]
    assert {f"block{layer}/gate" for layer in range(L)} == {*names("model.activation=swiglu")} - {*names()}
    model = gpt("model.activation=swiglu", "model.position=learned", "model.qk_norm=head")
    named = dict(named_tensors(model))
    assert named["block3/key"] is model.blocks[3].attention.branch.key.weight
    unnamed = {id(p) for p in model.parameters() if p.ndim == 2} - {id(p) for p in named.values()}
    assert model.positions is not None
    assert unnamed == {id(model.positions.weight)}


Gradients = dict[str, list[Tensor]]


def probed_steps(optim: OptimConfig, n_steps: int = 4) -> tuple[GPT, list[dict[str, Any]], Gradients, Gradients]:
    """Rows of a few probed steps, and each tensor's gradients in them before and after clipping."""
    model = gpt("model.activation=swiglu")
    optimizer = build_optimizer(model, parameter_rules(model, ParamConfig()), optim)
    rows: list[dict[str, Any]] = []
    before: Gradients = {name: [] for name, _ in named_tensors(model)}
    after: Gradients = {name: [] for name, _ in named_tensors(model)}

    def remember(gradients: Gradients) -> None:
        for name, parameter in named_tensors(model):
            assert parameter.grad is not None
            gradients[name].append(parameter.grad.double())

    for step in range(n_steps):
        set_lr(optimizer, optim.lr)
        probe = ParameterProbe(model, optimizer)

        def observe(probe: ParameterProbe = probe) -> None:
            probe.see_gradients()
            remember(before)

        row: dict[str, Any] = dict(
            train_step(
                model, list(model.parameters()), optimizer, tokens(8, T + 1, V, seed=step), micro_batch=8,
                clip=optim.clip, clip_by=optim.clip_by, z_loss=0.0, autocast=NO_CAST, reduce=Ranks().mean,
                observe_gradients=observe,
            )
        )  # fmt: skip
        remember(after)
        rows.append(row | probe.row())
    return model, rows, before, after


@pytest.mark.parametrize("name", ["adamw", "stable_adamw"])
def test_adam_rms_and_staleness_are_what_the_optimiser_does(name: str) -> None:
    """Adam in double precision on the clipped gradients; the first step has both at 1, up to eps.

    A v without this step's gradient, and gradients before clipping, give other numbers.
    """
    optim = OptimConfig(name=name, lr=0.01, beta2=0.99, clip=0.05, eps=1e-6)
    model, rows, before, after = probed_steps(optim)

    def staleness(gradients: list[Tensor], until: int) -> float:
        v = torch.zeros_like(gradients[0])
        for g in gradients[:until]:
            v = optim.beta2 * v + (1 - optim.beta2) * g**2
        v_hat = v / (1 - optim.beta2**until)
        return rms(gradients[len(gradients) - 1] / v_hat.clamp_min(optim.eps**2).sqrt())

    for tensor, _ in named_tensors(model):
        m = v = torch.zeros_like(after[tensor][0])
        for t, (row, g) in enumerate(zip(rows, after[tensor], strict=True), start=1):
            m, v = optim.beta1 * m + (1 - optim.beta1) * g, optim.beta2 * v + (1 - optim.beta2) * g**2
            m_hat, v_hat = m / (1 - optim.beta1**t), v / (1 - optim.beta2**t)
            assert row[f"{tensor}/adam_rms"] == pytest.approx(rms(m_hat / (v_hat.sqrt() + optim.eps)), rel=1e-4)
            assert row[f"{tensor}/staleness"] == pytest.approx(staleness(after[tensor][:t], t), rel=1e-4)
            assert row[f"{tensor}/gradient_rms"] == pytest.approx(rms(before[tensor][t - 1]), rel=1e-5)
    last = rows[-1]["block1/up/staleness"]
    assert staleness(after["block1/up"], len(rows) - 1) != pytest.approx(last, rel=1e-2)
    assert staleness(before["block1/up"], len(rows)) != pytest.approx(last, rel=1e-2)
    assert rows[0]["readout/staleness"] == pytest.approx(1, rel=1e-2)


def test_gradients_add_up_to_the_norm() -> None:
    """Blocks, and what is outside of them, before clipping."""
    model, rows, before, _ = probed_steps(OptimConfig(clip=1e-3), n_steps=1)
    row = rows[0]
    outside = sum(before[name][0].square().sum().item() for name in ("tokens", "readout"))
    blocks = sum(row[f"block{layer}/gradient_norm"] ** 2 for layer in range(L))
    final_norm = row["edge_norm/gradient_rms"] ** 2 * model.final_norm.gain.numel()
    assert row["grad_norm"].item() > 0.1  # the clipped one would be 0.001
    assert outside + blocks + final_norm == pytest.approx(row["grad_norm"].item() ** 2, rel=1e-4)


def test_roles_are_measured_over_all_their_elements() -> None:
    model, start = gpt("model.activation=swiglu"), gpt("model.activation=swiglu")
    optimizer = build_optimizer(model, parameter_rules(model, ParamConfig()), OptimConfig())
    probe = ParameterProbe(model, optimizer)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    probe.see_gradients()
    optimizer.step()
    row = probe.row()
    check_declared(row)
    old = dict(start.named_parameters())
    for role in {role for *_, role in named_roles(model)}:
        here = [(name, p) for name, p, other in named_roles(model) if other is role]
        change = torch.cat([(p.detach() - old[name].detach()).reshape(-1) for name, p in here])
        weights = torch.cat([old[name].detach().reshape(-1) for name, _ in here])
        gradients = torch.cat([p.grad.reshape(-1) for _, p in here if p.grad is not None])
        for kind, expected in (("update", change), ("parameter", weights), ("gradient", gradients)):
            assert row[f"{role}/{kind}_rms"] == pytest.approx(rms(expected), rel=1e-5), (role, kind)
    assert row["hidden/update_rms"] > 0


@pytest.mark.parametrize(
    "overrides",
    [("optim.name=stable_adamw", "optim.clip_by=tensor"), ("model.sigma_reparam=true",), ("model.qk_rms=4",)],
    ids=lambda overrides: overrides[0],
)
def test_probes_leave_everything_with_a_state_alone(tiny: Tiny, overrides: tuple[str, ...]) -> None:
    """Bit by bit; another seed is the control."""
    plain, probed, other = tiny(*overrides), tiny(*overrides, "probe.every=1steps"), tiny(*overrides, "seed=1")
    curves = []
    for config in (plain, probed, other):
        run(config)
        curves.append([row["train_loss"] for row in metrics(run_dir(config)) if "train_loss" in row])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]

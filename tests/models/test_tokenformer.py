"""Parameter tokens in place of matrices."""

from __future__ import annotations

from math import erf, sqrt

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conf.schema import ParamConfig
from models.build import parameter_rules
from models.gpt import GPT
from models.roles import Axis, Role, named_roles
from models.tokenformer import Pattention
from tests.helpers import gpt, log_slope, tokens

V, T, N = 50, 16, 24


def empty(fan_in: int, fan_out: int, n: int, param_tau: float) -> Pattention:
    inputs, outputs, tokens = Axis("inputs", fan_in), Axis("outputs", fan_out), Axis("tokens", n)
    return Pattention(inputs, outputs, Role.HIDDEN, tokens=tokens, param_tau=param_tau)


def pattention(fan_in: int, fan_out: int, n: int, param_tau: float = 1.0, seed: int = 0) -> Pattention:
    """With keys and values as a model has them at init."""
    generator = torch.Generator().manual_seed(seed)
    layer = empty(fan_in, fan_out, n, param_tau)
    with torch.no_grad():
        layer.keys.normal_(0, fan_in**-0.5, generator=generator)
        layer.values.normal_(0, n**-0.5, generator=generator)
    return layer


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def grown(layer: Pattention, param_tau: float) -> Pattention:
    """Twice the tokens: new keys zero, new values random."""
    n, fan_in = layer.keys.shape
    fresh = pattention(fan_in, layer.values.shape[1], n, seed=9)
    bigger = empty(fan_in, layer.values.shape[1], 2 * n, param_tau)
    with torch.no_grad():
        bigger.keys.copy_(torch.cat((layer.keys, torch.zeros_like(layer.keys))))
        bigger.values.copy_(torch.cat((layer.values, fresh.values)))
    return bigger


# --- the formula -----------------------------------------------------------------------------------------


def by_hand(layer: Pattention, x_D: list[float], tau: float) -> list[float]:
    """Wang et al. 2024, number by number."""
    keys, values = layer.keys.tolist(), layer.values.tolist()
    scores = [sum(x * k for x, k in zip(x_D, key, strict=True)) for key in keys]
    norm = sqrt(sum(score**2 for score in scores))
    weights = [z / 2 * (1 + erf(z / sqrt(2))) for z in (tau * score / norm for score in scores)]
    return [sum(w * row[j] for w, row in zip(weights, values, strict=True)) for j in range(len(values[0]))]


@pytest.mark.parametrize("param_tau", [1.0, 0.25])
def test_pattention_is_the_papers_formula(param_tau: float) -> None:
    layer, x_BTD = pattention(6, 5, 7, param_tau), inputs(2, 3, 6)
    y_BTD = layer(x_BTD)
    for b in range(2):
        for t in range(3):
            expected = by_hand(layer, x_BTD[b, t].tolist(), tau=sqrt(7 * param_tau))
            assert y_BTD[b, t].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    another_tau = by_hand(layer, x_BTD[0, 0].tolist(), tau=0.8 * sqrt(7 * param_tau))
    assert y_BTD[0, 0].tolist() != pytest.approx(another_tau, rel=1e-2)


def test_the_size_of_inputs_and_keys_drops_out() -> None:
    layer, x_BTD = pattention(32, 32, N), inputs(2, 3, 32)
    before = layer(x_BTD)
    with torch.no_grad():
        layer.keys.mul_(5)
    assert torch.allclose(layer(x_BTD), before, atol=1e-5)
    assert torch.allclose(layer(3 * x_BTD), before, atol=1e-5)
    with torch.no_grad():
        layer.values.mul_(5)
    assert not torch.allclose(layer(x_BTD), before, atol=1e-1)


# --- tokens that are appended ----------------------------------------------------------------------------


def test_zero_keys_keep_the_function_as_long_as_tau_does() -> None:
    layer, x_BTD = pattention(32, 16, N), inputs(2, 3, 32)
    kept, recomputed = grown(layer, param_tau=0.5), grown(layer, param_tau=1.0)
    assert torch.allclose(kept(x_BTD), layer(x_BTD), atol=1e-5)
    assert not torch.allclose(recomputed(x_BTD), layer(x_BTD), atol=1e-1)


def test_zero_keys_learn_unless_their_values_are_zero_too() -> None:
    bigger = grown(pattention(32, 16, N), param_tau=0.5)
    bigger(inputs(2, 3, 32)).square().sum().backward()
    assert bigger.keys.grad is not None
    assert (bigger.keys.grad[N:].norm(dim=1) > 1e-3).all()
    dead = grown(pattention(32, 16, N), param_tau=0.5)
    with torch.no_grad():
        dead.values[N:].zero_()
    dead(inputs(2, 3, 32)).square().sum().backward()
    assert dead.keys.grad is not None
    assert (dead.keys.grad[N:] == 0).all()


# --- in the model ----------------------------------------------------------------------------------------


def test_names_and_shapes() -> None:
    model = gpt(f"model.param_tokens={N}", "model.mlp_hidden=100")
    shapes = {name: tuple(p.shape) for name, p in model.blocks[3].named_parameters() if "norm" not in name}
    maps = {f"attention.branch.{name}": N for name in ("query", "key", "value", "out")} | {"mlp.branch.tokens": 100}
    assert shapes == {f"{name}.{side}": (n, 32) for name, n in maps.items() for side in ("keys", "values")}


def test_roles_are_those_of_the_matrices() -> None:
    roles = {name: role for name, _, role in named_roles(gpt(f"model.param_tokens={N}"))}
    block = "blocks.0.attention.branch"
    assert roles[f"{block}.query.values"] is Role.QUERY
    assert roles[f"{block}.query.keys"] is roles[f"{block}.key.values"] is Role.HIDDEN
    assert roles[f"{block}.out.values"] is roles["blocks.0.mlp.branch.tokens.values"] is Role.RESIDUAL


@pytest.mark.parametrize("name", ["standard", "mup", "completep"])
def test_keys_sum_over_the_width_and_values_over_the_tokens(name: str) -> None:
    """That tokens are drawn as their rule says is in test_parametrize; muP's zero queries are zero values."""
    model = gpt("model.param_tokens=512", "model.mlp_hidden=1024", f"param={name}")
    rules = parameter_rules(model, ParamConfig(name=name))
    std = {path.removeprefix("blocks.1."): rule.std for path, rule in rules.items() if path.startswith("blocks.1.")}
    assert std["attention.branch.value.keys"] == std["attention.branch.query.keys"] == pytest.approx(32**-0.5)
    assert std["attention.branch.value.values"] == std["attention.branch.out.values"] == pytest.approx(512**-0.5)
    assert std["mlp.branch.tokens.values"] == pytest.approx(1024**-0.5)
    assert (std["attention.branch.query.values"] == 0) is (name == "mup")


def test_outputs_at_init_have_one_size_at_every_width_and_number_of_tokens() -> None:
    """Variance E[GELU(z)²], as after the GELU of an MLP; values of a fixed std are the control."""
    normal = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    expected = F.gelu(normal).square().mean().item()
    assert expected == pytest.approx(0.43, abs=0.01)
    for width, n in ((32, 16), (32, 512), (256, 64), (256, 1024)):
        assert pattention(width, width, n)(inputs(64, width)).var().item() == pytest.approx(expected, rel=0.2)

    def by_fixed_std(n: int) -> float:
        layer = pattention(32, 32, n)
        with torch.no_grad():
            layer.values.mul_(0.1 * sqrt(n))
        return layer(inputs(64, 32)).var().item()

    assert log_slope((64, 512), [by_fixed_std(64), by_fixed_std(512)]) > 0.8


def test_the_stream_of_a_model_grows_as_with_matrices() -> None:
    def output_rms(*overrides: str) -> list[float]:
        seen: list[float] = []

        def tap(name: str, _: int, x: Tensor) -> None:
            if name == "block_output":
                seen.append(x.square().mean().sqrt().item())

        gpt(*overrides)(tokens(8, T, V), tap)
        return seen

    ordinary, tokenformer = output_rms(), output_rms("model.param_tokens=32")
    assert tokenformer == pytest.approx(ordinary, rel=0.3)
    assert output_rms("model.param_tokens=32", "param.init=constant") != pytest.approx(ordinary, rel=0.3)


def test_param_tau_changes_the_model() -> None:
    def output(*overrides: str) -> Tensor:
        model: GPT = gpt(f"model.param_tokens={N}", *overrides)
        return model(tokens(2, T, V))

    assert torch.equal(output("model.param_tau=1"), output())
    assert not torch.allclose(output("model.param_tau=0.5"), output(), atol=1e-3)

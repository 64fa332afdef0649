"""Blocks that share their weights: stages of one block each, and templates of all blocks."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import Tensor

from conf.compose import compose
from conf.config import resolve
from conf.schema import OptimConfig, ParamConfig
from models.build import parameter_rules
from models.count import count_params, flops_per_token
from models.gpt import GPT
from models.roles import Role, named_roles
from tests.helpers import gpt, tokens
from train.measure.layers import angles, removal_losses
from train.measure.probes import ParameterProbe, named_tensors
from train.optim import build_optimizer

V, T, L = 50, 16, 4
X_BT = tokens(2, T, V)


def seen(model: GPT, skip: frozenset[int] = frozenset()) -> dict[tuple[str, int], Tensor]:
    shown: dict[tuple[str, int], Tensor] = {}

    def tap(name: str, layer: int, x: Tensor) -> None:
        assert (name, layer) not in shown
        shown[name, layer] = x

    model(X_BT, tap, skip=skip)
    return shown


def gradients(model: GPT) -> dict[str, Tensor]:
    model(X_BT).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# --- stages ----------------------------------------------------------------------------------------------


def untied(shared: GPT, sources: list[int], *overrides: str) -> GPT:
    """An ordinary model whose block l is the shared model's block `sources[l]`."""
    model = gpt(*overrides)
    state = {name: w for name, w in shared.state_dict().items() if not name.startswith("blocks.")}
    for layer, source in enumerate(sources):
        block = shared.blocks[source].state_dict()
        state |= {f"blocks.{layer}.{name}": weight for name, weight in block.items()}
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(
    ("stages", "depth", "sources"),
    [(1, 4, [0, 0, 0, 0]), (2, 4, [0, 0, 1, 1]), (2, 5, [0, 0, 0, 1, 1]), (3, 4, [0, 0, 1, 2]), (4, 4, [0, 1, 2, 3])],
)
@pytest.mark.parametrize("option", ["param=completep", "model.norm_placement=peri", "model.param_tokens=24"])
def test_stages_are_the_unshared_model_with_copied_blocks(
    stages: int, depth: int, sources: list[int], option: str
) -> None:
    """All that is shown on the way too, by place; in another order of the blocks it is another model."""
    overrides = [option, f"model.depth={depth}"]
    shared = gpt(f"model.stages={stages}", *overrides)
    assert len(shared.blocks) == stages
    shown, expected = seen(shared), seen(untied(shared, sources, *overrides))
    assert list(shown) == list(expected)
    assert all(torch.equal(shown[key], expected[key]) for key in shown)
    if stages > 1:
        other = untied(shared, sources[::-1], *overrides)
        assert not torch.allclose(other(X_BT), shown["logits", 0], atol=1e-3)


def test_gradients_of_a_shared_block_sum_over_its_places() -> None:
    shared = gpt("model.stages=2")
    unshared = gradients(untied(shared, [0, 0, 1, 1]))
    name = "attention.branch.key.weight"
    total = unshared[f"blocks.2.{name}"] + unshared[f"blocks.3.{name}"]
    assert torch.allclose(gradients(shared)[f"blocks.1.{name}"], total, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(unshared[f"blocks.2.{name}"], total, rtol=1e-1)


def test_skipping_is_by_place() -> None:
    """One place of a shared block can be left out while the other stays."""
    shared = gpt("model.stages=2")
    skip = frozenset({2})
    shown = seen(shared, skip)
    assert {layer for name, layer in shown if name == "block_output"} == {0, 1, 3}
    assert torch.equal(shown["logits", 0], untied(shared, [0, 0, 1, 1])(X_BT, skip=skip))
    assert not torch.allclose(shown["logits", 0], shared(X_BT), atol=1e-3)


@pytest.mark.parametrize(("stages", "depth"), [(1, 4), (2, 4), (2, 5), (3, 4), (3, 10), (7, 9), (4, 4)])
def test_a_block_goes_by_the_first_of_its_places(stages: int, depth: int) -> None:
    model = gpt(f"model.stages={stages}", f"model.depth={depth}", "model.width=8")
    places = [list(model.blocks).index(model.block_at(layer)) for layer in range(depth)]
    assert model.first_layers() == [places.index(block) for block in range(stages)]
    lengths = [places.count(block) for block in range(stages)]
    assert max(lengths) - min(lengths) <= 1
    assert places == sorted(places)


def test_stages_are_counted_once_and_computed_at_every_place() -> None:
    def counts(*overrides: str) -> tuple[int, int]:
        config = resolve(compose(["model=gpt_100k", *overrides]), cuda=False)
        sizes = {"vocab_size": V, "context": T}
        return count_params(config.model, **sizes).non_embedding, flops_per_token(config.model, **sizes)

    (shared, shared_flops), (shallow, shallow_flops) = counts("model.stages=2"), counts("model.depth=2")
    (_, deep_flops) = counts()
    assert (shared, shared_flops) == (shallow, deep_flops)
    assert shallow_flops < deep_flops


def test_metrics_are_by_place() -> None:
    """Of a block with several places its weights' metrics go by the first, what passes through it by each."""
    model = gpt("model.stages=2")
    assert [name for name, _ in named_tensors(model) if name.endswith("/key")] == ["block0/key", "block2/key"]
    assert dict(named_tensors(model))["block2/key"] is model.blocks[1].attention.branch.key.weight
    probe = ParameterProbe(model, build_optimizer(model, parameter_rules(model, ParamConfig()), OptimConfig()))
    by_name = gradients(model)
    probe.see_gradients()
    norms = {name: value for name, value in probe.row().items() if name.endswith("gradient_norm")}
    assert set(norms) == {"block0/gradient_norm", "block2/gradient_norm"}
    second = torch.stack([g.norm() for name, g in by_name.items() if name.startswith("blocks.1.")]).norm().item()
    assert norms["block2/gradient_norm"] == pytest.approx(second, rel=1e-5)
    assert norms["block0/gradient_norm"] != pytest.approx(second, rel=1e-2)


def test_the_loss_without_a_block_is_by_place() -> None:
    how = {"batch_size": 4, "autocast": contextlib.nullcontext()}
    windows = tokens(4, T + 1, V)
    shared = gpt("model.stages=2")
    losses, expected = (removal_losses(model, windows, **how) for model in (shared, untied(shared, [0, 0, 1, 1])))
    assert losses == expected
    first, second, third, fourth = losses.values()
    assert (first == second, second == third, third == fourth) == (True, False, True), (
        "one of two equal ones is missing"
    )
    assert set(angles(shared, windows[:, :-1], **how)) == {
        f"angle/{a}/{n}" for a in range(L) for n in range(1, L - a + 1)
    }


# --- templates -------------------------------------------------------------------------------------------

K = 3


def combined(model: GPT, *overrides: str) -> GPT:
    """An ordinary model with W_l = sum_k c_lk T_k, element by element."""
    ordinary = gpt(*overrides)
    state = dict(model.state_dict())
    templates = {name: state.pop(f"templates.{name}") for name, _ in model.templates.named_parameters()}
    for name in [name for name in state if name.endswith(".coefficients")]:
        path, coefficients = name.removesuffix(".coefficients"), state.pop(name)
        matrices = templates[path.rpartition(".")[2]]
        state[f"{path}.weight"] = sum(c * matrix for c, matrix in zip(coefficients, matrices, strict=True))
    ordinary.load_state_dict(state)
    return ordinary


@pytest.mark.parametrize("option", ["model.activation=swiglu", "model.qk_norm=head", "model.norm_placement=mix"])
def test_templates_are_the_model_with_the_combined_matrices(option: str) -> None:
    model = gpt(f"model.templates={K}", option)
    expected = combined(model, option)
    assert torch.allclose(model(X_BT), expected(X_BT), atol=1e-5)
    with torch.no_grad():
        model.blocks[2].mlp.branch.down.coefficients[0] += 0.5
    assert not torch.allclose(model(X_BT), expected(X_BT), atol=1e-2)
    assert torch.allclose(model(X_BT), combined(model, option)(X_BT), atol=1e-5)


def test_template_names_and_shapes() -> None:
    model = gpt(f"model.templates={K}", "model.activation=swiglu", "model.mlp_hidden=80")
    matrices = dict.fromkeys(("query", "key", "value", "out"), (K, 32, 32))
    matrices |= {"gate": (K, 80, 32), "up": (K, 80, 32), "down": (K, 32, 80)}
    state = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert {name: shape for name, shape in state.items() if name.startswith("templates.")} == {
        f"templates.{name}": shape for name, shape in matrices.items()
    }
    coefficients = [name for name in state if name.endswith(".coefficients")]
    assert len(coefficients) == L * len(matrices)
    assert {state[name] for name in coefficients} == {(K,)}
    assert "blocks.3.attention.branch.query.coefficients" in coefficients
    assert set(state) == set(dict(model.named_parameters())), "no matrix of a block's own, and nothing twice"


@pytest.mark.parametrize("count", [1, 2, 16])
def test_combined_matrices_are_drawn_like_ordinary_ones(count: int) -> None:
    """Their std is the rule's, and blocks differ, up to the sign that is all a single template leaves open."""
    model = gpt(f"model.templates={count}", "model.width=64")
    matrices = [combined(model, "model.width=64").blocks[layer].mlp.branch.up.weight for layer in range(L)]
    for weight in matrices:
        assert weight.std().item() == pytest.approx(64**-0.5, rel=0.05)
    first = matrices[0].flatten()
    cosines = [abs(torch.cosine_similarity(first, other.flatten(), dim=0).item()) for other in matrices[1:]]
    assert (max(cosines) < 0.999) is (count > 1)
    if count == 16:
        assert max(cosines) < 0.75


def test_templates_follow_the_rule_of_their_matrix_and_coefficients_that_of_a_gain() -> None:
    model, ordinary = gpt(f"model.templates={K}", "param=mup"), gpt("param=mup")
    param = resolve(compose(["param=mup", "param.base_width=8"]), cuda=False).param
    rules, matrix_rules = parameter_rules(model, param), parameter_rules(ordinary, param)
    for name in ("query", "key", "value", "out"):
        assert rules[f"templates.{name}"] == matrix_rules[f"blocks.0.attention.branch.{name}.weight"]
    assert rules["templates.down"] == matrix_rules["blocks.0.mlp.branch.down.weight"]  # fan-in 4D, not D
    assert rules["templates.down"].std != rules["templates.up"].std
    assert rules["templates.key"].lr_scale == 0.25
    coefficient = rules["blocks.1.attention.branch.key.coefficients"]
    assert (coefficient.std, coefficient.lr_scale, coefficient.decay_scale) == (pytest.approx(K**-0.5), 1, 0)
    assert (model.templates.query == 0).all(), "muP's zero queries"
    roles = {role for name, _, role in named_roles(model) if name.endswith("coefficients")}
    assert roles == {Role.COEFFICIENT}


def test_templates_and_coefficients_get_the_gradients_of_the_combined_matrices() -> None:
    model = gpt(f"model.templates={K}")
    ordinary, shared = gradients(combined(model)), gradients(model)
    path = "attention.branch.value"
    blocks_LOI = torch.stack([ordinary[f"blocks.{layer}.{path}.weight"] for layer in range(L)])
    c_LK = torch.stack([model.blocks[layer].attention.branch.value.coefficients for layer in range(L)])
    expected = torch.einsum("lk,loi->koi", c_LK, blocks_LOI)
    assert torch.allclose(shared["templates.value"], expected, rtol=1e-3, atol=1e-6)
    product_K = torch.einsum("oi,koi->k", blocks_LOI[1], model.templates.value)
    assert torch.allclose(shared[f"blocks.1.{path}.coefficients"], product_K, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(shared[f"blocks.0.{path}.coefficients"], product_K, rtol=1e-1)


def test_a_copied_model_has_templates_of_its_own() -> None:
    model = gpt(f"model.templates={K}")
    copied, before = copy.deepcopy(model), model(X_BT)
    with torch.no_grad():
        copied.templates.key.mul_(2)
    assert torch.equal(model(X_BT), before)
    assert not torch.allclose(copied(X_BT), before, atol=1e-2)

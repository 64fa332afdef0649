"""The small functions that blocks are made of, each by the property that it is for."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from conf.schema import ModelConfig
from models.blocks import (
    ATTENTION_SCALES,
    NORMS,
    PLACEMENTS,
    Sublayer,
    fix_rms,
    layer_norm,
    relu_squared,
    rms_norm,
    rope_tables,
    rotate,
    soft_cap,
)
from models.gpt import GPT
from models.roles import Axis, Role
from models.templates import Templates
from tests.helpers import gpt, tokens

D = 32


def normal(*shape: int, seed: int = 0, scale: float = 3.0, mean: float = 1.0) -> Tensor:
    return mean + scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()


# --- normalisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS.values())
def test_a_norm_forgets_the_size_of_what_it_is_given_and_takes_that_of_its_gain(norm: object) -> None:
    x_BD, gain_D = normal(4, D), normal(D, seed=1)
    one = norm(x_BD, torch.ones(D))  # type: ignore[operator]
    assert rms(one).allclose(torch.ones(4, dtype=torch.float64), atol=1e-4)
    assert norm(50 * x_BD, torch.ones(D)).allclose(one, atol=1e-4)  # type: ignore[operator]
    assert norm(x_BD, gain_D).allclose(one * gain_D)  # type: ignore[operator]


def test_only_layer_norm_takes_the_mean_away() -> None:
    x_BD, ones = normal(4, D), torch.ones(D, dtype=torch.float64)
    assert layer_norm(x_BD + 7, ones).allclose(layer_norm(x_BD, ones))
    assert layer_norm(x_BD, ones).mean(-1).abs().max() < 1e-12
    assert not rms_norm(x_BD + 7, ones).allclose(rms_norm(x_BD, ones))
    centred = x_BD - x_BD.mean(-1, keepdim=True)
    assert layer_norm(x_BD, ones).allclose(rms_norm(centred, ones))


@pytest.mark.parametrize("kappa", [0.5, 1.0, 9.0])
def test_of_two_vectors_of_fixed_size_the_product_is_their_cosine(kappa: float) -> None:
    x_BD, y_BD = normal(4, D), normal(4, D, seed=1)
    x, y = fix_rms(x_BD, kappa), fix_rms(y_BD, kappa)
    assert rms(x).allclose(torch.full((4,), sqrt(kappa), dtype=torch.float64), atol=1e-4)
    assert ((x * y).sum(-1) / D).allclose(kappa * torch.cosine_similarity(x_BD, y_BD), atol=1e-4)


# --- nonlinearities ---------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 1e4, allow_subnormal=False), st.floats(0.5, 100))
def test_a_soft_cap_is_odd_rises_and_is_never_passed(z: float, cap: float) -> None:
    x = torch.tensor([z, -z, 0.0, z + 1], dtype=torch.float64)
    up, down, zero, more = soft_cap(x, cap)
    assert up == -down
    assert zero == 0
    assert abs(up) <= min(cap, abs(z)) * (1 + 1e-12)
    assert more >= up
    if abs(z) < 0.01 * cap:
        assert up.item() == pytest.approx(z, rel=1e-4)


def test_the_square_of_what_is_positive() -> None:
    x = torch.tensor([-2.0, -0.0, 0.5, 3.0], requires_grad=True)
    y = relu_squared(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 0.25, 9]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 6]  # without a kink at 0


# --- positions --------------------------------------------------------------------------------------------


def test_turned_products_depend_on_the_distance_alone() -> None:
    T, K = 12, 8
    cos_TK2, sin_TK2 = rope_tables(T, K, 10_000.0)
    q_K, k_K = normal(K).float(), normal(K, seed=1).float()
    q_TK, k_TK = (rotate(x.expand(1, 1, T, K), cos_TK2, sin_TK2)[0, 0] for x in (q_K, k_K))
    products_TT = q_TK @ k_TK.T
    for distance in range(-T + 1, T):
        diagonal = products_TT.diagonal(distance)
        assert diagonal.allclose(diagonal[0].expand_as(diagonal), atol=1e-3)
    assert q_TK.norm(dim=-1).allclose(q_K.norm().expand(T), rtol=1e-5)  # a rotation keeps lengths
    assert q_TK[0].equal(q_K)
    assert not products_TT[0, 1].isclose(products_TT[0, 5], atol=1e-2)


@pytest.mark.parametrize("position", ["rope", "learned"])
def test_the_longest_wavelength_matters_to_rope_alone(position: str) -> None:
    a, b = (gpt(f"model.position={position}", f"model.rope_base={base}") for base in (100, 10_000))
    x = tokens(2, 16, 50)
    assert torch.equal(a(x), b(x)) == (position == "learned")


def test_scales_of_attention_agree_where_a_head_is_one_number() -> None:
    for scale in ATTENTION_SCALES.values():
        assert scale(1) == 1
    assert ATTENTION_SCALES["1/d"](64) == ATTENTION_SCALES["1/sqrt(d)"](64) ** 2 == 1 / 64


# --- residual sublayers -----------------------------------------------------------------------------------


class Silent(nn.Module):
    def forward(self, x_BTD: Tensor) -> Tensor:
        return torch.zeros_like(x_BTD)


class Doubles(nn.Module):
    def forward(self, x_BTD: Tensor) -> Tensor:
        return 2 * x_BTD


def sublayer(branch: nn.Module, places: frozenset[str], *, layer: int = 0, **model: object) -> Sublayer:
    made = Sublayer(branch, ModelConfig(width=D, **model), layer, places, multiplier=0.5)  # type: ignore[arg-type]
    for parameter in made.parameters():
        nn.init.ones_(parameter)
    return made.double()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_silent_branch_leaves_the_stream_but_where_the_sum_is_normalised(placement: str) -> None:
    x_BTD = normal(2, 3, D)
    out_BTD, branch_BTD = sublayer(Silent(), PLACEMENTS[placement])(x_BTD)
    assert branch_BTD.abs().max() == 0
    assert torch.equal(out_BTD, x_BTD) == (placement != "post")


@pytest.mark.parametrize(("placement", "branch_size"), [("pre", 2), ("post", None), ("peri", 1)])
def test_what_is_normalised_has_size_one(placement: str, branch_size: float | None) -> None:
    x_BTD = normal(2, 3, D)
    out_BTD, branch_BTD = sublayer(Doubles(), PLACEMENTS[placement])(x_BTD)
    if branch_size is None:
        assert branch_BTD.allclose(2 * x_BTD)
        assert rms(out_BTD).allclose(torch.ones(2, 3, dtype=torch.float64), atol=1e-4)
    else:
        assert rms(branch_BTD).allclose(torch.full((2, 3), branch_size, dtype=torch.float64), atol=1e-4)
        assert out_BTD.allclose(x_BTD + 0.5 * branch_BTD)


def test_scaled_norms_shrink_with_the_root_of_the_place() -> None:
    x_BTD = normal(2, 3, D)
    sizes = [
        sublayer(Doubles(), PLACEMENTS["pre"], layer=layer, layernorm_scaling=True)(x_BTD)[1].std().item()
        for layer in (0, 3, 8)
    ]
    assert [sizes[0] / size for size in sizes] == pytest.approx([1, 2, 3])


# --- templates --------------------------------------------------------------------------------------------


def test_a_matrix_is_the_sum_of_its_templates_by_its_coefficients() -> None:
    templates = Templates(3)
    first, second = (templates.linear("up", Axis("residual", 4), Axis("hidden", 5), Role.HIDDEN) for _ in range(2))
    assert [name for name, _ in templates.named_parameters()] == ["up"]  # both share them
    nn.init.normal_(templates.up)
    for linear, coefficients in ((first, [1.0, 0.0, 0.0]), (second, [0.5, -1.0, 2.0])):
        nn.init.zeros_(linear.coefficients)
        linear.coefficients.data += torch.tensor(coefficients)
        matrix = torch.einsum("k,koi->oi", linear.coefficients, templates.up)
        x = torch.randn(2, 4)
        assert linear(x).allclose(x @ matrix.T, atol=1e-6)
    assert templates.combine("up", first.coefficients).equal(templates.up[0])


def test_templates_are_one_child_of_the_model_and_of_no_block() -> None:
    model: GPT = gpt("model.templates=2")
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    assert all(name.count("templates") <= 1 for name in names)
    assert sum(name.endswith("coefficients") for name in names) == 4 * 6  # of each block's matrices

"""The model: causality, options, placement, lifting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from conf.compose import compose
from conf.config import resolve
from models.blocks import rope_tables, rotate
from models.build import build
from models.gpt import GPT
from tests.helpers import gpt, tokens

V, T = 50, 16

ARCHITECTURE = [
    "model.norm=layernorm",
    "model.norm_placement=post",
    "model.norm_placement=peri",
    "model.norm_placement=mix",
    "model.layernorm_scaling=true",
    "model.qk_norm=head",
    "model.qk_norm=model",
    "model.qk_norm=qkv",
    "model.qk_rms=5",
    "model.attention_softcap=0.1",
    "model.position=learned",
    "model.rope_base=100",
    "model.activation=relu2",
    "model.activation=swiglu",
    "model.mlp_hidden=48",
    "model.tie_embeddings=true",
    "model.softcap=2",
    "model.attention_scale=1/d",
    "model.heads=2",
    "model.stages=2",
    "model.templates=3",
    "model.param_tokens=24",
]
OPTIONS = [
    *ARCHITECTURE,
    "param.init=constant",
    "param.embedding_std=0.5",
    "param.readout_scale=0.5",
    "param.scaled_residual_init=true",
    "param=mup",
    "param=completep",
]


def _leak(model: GPT, position: int) -> tuple[Tensor, Tensor]:
    """|d loss at `position` / d embedding| before and at it, and after it."""
    x_BT = tokens(2, T, V)
    x_BTD = model.embed(x_BT).detach().requires_grad_()
    loss = F.cross_entropy(model.decode(x_BTD)[:, position], x_BT[:, -1])
    (gradient_BTD,) = torch.autograd.grad(loss, x_BTD)
    size_T = gradient_BTD.abs().amax((0, 2))
    return size_T[: position + 1], size_T[position + 1 :]


@pytest.mark.parametrize("option", ["model.norm=rmsnorm", "model.sigma_reparam=true", *ARCHITECTURE])
def test_causality(option: str) -> None:
    seen, future = _leak(gpt(option), position=9)
    assert (seen > 0).all()
    assert (future == 0).all()


def test_causality_fails_for_attention_that_looks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: original(q, k, v))
    _, future = _leak(gpt(), position=9)
    assert (future > 0).any()


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_the_output(option: str) -> None:
    x_BT = tokens(2, T, V)
    base = gpt("model.mlp_hidden=null")(x_BT)
    assert not torch.allclose(gpt(option)(x_BT), base, atol=1e-4)


def test_an_option_at_its_default_does_not() -> None:
    x_BT = tokens(2, T, V)
    assert torch.equal(gpt("model.norm=rmsnorm", "model.rope_base=10000")(x_BT), gpt()(x_BT))


def test_mix_fraction_is_between_pre_and_post() -> None:
    x_BT = tokens(2, T, V)

    def output(*overrides: str) -> Tensor:
        return gpt(*overrides)(x_BT)

    mix = "model.norm_placement=mix"
    assert torch.equal(output(mix, "model.mix_fraction=0"), output())
    assert torch.equal(output(mix, "model.mix_fraction=1"), output("model.norm_placement=post"))
    assert not torch.equal(output(mix, "model.mix_fraction=0.5"), output(mix, "model.mix_fraction=0.25"))


@pytest.mark.parametrize("param", ["standard", "mup", "completep"])
@pytest.mark.parametrize("tied", ["true", "false"])
def test_initial_loss_is_ln_v(param: str, tied: str) -> None:
    """Within 2 %, at several sizes; a readout at full scale is the control."""

    def relative_excess(*overrides: str) -> float:
        config = resolve(compose([f"param={param}", f"model.tie_embeddings={tied}", *overrides]), cuda=False)
        model = build(config.model, config.param, vocab_size=257, context=64, seed=1)
        x_BT = tokens(16, 65, 257)
        loss = F.cross_entropy(model(x_BT[:, :-1]).flatten(0, 1), x_BT[:, 1:].flatten())
        return abs(loss.item() / torch.log(torch.tensor(257.0)).item() - 1)

    for model in ("gpt_10k", "gpt_100k", "gpt_300k"):
        assert relative_excess(f"model={model}") < 0.02
    assert relative_excess("model=gpt_10k", "param.readout_scale=2", "param.base_width=16") > 0.02


def test_rope_sees_only_distance() -> None:
    """<R(i) q, R(j) k> depends on i - j alone; without the rotation it would be constant."""
    cos, sin = rope_tables(32, 8, 10_000.0)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    products = rotate(q.expand(32, 8), cos, sin) @ rotate(k.expand(32, 8), cos, sin).T
    for distance in (0, 1, 5):
        along = products.diagonal(-distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-5)
    assert not torch.allclose(products[5, 0], products[1, 0], atol=1e-3)


def test_layernorm_scaling_divides_by_the_root_of_the_block_number() -> None:
    model = gpt("model.layernorm_scaling=true")
    x = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    for number, block in enumerate(model.blocks, start=1):
        rms = block.attention.norm_input(x).square().mean().sqrt()
        assert rms.item() == pytest.approx(number**-0.5, rel=1e-3)
    assert model.final_norm(x).square().mean().sqrt().item() == pytest.approx(1, rel=1e-3)


def test_peri_variance_grows_linearly_and_post_stays() -> None:
    """Kim et al. 2025: at init, about one unit per sublayer for peri, constant for post."""

    def output_variance(placement: str) -> list[float]:
        seen: list[float] = []

        def tap(name: str, _: int, x: Tensor) -> None:
            if name == "block_output":
                seen.append(x.var().item())

        gpt(f"model.norm_placement={placement}", "model.depth=8")(tokens(4, T, V), tap)
        return seen

    peri, post = output_variance("peri"), output_variance("post")
    assert peri[7] / peri[1] == pytest.approx(17 / 5, rel=0.3)
    assert post[7] / post[1] == pytest.approx(1, rel=0.1)


def test_softcap_bounds_the_logits() -> None:
    x_BT = tokens(2, T, V)
    loud = ["param.readout_scale=50"]
    assert gpt(*loud)(x_BT).abs().max() > 10
    assert gpt(*loud, "model.softcap=5")(x_BT).abs().max() <= 5


def test_tap_sees_the_logits_of_the_fused_kernel() -> None:
    """The explicit attention logits, put through a softmax, give what the fused kernel gave."""
    model = gpt()
    attention = model.blocks[0].attention.branch
    x_BTD = torch.randn(2, T, 32, generator=torch.Generator().manual_seed(0))
    seen: dict[str, Tensor] = {}
    fused = attention(x_BTD, model.cos_TK2, model.sin_TK2, seen.__setitem__)
    v_BHTK = attention._split(attention.value(x_BTD))
    explicit = attention.out((seen["attention_logits"].softmax(-1) @ v_BHTK).transpose(-3, -2).flatten(-2))
    assert torch.allclose(explicit, fused, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the probe keeps its precision where the model does not
        attention(x_BTD, model.cos_TK2, model.sin_TK2, seen.__setitem__)
    assert seen["attention_logits"].dtype == torch.float32
    assert not torch.allclose(attention.out(v_BHTK.transpose(-3, -2).flatten(-2)), fused, atol=1e-3)


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # the fused kernel has no batching rule; the result counts
@pytest.mark.parametrize(
    "option",
    [
        "model.norm=rmsnorm",
        "model.depth=0",
        "model.qk_norm=qkv",
        "model.qk_rms=5",
        "model.attention_softcap=2",
        "model.sigma_reparam=true",
        "model.stages=2",
        "model.templates=3",
        "model.param_tokens=24",
    ],
)
def test_vmap_lifts_the_model(option: str) -> None:
    first, second = gpt(option, seed=0), gpt(option, seed=1)
    x_BT = tokens(2, T, V)
    stacked = {name: torch.stack([p, second.state_dict()[name]]) for name, p in first.state_dict().items()}
    lifted = torch.func.vmap(lambda weights: torch.func.functional_call(first, weights, (x_BT,)))(stacked)
    assert torch.allclose(lifted[0], first(x_BT), atol=1e-5)
    assert torch.allclose(lifted[1], second(x_BT), atol=1e-5)
    assert not torch.allclose(lifted[0], lifted[1], atol=1e-2)


def _seen(model: GPT, x_BT: Tensor, **arguments: frozenset[int]) -> dict[tuple[str, int], Tensor]:
    seen: dict[tuple[str, int], Tensor] = {}

    def tap(name: str, layer: int, x: Tensor) -> None:
        assert (name, layer) not in seen
        seen[name, layer] = x

    model(x_BT, tap, **arguments)
    return seen


def test_taps_add_up_to_the_stream() -> None:
    """Branches are shown before the residual multiplier, and with it make the block's output."""
    model = gpt("param=completep", "param.base_depth=2")
    seen = _seen(model, tokens(2, T, V))
    x_BTD = seen["embedding", 0]
    assert torch.equal(x_BTD, model.embed(tokens(2, T, V)))
    for layer in range(4):
        branches_BTD = seen["attention_out", layer] + seen["mlp_out", layer]
        assert torch.allclose(x_BTD + 0.5 * branches_BTD, seen["block_output", layer], atol=1e-5)
        assert not torch.allclose(x_BTD + branches_BTD, seen["block_output", layer], atol=1e-2)
        x_BTD = seen["block_output", layer]


def test_a_tapped_branch_has_passed_its_norm() -> None:
    for placement, unit in (("peri", True), ("pre", False)):
        branch_BTD = _seen(gpt(f"model.norm_placement={placement}"), tokens(2, T, V))["mlp_out", 1]
        assert (branch_BTD.square().mean().sqrt().item() == pytest.approx(1, rel=1e-3)) is unit


def test_skipped_blocks_are_left_out() -> None:
    model, x_BT = gpt(), tokens(2, T, V)
    seen = _seen(model, x_BT, skip=frozenset({1}))
    assert {layer for name, layer in seen if name == "block_output"} == {0, 2, 3}
    assert not torch.allclose(model(x_BT, skip=frozenset({1})), model(x_BT), atol=1e-3)
    model.blocks[1] = torch.nn.Identity()  # the test's own way of leaving it out
    model.blocks[1].forward = lambda x, *_: x
    assert torch.equal(model(x_BT), seen["logits", 0])
    bare = model.read_out(model.final_norm(model.embed(x_BT)))
    assert torch.equal(model(x_BT, skip=frozenset(range(4))), bare)


@pytest.mark.parametrize("param", ["standard", "mup"])
def test_without_blocks_only_the_last_token_counts(param: str) -> None:
    x_BT = tokens(2, T, V)
    other_BT = torch.cat((tokens(2, T - 1, V, seed=1), x_BT[:, -1:]), dim=1)
    bigrams, one_block = gpt("model.depth=0", f"param={param}"), gpt("model.depth=1", f"param={param}")
    assert torch.equal(bigrams(x_BT)[:, -1], bigrams(other_BT)[:, -1])
    assert not torch.allclose(one_block(x_BT)[:, -1], one_block(other_BT)[:, -1], atol=1e-3)
    assert set(_seen(bigrams, x_BT)) == {("embedding", 0), ("logits", 0)}


def test_weights_depend_on_seed_and_name_only() -> None:
    """An added option leaves every shared parameter as it was."""
    plain, normed = dict(gpt().named_parameters()), dict(gpt("model.qk_norm=head").named_parameters())
    assert set(plain) < set(normed)
    assert all(torch.equal(weight, normed[name]) for name, weight in plain.items())
    other = dict(gpt(seed=1).named_parameters())
    assert not torch.equal(plain["tokens.weight"], other["tokens.weight"])

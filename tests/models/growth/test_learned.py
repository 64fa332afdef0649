"""Growth by learned maps, and by new combinations of templates: formulas, what is kept, costs, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from conf.config import Config
from conf.schema import GrowConfig
from models.count import learn_flops
from models.gpt import GPT
from models.growth.grow import grow_state
from models.growth.learned import LearnedGrowth
from models.growth.rules import GrowthError
from models.growth.templates import orthogonal_rows, untie_templates
from tests.helpers import tokens
from tests.models.growth.test_grow import (
    ARCHITECTURES,
    DEEP,
    EXACT,
    SIGMA,
    TOKENS,
    WIDE,
    T,
    V,
    change,
    fresh_model,
    grown,
    growth_of,
    of,
    settings,
    trained_like,
)

MIX = ["model.norm_placement=mix"]
UNMIXED = [names for names in ARCHITECTURES if not {*MIX, "model.depth=0"} & set(names)]
LEARN_DEPTH, LEARN_WIDTH = GrowConfig(depth="learn"), GrowConfig(width="learn")
LEARN_BOTH = GrowConfig(depth="learn", width="learn")


def learned(base: GPT, before: Config, after: Config, how: GrowConfig) -> LearnedGrowth:
    fresh = fresh_model(after).state_dict()
    return LearnedGrowth(base.state_dict(), fresh, growth_of(before, after, **vars(how)))


def model_of(growth: LearnedGrowth, after: Config) -> GPT:
    model = fresh_model(after)
    model.load_state_dict(growth.grown_state(), strict=True)
    return model


def pair(*names: str, base_sizes: dict[str, Any] | None = None, **sizes: Any) -> tuple[GPT, Config, Config]:
    small = {**of(list(names)), **(base_sizes or {})}
    before = settings(*names, **small)
    return trained_like(before), before, settings(*names, **{**small, **sizes})


@torch.no_grad()
def shake(growth: LearnedGrowth) -> None:
    """Every map away from where it begins."""
    generator = torch.Generator().manual_seed(5)
    for each in growth.parameters():
        each.add_(torch.randn(each.shape, generator=generator, dtype=each.dtype))


# --- the formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", UNMIXED, ids=str)
def test_learned_depth_begins_as_stack(names: list[str]) -> None:
    """Exactly; with any map moved it is something else."""
    base, before, after = pair(*names, **DEEP)
    stacked = grown(base, before, after, depth="stack").state_dict()
    growth = learned(base, before, after, LEARN_DEPTH)
    assert not growth.width_maps
    for name, tensor in growth.grown_state().items():
        assert torch.equal(tensor, stacked[name])
    shake(growth)
    inside = [name for name in stacked if name.startswith("blocks.")]
    assert not any(torch.equal(growth.grown_state()[name], stacked[name]) for name in inside)


def test_learned_depth_is_a_sum_over_the_bases_blocks() -> None:
    base, before, after = pair(depth=3)
    growth = learned(base, before, after, LEARN_DEPTH)
    shake(growth)
    state, old = growth.grown_state(), base.state_dict()
    for kind in ("attention.branch.key.weight", "mlp.norm_input.gain"):
        D = growth.depth_maps[kind.replace(".", "/")]
        for block in range(3):
            by_hand = sum(D[block, j] * old[f"blocks.{j}.{kind}"] for j in range(2))
            torch.testing.assert_close(state[f"blocks.{block}.{kind}"], by_hand)
    assert torch.equal(state["readout.weight"], old["readout.weight"])


def test_learned_width_by_hand() -> None:
    base, before, after = pair("model.activation=swiglu", "model.qk_norm=model", **WIDE)
    growth = learned(base, before, after, LEARN_WIDTH)
    shake(growth)
    B, state, old = dict(growth.width_maps), growth.grown_state(), base.state_dict()
    assert set(B) == {"residual", "query", "key", "value", "hidden"}
    expected = {
        "tokens.weight": old["tokens.weight"] @ B["residual"].T,
        "readout.weight": old["readout.weight"] @ B["residual"].T,
        "final_norm.gain": B["residual"] @ old["final_norm.gain"],
    }
    for block, (kind, left, right) in enumerate(
        [("attention.branch.query", "query", "residual"), ("attention.branch.out", "residual", "value")]
    ):
        name = f"blocks.{block}.{kind}.weight"
        expected[name] = B[left] @ old[name] @ B[right].T
    name = "blocks.1.attention.branch.key_norm.gain"
    expected[name] = B["key"] @ old[name]
    for kind, left, right in (("gate", "hidden", "residual"), ("down", "residual", "hidden")):
        name = f"blocks.1.mlp.branch.{kind}.weight"
        expected[name] = B[left] @ old[name] @ B[right].T
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor)


@pytest.mark.parametrize("names", [names for names in ARCHITECTURES if "param=mup" not in names], ids=str)
def test_learned_width_begins_with_the_base_in_its_corner(names: list[str]) -> None:
    base, before, after = pair(*names, **WIDE)
    growth = learned(base, before, after, LEARN_WIDTH)
    old = base.state_dict()
    for name, tensor in growth.grown_state().items():
        assert torch.equal(tensor[tuple(slice(size) for size in old[name].shape)], old[name])
    residual = growth.width_maps["residual"]
    assert torch.equal(residual[:16], torch.eye(16, dtype=torch.float64))
    assert residual[16:].std().item() == pytest.approx(32**-0.5, rel=0.2)
    shake(growth)
    corner = growth.grown_state()["tokens.weight"][:, :16]
    assert not torch.allclose(corner, old["tokens.weight"], atol=1e-2)


def test_only_what_grows_has_a_map() -> None:
    for sizes, maps in (
        ({"mlp_hidden": 30}, {"hidden"}),
        ({"width": 32, "heads": 4}, {"residual", "query", "key", "value"}),
    ):
        assert set(learned(*pair(**sizes), LEARN_WIDTH).width_maps) == maps
    more = {"param_tokens": 9, "mlp_hidden": 30}
    maps = set(learned(*pair(base_sizes={"param_tokens": 6}, **more), LEARN_WIDTH).width_maps)
    assert maps == {"hidden", *(f"{kind}_tokens" for kind in ("query", "key", "value", "out"))}


def test_a_tied_readout_makes_up_for_its_multiplier() -> None:
    """muP's 1/m halves with twice the width; without it the gain is the map's alone."""
    for names, factor in ((["param=mup", "param.base_width=8"], 2), ([], 1)):
        base, before, after = pair("model.tie_embeddings=true", *names, **WIDE)
        for how in (LEARN_WIDTH, LEARN_BOTH):
            sized = after if how is LEARN_WIDTH else settings("model.tie_embeddings=true", *names, **WIDE, **DEEP)
            growth = learned(base, before, sized, how)
            gain = growth.grown_state()["final_norm.gain"][:16]
            torch.testing.assert_close(gain, factor * base.state_dict()["final_norm.gain"])


# --- one learned, and the other not ----------------------------------------------------------------------


@pytest.mark.parametrize("names", [[], ["model.tie_embeddings=true", "param=mup"], TOKENS, ["model.templates=3"]])
def test_learned_depth_over_blocks_that_were_widened_first(names: list[str]) -> None:
    """With `direct` it begins as the function of the stacked model, which it is not once the maps have moved."""
    base, before, after = pair(*names, **DEEP, **WIDE)
    deep = settings(*names, **DEEP)
    growth = learned(base, before, after, GrowConfig(depth="learn", width="direct"))
    assert not growth.width_maps
    stacked = grown(base, before, deep, depth="stack")
    assert change(stacked, model_of(growth, after)) < EXACT
    shake(growth)
    assert change(stacked, model_of(growth, after)) > 1e-2


@pytest.mark.parametrize("depth", ["stack", "interpolate", "zero"])
def test_learned_width_over_all_blocks(depth: str) -> None:
    base, before, after = pair(**DEEP, **WIDE)
    deep = settings(**DEEP)
    growth = learned(base, before, after, GrowConfig(depth=depth, width="learn"))
    assert not growth.depth_maps
    narrow, state = grown(base, before, deep, depth=depth).state_dict(), growth.grown_state()
    for name, tensor in narrow.items():
        assert torch.equal(state[name][tuple(slice(size) for size in tensor.shape)], tensor)
    zeros = [name for name, tensor in state.items() if (tensor == 0).all()]
    assert len(zeros) == (4 if depth == "zero" else 0)


def test_learning_both_widens_and_mixes() -> None:
    base, before, after = pair(**DEEP, **WIDE)
    growth = learned(base, before, after, LEARN_BOTH)
    shake(growth)
    wide, name = dict(growth.width_maps), "mlp.branch.up.weight"
    D = growth.depth_maps[name.replace(".", "/")]
    old = torch.stack([base.state_dict()[f"blocks.{j}.{name}"] for j in range(2)])
    by_hand = wide["hidden"] @ torch.einsum("j,joi->oi", D[3], old) @ wide["residual"].T
    torch.testing.assert_close(growth.grown_state()[f"blocks.3.{name}"], by_hand)


@pytest.mark.parametrize("names", UNMIXED, ids=str)
def test_the_loss_reaches_every_map_and_nothing_else(names: list[str]) -> None:
    """Gradients exist and are not zero; the base's weights have none, and stay as they are."""
    base, before, after = pair(*names, **DEEP, **WIDE)
    kept = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    growth = learned(base, before, after, LEARN_BOTH)
    before_step = growth.grown_state()
    functional_call(fresh_model(after), before_step, (tokens(3, T, V),)).square().mean().backward()
    assert {map_.dtype for map_ in growth.parameters()} == {torch.float64}
    assert all(map_.grad is not None and (map_.grad != 0).any() for map_ in growth.parameters())
    torch.optim.Adam(growth.parameters(), lr=0.1).step()
    after_step = growth.grown_state()
    assert all(torch.equal(base.state_dict()[name], tensor) for name, tensor in kept.items())
    assert not any(p.grad is not None for p in base.parameters())
    assert not any(torch.equal(after_step[name], tensor) for name, tensor in before_step.items() if tensor.ndim > 1)


def test_stages_are_what_is_added_up() -> None:
    """From 2 blocks in 4 places to 3 in 6, and to 6 of their own; both begin with the first block after the second."""
    for sizes in ({"depth": 6, "stages": 3}, {"depth": 6, "stages": "null"}):
        base, before, after = pair(base_sizes={"depth": 4, "stages": 2}, **sizes)
        growth = learned(base, before, after, LEARN_DEPTH)
        assert {tuple(each.shape) for each in growth.parameters()} == {(after.model.n_blocks, 2)}
        state, old = model_of(growth, after).state_dict(), base.state_dict()
        for block in range(after.model.n_blocks):
            name = "attention.branch.out.weight"
            assert torch.equal(state[f"blocks.{block}.{name}"], old[f"blocks.{block % 2}.{name}"])


# --- what it costs ---------------------------------------------------------------------------------------

COSTS = [
    ([], DEEP, LEARN_DEPTH),
    ([], WIDE, LEARN_WIDTH),
    ([], {**DEEP, **WIDE}, LEARN_BOTH),
    ([], {**DEEP, "mlp_hidden": 30}, LEARN_BOTH),
    ([], {**DEEP, **WIDE}, GrowConfig(depth="learn", width="direct")),
    ([], {**DEEP, **WIDE}, GrowConfig(width="learn")),
    (["model.activation=swiglu", "model.qk_norm=model", "model.position=learned"], {**DEEP, **WIDE}, LEARN_BOTH),
    (["model.norm_placement=peri", "model.tie_embeddings=true", "model.qk_norm=head"], {**DEEP, **WIDE}, LEARN_BOTH),
    (["model.qk_norm=qkv"], {**DEEP, **WIDE}, LEARN_BOTH),
    ([], {**DEEP, **WIDE, "param_tokens": 9}, LEARN_BOTH),
    ([], {"param_tokens": 9}, LEARN_WIDTH),
    (["model.templates=3", "model.activation=swiglu"], {**DEEP, **WIDE}, LEARN_BOTH),
    (["model.templates=3"], WIDE, LEARN_WIDTH),
    (["model.depth=0"], WIDE, LEARN_WIDTH),
]


@pytest.mark.parametrize(("names", "sizes", "how"), COSTS, ids=str)
def test_flops_of_forming_the_weights_agree_with_torch(
    names: list[str], sizes: dict[str, Any], how: GrowConfig
) -> None:
    base_sizes = {"param_tokens": 6} if "param_tokens" in sizes else {}
    base, before, after = pair(*names, base_sizes=base_sizes, **sizes)
    growth = learned(base, before, after, how)
    with FlopCounterMode(display=False) as counter:
        state = growth.grown_state()
    forward = counter.get_total_flops()
    formed = [tensor for tensor in state.values() if tensor.requires_grad]
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(formed, [torch.ones_like(tensor) for tensor in formed])
    counted = learn_flops(before.model, after.model, how, vocab_size=V, context=T)
    assert counted == (forward, counter.get_total_flops())
    assert min(counted) > 0


# --- templates -------------------------------------------------------------------------------------------


def untied(names: list[str], depth: int) -> tuple[GPT, GPT, Config]:
    """A base with three templates, and the model with matrices of its own that comes of it."""
    before, after = settings(*names, templates=3), settings(*names, depth=depth)
    base = trained_like(before)
    state, left = untie_templates(base.state_dict(), growth_of(before, after, depth="templates"))
    assert left.base == after.model
    assert left.how.depth == "stack"
    grown_model = fresh_model(after)
    grown_model.load_state_dict(state, strict=True)
    return base, grown_model, after


@pytest.mark.parametrize("names", [names for names in UNMIXED if names not in (TOKENS, ["model.templates=3"])], ids=str)
def test_templates_are_untied_in_place(names: list[str]) -> None:
    """The same function with as many blocks, and another one with more."""
    base, model, _ = untied(names, depth=2)
    assert change(base, model) < EXACT
    base, model, _ = untied(names, depth=5)
    assert change(base, model) > 1e-2


def test_new_blocks_are_new_combinations() -> None:
    """In 5 places for 2 blocks, 0, 0, 0, 1, 1: matrices in the span of the templates; the first new one is orthogonal
    to both old ones in its coefficients, and as no fourth direction is left, the others are not."""
    base, model, _ = untied([], depth=5)
    old, new = base.state_dict(), model.state_dict()
    for kind in ("attention.branch.query", "mlp.branch.down"):
        templates_3N = old[f"templates.{kind.split('.')[-1]}"].flatten(1)
        made_5N = torch.stack([new[f"blocks.{place}.{kind}.weight"].flatten() for place in range(5)])
        found_53 = torch.linalg.lstsq(templates_3N.T, made_5N.T).solution.T
        torch.testing.assert_close(found_53 @ templates_3N, made_5N)
        known_23 = torch.stack([old[f"blocks.{block}.{kind}.coefficients"] for block in range(2)])
        torch.testing.assert_close(found_53[[0, 3]], known_23)
        torch.testing.assert_close(found_53[[1, 2, 4]].norm(dim=1), known_23.norm(dim=1).mean().expand(3))
        assert (found_53[1] @ known_23.T).abs().max() < EXACT
        assert (found_53[2] @ found_53[[0, 1, 3]].T).abs().max() > 1e-2
    for place, block in enumerate([0, 0, 0, 1, 1]):
        gain = f"blocks.{block}.mlp.norm_input.gain"
        assert torch.equal(new[f"blocks.{place}.mlp.norm_input.gain"], old[gain])


def test_orthogonal_rows() -> None:
    """Orthogonal while there is room, and the least covered direction then; the largest entry is positive."""
    known = torch.tensor([[0.0, 3.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    rows = orthogonal_rows(known, 2)
    everything = torch.cat((known, rows))
    gram = everything @ everything.T
    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), 2.0, dtype=torch.float64))
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()
    torch.testing.assert_close(orthogonal_rows(known, 3)[2].abs(), torch.tensor([2.0, 0, 0, 0], dtype=torch.float64))
    assert torch.equal(orthogonal_rows(torch.tensor([[-0.5]]), 2), torch.tensor([[0.5], [0.5]]))


def test_untied_templates_grow_in_width_afterwards() -> None:
    """What is left is an ordinary growth between two models of as many blocks."""
    base, model, middle = untied([], depth=2)
    wide = settings(depth=2, **{name: WIDE[name] for name in ("width", "heads", "mlp_hidden")})
    assert change(base, grown(model, middle, wide, width="direct")) < EXACT
    learned(model, middle, wide, GrowConfig(width="learn"))


# --- what cannot be --------------------------------------------------------------------------------------

IMPOSSIBLE: list[tuple[list[str], dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    # overrides of both, sizes of the base, sizes of the grown model, how -> what the line says
    ([], {}, {}, {"depth": "learn"}, "grow.depth: 'learn' has nothing to learn between two models of 2 blocks"),
    ([], {}, {"depth": 1}, {"depth": "learn"}, "model.depth: 1 is less than the base's 2"),
    ([], {"depth": 0}, {"depth": 2}, {"depth": "learn"}, "the base's blocks, and there are none; allowed: random"),
    (MIX, {"mix_fraction": 0.5}, DEEP, {"depth": "learn"}, "in different places: post, pre; allowed: all of them in"),
    (SIGMA, {}, DEEP, {"depth": "learn"}, "grow.depth: 'learn' is not allowed with model.sigma_reparam=true"),
    ([], {}, DEEP, {"width": "learn"}, "grow.width: 'learn' has nothing to learn between two models of width 16"),
    ([], {"depth": 0}, {"mlp_hidden": 48}, {"width": "learn"}, "grow.width: 'learn' has nothing to learn"),
    (
        [],
        {},
        {**DEEP, **WIDE},
        {"depth": "random", "width": "learn"},
        "grow.depth: 'random' is not allowed with grow.w",
    ),
    ([], {}, {"width": 20, "heads": 2}, {"width": "learn"}, "model.heads: 2 gives heads of 10, but the base's have 8"),
    ([], {}, {"width": 8, "heads": 1}, {"width": "learn"}, "model.width: 8 is less than the base's 16"),
    ([], {}, DEEP, {"depth": "templates"}, "grow.depth: 'templates' is not allowed with a base whose blocks have mat"),
    ([], {"templates": 2}, DEEP, {"depth": "templates"}, "model.templates: 2 is not allowed with grow.depth=templates"),
    ([], {"templates": 2}, {"depth": 1, "templates": "null"}, {"depth": "templates"}, "model.depth: 1 is less than"),
    (
        MIX,
        {"templates": 2, "mix_fraction": 0.5},
        {**DEEP, "templates": "null", "mix_fraction": 0.75},
        {"depth": "templates"},
        "grow.depth: 'templates' puts block 1, of pre-norm, where blocks have post-norm",
    ),
]


@pytest.mark.parametrize(
    ("names", "base_sizes", "sizes", "how", "line"), IMPOSSIBLE, ids=[row[4] for row in IMPOSSIBLE]
)
def test_impossible_growth_is_one_line(
    names: list[str], base_sizes: dict[str, Any], sizes: dict[str, Any], how: dict[str, Any], line: str
) -> None:
    before, after = settings(*names, **base_sizes), settings(*names, **{**base_sizes, **sizes})
    base = trained_like(before)

    def grow() -> None:
        if how.get("depth") == "templates":
            untie_templates(base.state_dict(), growth_of(before, after, **how))
        else:
            learned(base, before, after, GrowConfig(**how))

    with pytest.raises(GrowthError, match=line) as raised:
        grow()
    assert "\n" not in str(raised.value)
    assert "allowed: " in str(raised.value)


def test_what_mix_allows() -> None:
    """Blocks that all normalise in one place can be added up; templates may follow an order that leaves them there."""
    before, after = settings(*MIX, mix_fraction=0), settings(*MIX, **DEEP, mix_fraction=0)
    learned(trained_like(before), before, after, LEARN_DEPTH)
    before = settings(*MIX, mix_fraction=0.5, templates=2)
    after = settings(*MIX, **DEEP, mix_fraction=0.5)
    state, _ = untie_templates(trained_like(before).state_dict(), growth_of(before, after, depth="templates"))
    fresh_model(after).load_state_dict(state, strict=True)


def test_vocabularies_must_agree() -> None:
    base, before, after = pair(**WIDE)
    other: dict[str, Tensor] = fresh_model(after, vocab_size=V + 1).state_dict()
    with pytest.raises(GrowthError, match=r"data\.vocab_size: 41"):
        LearnedGrowth(base.state_dict(), other, growth_of(before, after, width="learn"))
    with pytest.raises(KeyError):  # no operator of the maps that are fixed
        grow_state(base.state_dict(), fresh_model(after).state_dict(), growth_of(before, after, width="learn"))

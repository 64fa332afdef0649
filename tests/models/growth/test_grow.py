"""Growth: what keeps the function, and what does not; where each tensor comes from; what cannot be grown."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from conf.compose import compose
from conf.config import Config, resolve
from conf.schema import GrowConfig
from models import blocks
from models.build import build
from models.gpt import GPT
from models.growth import width as grow_width
from models.growth.grow import grow_moments, grow_state
from models.growth.rules import Growth, GrowthError, block_sources, check_growth
from models.growth.width import shares, widen
from models.roles import Role, Weight
from tests.helpers import tokens

V, T = 40, 12
EXACT = 1e-10  # in float64
SMALL = {"depth": 2, "width": 16, "heads": 2, "mlp_hidden": 24}
DEEP = {"depth": 4}
WIDE = {"width": 32, "heads": 4, "mlp_hidden": 72}  # channels and heads twice, hidden units three times


def settings(*overrides: str, **sizes: Any) -> Config:
    """A small model; sizes are fields of `model`."""
    model = [
        f"model.{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in {**SMALL, **sizes}.items()
    ]
    return resolve(compose([*model, "param.readout_scale=1.0", *overrides]), cuda=False)


def fresh_model(config: Config, seed: int = 1, vocab_size: int = V, context: int = T) -> GPT:
    return build(config.model, config.param, vocab_size=vocab_size, context=context, seed=seed).double()


def trained_like(config: Config) -> GPT:
    """Every weight and every gain random and large enough to matter, each gain different from the others."""
    model, generator = fresh_model(config, seed=0), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim < 2:
                parameter.mul_(0.5 + noise)
            else:
                parameter.add_(0.6 * (noise - 0.5))
    for _ in range(5):
        model.iterate_sigmas()
    return model


def growth_of(before: Config, after: Config, **how: Any) -> Growth:
    return Growth(base=before.model, base_param=before.param, cfg=after.model, param=after.param, how=GrowConfig(**how))


def grown(base: GPT, before: Config, after: Config, **how: Any) -> GPT:
    """The grown model; every name must be there, and no other."""
    fresh = fresh_model(after)
    state = grow_state(base.state_dict(), fresh.state_dict(), growth_of(before, after, **how))
    fresh.load_state_dict(state, strict=True)
    return fresh


@torch.no_grad()
def change(one: GPT, other: GPT) -> float:
    """The largest difference of the logits, over their standard deviation."""
    x_BT = tokens(3, T, V)
    logits_BTV = one(x_BT)
    return ((other(x_BT) - logits_BTV).abs().max() / logits_BTV.std()).item()


def change_by(*overrides: str, sizes: dict[str, Any], base_sizes: dict[str, Any] | None = None, **how: Any) -> float:
    """How much the function changes where a model with these settings grows to these sizes."""
    before = settings(*overrides, **(base_sizes or {}))
    after = settings(*overrides, **{**(base_sizes or {}), **sizes})
    base = trained_like(before)
    return change(base, grown(base, before, after, **how))


TOKENS = ["model.param_tokens=6"]
ARCHITECTURES = [
    ["model.norm=rmsnorm"],
    ["model.norm_placement=post"],
    ["model.norm_placement=peri"],
    ["model.norm_placement=mix", "model.mix_fraction=0.5"],
    ["model.layernorm_scaling=true"],
    ["model.qk_norm=head"],
    ["model.qk_norm=model"],
    ["model.qk_norm=qkv"],
    ["model.qk_rms=5"],
    ["model.attention_scale=1/d", "model.softcap=5"],
    ["model.position=learned"],
    ["model.activation=relu2"],
    ["model.activation=swiglu"],
    ["model.tie_embeddings=true"],
    ["model.tie_embeddings=true", "model.position=learned", "param=mup", "param.base_width=8"],
    ["model.tie_embeddings=true", "param=mup", "param.variant=simple", "param.base_width=8"],
    ["param=completep", "param.base_width=8", "param.base_depth=1"],
    ["model.depth=0"],
    TOKENS,
    ["model.templates=3"],
]
POST = [names for names in ARCHITECTURES if {"model.norm_placement=post", "model.norm_placement=mix"} & set(names)]


def of(names: list[str]) -> dict[str, Any]:
    """Sizes that an architecture names itself."""
    return {"depth": 0} if "model.depth=0" in names else {}


# --- what keeps the function -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [*ARCHITECTURES, ["model.norm=layernorm"], ["model.norm=layernorm", *POST[1]]], ids=str
)
def test_direct_width_keeps_the_function(names: list[str]) -> None:
    """Splitting what is summed over is what does it; copies alone are the control."""
    assert change_by(*names, base_sizes=of(names), sizes=WIDE) < EXACT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grow_width, "shares", lambda _seed, _name, shape, *_: torch.ones(shape))
        loud = change_by(*names, base_sizes=of(names), sizes=WIDE)
    assert loud > 1e-2


@pytest.mark.parametrize("sizes", [{"mlp_hidden": 96}, {"width": 48, "heads": 6}, {"width": 32, "heads": 4}], ids=str)
def test_direct_width_of_any_axis(sizes: dict[str, int]) -> None:
    assert change_by(sizes=sizes) < EXACT
    assert change_by(sizes=sizes, width="random") > 1e-2


@pytest.mark.parametrize("names", [names for names in ARCHITECTURES if names != TOKENS], ids=str)
def test_zero_width_keeps_the_function_up_to_epsilon(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly so where the norms have no epsilon to speak of. It needs no whole factor."""
    growth = {"base_sizes": of(names), "sizes": {"width": 40, "heads": 5, "mlp_hidden": 30}}
    assert change_by(*names, **growth, width="zero") < 1e-3
    monkeypatch.setattr(blocks, "NORM_EPS", 1e-30)
    assert change_by(*names, **growth, width="zero") < EXACT
    assert change_by(*names, **growth, width="random") > 1e-2


def test_zero_width_adds_hidden_units_to_layernorm_models() -> None:
    """With the width as it was, the norms see nothing new."""
    assert change_by("model.norm=layernorm", sizes={"mlp_hidden": 30}, width="zero") < EXACT
    assert change_by("model.norm=layernorm", sizes={"mlp_hidden": 30}, width="random") > 1e-2


@pytest.mark.parametrize("wider", [{}, {"width": 32, "heads": 4}], ids=str)
def test_new_parameter_tokens_keep_the_function_if_tau_is_right(
    wider: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero keys keep |A|, so tau has to stay; copies double |A|², so tau² has to grow with them."""
    monkeypatch.setattr(blocks, "NORM_EPS", 1e-30)
    base = {"param_tokens": 8, "param_tau": 0.8}
    twice = {"param_tokens": 16, "mlp_hidden": 48, **wider}
    for width, tau, other_tau in (("zero", 0.4, 0.8), ("direct", 0.8, 0.4)):
        assert change_by(base_sizes=base, sizes={**twice, "param_tau": tau}, width=width) < EXACT
        assert change_by(base_sizes=base, sizes={**twice, "param_tau": other_tau}, width=width) > 1e-2


PRE = [names for names in ARCHITECTURES if names not in [*POST, ["model.depth=0"]]]
SIGMA = ["model.sigma_reparam=true"]


@pytest.mark.parametrize(
    "names",
    [
        *PRE,
        ["model.norm=layernorm"],
        SIGMA,
        [*SIGMA, "model.norm_placement=peri"],
        *([*names, "param=completep", "param.base_depth=1"] for names in (SIGMA, ["model.norm_placement=peri"])),
        ["model.norm_placement=mix", "model.mix_fraction=0"],
    ],
    ids=str,
)
def test_zero_depth_keeps_the_function(names: list[str]) -> None:
    for depth in (3, 4, 7):
        assert change_by(*names, sizes={"depth": depth}, depth="zero") < EXACT
    assert change_by(*names, sizes=DEEP, depth="stack") > 1e-2


def test_zero_depth_next_to_direct_width_keeps_the_function() -> None:
    assert change_by(sizes={**DEEP, **WIDE}, depth="zero") < EXACT
    assert change_by(sizes={**DEEP, **WIDE}, depth="zero", noise=0.2) > 1e-2


@pytest.mark.parametrize("names", [["model.norm=rmsnorm"], SIGMA, TOKENS, ["model.norm_placement=peri"]], ids=str)
def test_new_blocks_of_zero_depth_learn(names: list[str]) -> None:
    """What is zero has a gradient, or the blocks would stay nothing."""
    before, after = settings(*names), settings(*names, **DEEP)
    model = grown(trained_like(before), before, after, depth="zero")
    model(tokens(3, T, V)).square().mean().backward()
    zeros = [p for p in model.parameters() if (p == 0).all()]
    assert len(zeros) == 2 * 2
    assert all((p.grad != 0).any() for p in zeros)


@pytest.mark.parametrize("activation", ["gelu", "relu2", "swiglu"])
def test_new_hidden_units_of_zero_width_learn_with_gelu_only(activation: str) -> None:
    name = f"model.activation={activation}"
    before, after = settings(name), settings(name, mlp_hidden=30)
    model = grown(trained_like(before), before, after, width="zero")
    model(tokens(3, T, V)).square().mean().backward()
    new_units = model.blocks[0].mlp.branch.up.weight.grad[24:]
    assert bool((new_units != 0).any()) is (activation == "gelu")


# --- copies that differ ----------------------------------------------------------------------------------


@pytest.mark.parametrize("even", [True, False])
def test_shares_make_the_gradients_of_copies_differ(even: bool) -> None:
    """Not even in proportion, which Adam would not see. With equal shares, copies of units and heads stay copies."""
    before, after = settings(), settings(**WIDE)
    with pytest.MonkeyPatch.context() as patch:
        if even:
            patch.setattr(
                grow_width,
                "shares",
                lambda _seed, _name, shape, __, copies: torch.full(shape, 1 / copies, dtype=torch.float64),
            )
        model = grown(trained_like(before), before, after)
    model(tokens(3, T, V)).square().mean().backward()
    block = model.blocks[0]
    for gradient in (
        block.mlp.branch.up.weight.grad[[5, 5 + 24]],
        block.attention.branch.query.weight.grad[[3, 3 + 16]],
        block.attention.branch.value.weight.grad[[3, 3 + 16]],
        model.tokens.weight.grad.T[[2, 2 + 16]],
        block.mlp.norm_input.gain.grad[[2, 2 + 16]].unsqueeze(1),
    ):
        assert torch.allclose(*gradient) is even
        if len(gradient.T) > 1:
            assert (torch.corrcoef(gradient)[0, 1].item() > 1 - 1e-9) is even


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_shares_add_up_to_one_and_are_never_equal(copies: int) -> None:
    for axis, shape in ((1, (7, 4 * copies)), (0, (4 * copies, 7)), (2, (2, 7, 4 * copies))):
        drawn = shares(0, "x", torch.Size(shape), axis, copies).movedim(axis, -1).unflatten(-1, (copies, 4))
        assert torch.allclose(drawn.sum(-2), torch.ones((), dtype=torch.float64), atol=1e-14)
        gaps = [(drawn[..., i, :] - drawn[..., j, :]).abs().min() for i, j in combinations(range(copies), 2)]
        assert all(gap > 0.3 / copies**2 for gap in gaps)
        assert drawn.min() > 0
        if copies > 1:
            assert drawn[..., 0, :].unique().numel() == 7 * 4 * (2 if axis == 2 else 1), "each entry its own"
    two = shares(0, "x", torch.Size((64, 64)), 1, 2)
    assert two.min() >= 0.25
    assert two.max() <= 0.75
    assert not torch.equal(two, shares(0, "y", torch.Size((64, 64)), 1, 2))
    assert not torch.equal(two, shares(1, "x", torch.Size((64, 64)), 1, 2))


def _storages(*states: dict[str, Tensor]) -> list[int]:
    return [tensor.untyped_storage().data_ptr() for state in states for tensor in state.values()]


DEPTHS = [{"depth": name} for name in ("stack", "zero", "random", "interpolate")]
WIDTHS = [{"width": name} for name in ("direct", "zero", "random")]
NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("sizes", "how"),
    [
        *((DEEP, depth) for depth in DEPTHS),
        *((WIDE, width) for width in WIDTHS),
        *(({**DEEP, **WIDE}, {**depth, **width}) for depth in DEPTHS for width in WIDTHS),
        (NOTHING, NOTHING),
    ],
    ids=str,
)
def test_nothing_shares_storage(sizes: dict[str, int], how: dict[str, str]) -> None:
    before, after = settings(), settings(**sizes)
    base, fresh = trained_like(before).state_dict(), fresh_model(after).state_dict()
    state = grow_state(base, fresh, growth_of(before, after, **how))
    pointers = _storages(base, fresh, state)
    assert len(set(pointers)) == len(pointers)
    assert list(state) == list(fresh)
    pointers = _storages(state, {"a view": next(iter(state.values()))[0]})
    assert len(set(pointers)) < len(pointers)


# --- once and twice, and not at all ----------------------------------------------------------------------


def chain(names: list[str], *sizes: dict[str, Any], **how: Any) -> tuple[GPT, GPT]:
    """A base with the first sizes, and what it becomes through the others."""
    configs = [settings(*names, **each) for each in sizes]
    base = model = trained_like(configs[0])
    for before, after in pairwise(configs):
        model = grown(model, before, after, **how)
    return base, model


def test_stacking_twice_is_stacking_once() -> None:
    sizes = [{"depth": depth} for depth in (2, 4, 8)]
    _, twice = chain([], *sizes, depth="stack")
    _, once = chain([], sizes[0], sizes[2], depth="stack")
    _, other = chain([], sizes[0], sizes[2], depth="interpolate")
    assert all(torch.equal(tensor, once.state_dict()[name]) for name, tensor in twice.state_dict().items())
    assert not all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in twice.state_dict().items())


@pytest.mark.parametrize("how", [{"depth": "zero"}, {"width": "direct"}, {"depth": "stack"}], ids=str)
def test_what_keeps_the_function_keeps_it_twice(how: dict[str, str]) -> None:
    kept = "stack" not in how.values()
    sizes = [{"width": 16 * n, "heads": 2 * n, "mlp_hidden": 24 * n} for n in (1, 2, 4)]
    if "width" not in how:
        sizes = [{"depth": 2 * n} for n in (1, 2, 4)]
    for names in (["model.norm=rmsnorm"], ["param=completep", "param.base_depth=2"], ["model.layernorm_scaling=true"]):
        assert (change(*chain(names, *sizes, **how)) < EXACT) is kept


@pytest.mark.parametrize("names", [*ARCHITECTURES, SIGMA], ids=str)
def test_growing_nothing_returns_equal_copies(names: list[str]) -> None:
    config = settings(*names, **of(names))
    base = trained_like(config)
    in_order = ",".join(map(str, range(config.model.n_blocks)))
    for how in [NOTHING, *([{"depth": "pattern", "pattern": in_order}] if in_order else [])]:
        model = grown(base, config, config, **how)
        assert all(torch.equal(tensor, base.state_dict()[name]) for name, tensor in model.state_dict().items())
    if names != SIGMA:
        assert change(base, grown(base, config, config, noise=0.3)) > 1e-2


# --- rules of each part ----------------------------------------------------------------------------------


def test_block_sources() -> None:
    def sources(few: int, many: int, depth: str, pattern: str | None = None) -> list[int | None]:
        return block_sources(few, many, GrowConfig(depth=depth, pattern=pattern))

    assert sources(2, 6, "stack") == [0, 1, 0, 1, 0, 1]
    assert sources(2, 6, "interpolate") == sources(2, 6, "zero") == [0, 0, 0, 1, 1, 1]
    assert sources(3, 5, "interpolate") == [0, 0, 1, 1, 2]
    assert sources(3, 5, "pattern", "0,1,2,1,2") == [0, 1, 2, 1, 2]
    assert sources(2, 4, "random") == [0, 1, None, None]
    assert sources(0, 2, "random") == [None, None]
    assert sources(0, 0, "stack") == []


@pytest.mark.parametrize("depth", ["stack", "interpolate", "pattern", "random"])
def test_all_but_zero_copy_bit_by_bit(depth: str) -> None:
    """Whatever follows place or depth: LayerNorm scaling, CompleteP's multiplier, the depth-scaled init."""
    pattern = "1,1,0,1" if depth == "pattern" else None
    how = GrowConfig(depth=depth, pattern=pattern)
    for names in (
        ["model.layernorm_scaling=true", "model.position=learned"],
        ["param=completep", "param.base_depth=1"],
        ["param.scaled_residual_init=true", "model.norm_placement=peri", "model.tie_embeddings=true"],
    ):
        before, after = settings(*names), settings(*names, **DEEP)
        base, fresh = trained_like(before), fresh_model(after)
        state = grown(base, before, after, depth=depth, pattern=pattern).state_dict()
        for block, source in enumerate(block_sources(2, 4, how)):
            origin = fresh.blocks[block] if source is None else base.blocks[source]
            for name, tensor in origin.state_dict().items():
                assert torch.equal(state[f"blocks.{block}.{name}"], tensor)
        outside = [name for name in state if not name.startswith("blocks.")]
        assert len(outside) >= 3
        assert all(torch.equal(state[name], base.state_dict()[name]) for name in outside)


def test_zero_makes_up_for_place_and_depth() -> None:
    """Factors by hand: LayerNorm scaling counts places from 1; CompleteP's multiplier falls from 1/2 to 1/4."""
    names = ["model.layernorm_scaling=true", "param=completep", "param.base_depth=1", "param.depth_alpha=1"]
    before, after = settings(*names), settings(*names, **DEEP)
    base = trained_like(before)
    model = grown(base, before, after, depth="zero")
    for block, (source, place_ratio, output) in enumerate([(0, 1, 2), (0, 2, 0), (1, 3 / 2, 2), (1, 4 / 2, 0)]):
        new, old = model.blocks[block], base.blocks[source]
        for ours, theirs in ((new.attention, old.attention), (new.mlp, old.mlp)):
            assert torch.allclose(ours.norm_input.gain, theirs.norm_input.gain * place_ratio**0.5, rtol=1e-12)
        assert torch.allclose(new.attention.branch.out.weight, output * old.attention.branch.out.weight, rtol=1e-12)
        assert torch.allclose(new.mlp.branch.down.weight, output * old.mlp.branch.down.weight, rtol=1e-12)
        assert torch.equal(new.mlp.branch.up.weight, old.mlp.branch.up.weight)


@pytest.mark.parametrize(("names", "factor"), [([], 1 / 2), (["param=mup", "param.base_width=8"], 1)], ids=str)
def test_a_tied_head_is_divided_once(names: list[str], factor: float) -> None:
    """Over the copies of a channel the mean of the final norm's gain falls, unless muP's multiplier already did."""
    names = ["model.tie_embeddings=true", *names]
    before, after = settings(*names), settings(*names, **WIDE)
    base = trained_like(before)
    model = grown(base, before, after)
    copies = model.final_norm.gain.unflatten(0, (2, 16))
    assert torch.allclose(copies.mean(0), factor * base.final_norm.gain, rtol=1e-12)
    assert torch.equal(model.tokens.weight, base.tokens.weight.repeat(1, 2))


def test_zero_and_random_width_entry_by_entry() -> None:
    generator = torch.Generator().manual_seed(0)
    old, fresh = torch.randn(2, 3, generator=generator), torch.randn(4, 5, generator=generator)
    for summed in (1, 0):
        matrix = Weight(Role.HIDDEN, ("outputs", "inputs"), summed)
        zero = widen("name", matrix, old, fresh, "zero", seed=0)
        assert torch.equal(zero[:2, :3], old)
        assert torch.equal(zero[2:, 3:], fresh[2:, 3:])
        read_by_old, read_by_new = (zero[:2, 3:], zero[2:, :3]) if summed == 1 else (zero[2:, :3], zero[:2, 3:])
        assert (read_by_old != 0).all()
        assert (read_by_new == 0).all()
        random = widen("name", matrix, old, fresh, "random", seed=0)
        assert torch.equal(random[:2, :3], old)
        kept = torch.zeros(4, 5, dtype=torch.bool)
        kept[:2, :3] = True
        assert torch.equal(random[~kept], fresh[~kept])
    gain = widen("name", Weight(Role.BLOCK_NORM, ("residual",)), old[0], fresh[0], "zero", seed=0)
    assert torch.allclose(gain, torch.cat((old[0] * (3 / 5) ** 0.5, fresh[0, 3:])))
    rows = Weight(Role.TIED_EMBEDDING, ("vocabulary", "residual"))
    table = widen("name", rows, old, fresh[:2], "zero", seed=0)
    assert torch.equal(table, torch.cat((old, torch.zeros(2, 2)), dim=1))


def test_new_heads_are_whole_copies() -> None:
    before, after = settings(), settings(width=32, heads=4)
    base = trained_like(before)
    query = grown(base, before, after).blocks[0].attention.branch.query.weight.unflatten(0, (4, 8))
    source = base.blocks[0].attention.branch.query.weight.unflatten(0, (2, 8))
    for head in range(4):
        whole = query[head].unflatten(1, (2, 16)).sum(1)  # what is split between copies adds up again
        assert torch.allclose(whole, source[head % 2], rtol=1e-12)
        assert not torch.allclose(whole, source[1 - head % 2], rtol=0.1)


def test_noise_mixes_in_a_fresh_init() -> None:
    """Matrices and tables, not gains, and not what is new."""
    before, after = settings(), settings(**DEEP)
    base, fresh = trained_like(before).state_dict(), fresh_model(after).state_dict()
    state = grown(trained_like(before), before, after, depth="random", noise=0.25).state_dict()
    for name in ("tokens.weight", "readout.weight", "blocks.1.mlp.branch.down.weight"):
        torch.testing.assert_close(state[name], 0.75 * base[name] + 0.25 * fresh[name])
        assert not torch.allclose(state[name], base[name])
    kept = [name for name in state if name.endswith("gain") and name in base]
    assert kept
    assert all(torch.equal(state[name], base[name]) for name in kept)
    assert torch.equal(state["blocks.3.mlp.branch.up.weight"], fresh["blocks.3.mlp.branch.up.weight"])


@pytest.mark.parametrize("names", [[], SIGMA, ["model.templates=3"], TOKENS], ids=str)
def test_blocks_can_come_from_nothing(names: list[str]) -> None:
    """A table of bigrams becomes a transformer, and wider; its own two tables are all that it hands on."""
    before, after = settings(*(names if names == SIGMA else []), depth=0), settings(*names, width=32, heads=4)
    base, fresh = trained_like(before), fresh_model(after).state_dict()
    state = grown(base, before, after, depth="random").state_dict()
    assert torch.equal(state["tokens.weight"], base.tokens.weight.repeat(1, 2))
    inside = [name for name in state if name.startswith(("blocks.", "templates."))]
    assert inside
    assert all(torch.equal(state[name], fresh[name]) for name in inside)
    moments = moments_of(fresh_model(after), KEYS, step=0.0)
    old = moments_of(base, KEYS, step=9.0)
    carried = grow_moments(old, moments, growth_of(before, after, depth="random"))
    assert {name for name, each in carried.items() if each["step"] == 9} == set(base.state_dict())


@pytest.mark.parametrize(("depth", "kept"), [("interpolate", True), ("stack", False)])
def test_stages_are_untied_in_place(depth: str, kept: bool) -> None:
    """A base of 2 stages in 4 places becomes the same model with 4 blocks of its own."""
    before, after = settings(depth=4, stages=2), settings(depth=4)
    base = trained_like(before)
    model = grown(base, before, after, depth=depth)
    assert (change(base, model) < EXACT) is kept
    deeper = settings(depth=8)
    assert change(base, grown(base, before, deeper, depth="zero")) < EXACT
    assert change(base, grown(base, before, deeper, depth="interpolate")) > 1e-2


def test_width_of_a_staged_model() -> None:
    assert change_by(base_sizes={"depth": 4, "stages": 2}, sizes=WIDE) < EXACT


# --- the optimiser's moments -----------------------------------------------------------------------------


def moments_of(model: GPT, keys: list[str], step: float) -> dict[str, dict[str, Tensor]]:
    """Random moments after `step` steps; zeros at step 0, as before the first one."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: {
            "step": torch.tensor(step),
            **{key: (step > 0) * torch.rand(p.shape, generator=generator) for key in keys if key != "norm_mean"},
            **({"norm_mean": torch.tensor(0.1 * step)} if "norm_mean" in keys else {}),
        }
        for name, p in model.named_parameters()
    }


KEYS = ["exp_avg", "exp_avg_sq"]


def moments_grown(
    sizes: dict[str, Any], *names: str, keys: list[str] = KEYS, new_keys: list[str] = KEYS, **how: Any
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    before, after = settings(*names), settings(*names, **sizes)
    base = moments_of(fresh_model(before), keys, step=9.0)
    fresh = moments_of(fresh_model(after), new_keys, step=0.0)
    state = grow_moments(base, fresh, growth_of(before, after, **how))
    assert {name: set(each) for name, each in state.items()} == {name: set(each) for name, each in fresh.items()}
    assert all(state[name][key].shape == new.shape for name, each in fresh.items() for key, new in each.items())
    pointers = _storages(*base.values(), *fresh.values(), *state.values())
    assert len(set(pointers)) == len(pointers)
    return base, state


def test_moments_go_with_the_blocks_that_they_belong_to() -> None:
    base, state = moments_grown(DEEP)
    for key in ("step", *KEYS):
        name = "mlp.branch.down.weight"
        assert torch.equal(state[f"blocks.2.{name}"][key], base[f"blocks.0.{name}"][key])
        assert torch.equal(state["final_norm.gain"][key], base["final_norm.gain"][key])
    _, state = moments_grown(DEEP, depth="random")
    assert [state[f"blocks.{block}.mlp.branch.up.weight"]["step"].item() for block in range(4)] == [9, 9, 0, 0]
    assert all((state["blocks.2.mlp.norm_input.gain"][key] == 0).all() for key in KEYS)


def test_moments_of_what_zero_sets_to_zero_begin_anew() -> None:
    for names, new in (
        ([], "mlp.branch.down.weight"),
        (["model.norm_placement=peri"], "mlp.norm_branch.gain"),
        (SIGMA, "mlp.branch.down.sigma.gamma"),
    ):
        base, state = moments_grown(DEEP, *names, depth="zero")
        assert state[f"blocks.1.{new}"]["step"] == 0
        assert (state[f"blocks.1.{new}"]["exp_avg"] == 0).all()
        assert torch.equal(state[f"blocks.2.{new}"]["exp_avg"], base[f"blocks.1.{new}"]["exp_avg"])
        up = "mlp.branch.up.weight"
        assert torch.equal(state[f"blocks.1.{up}"]["exp_avg"], base[f"blocks.0.{up}"]["exp_avg"])


def test_moments_of_wider_tensors_are_copied_and_not_scaled() -> None:
    name = "blocks.1.mlp.branch.down.weight"
    base, state = moments_grown(WIDE)
    for key in KEYS:
        assert torch.equal(state[name][key], base[name][key].repeat(2, 3))
        assert torch.equal(state["final_norm.gain"][key], base["final_norm.gain"][key].repeat(2))
    for width in ("zero", "random"):
        base, state = moments_grown(WIDE, width=width)
        for key in KEYS:
            assert torch.equal(state[name][key][:16, :24], base[name][key])
            assert state[name][key].sum().item() == pytest.approx(base[name][key].sum().item(), rel=1e-5)
        assert state[name]["step"] == 9


def test_moments_keep_the_keys_of_the_new_optimiser() -> None:
    more = [*KEYS, "norm_mean"]
    name = "blocks.2.mlp.branch.up.weight"
    assert moments_grown(DEEP, keys=more, new_keys=more)[1][name]["norm_mean"].item() == pytest.approx(0.9)
    assert moments_grown(DEEP, new_keys=more)[1][name]["norm_mean"] == 0
    assert "norm_mean" not in moments_grown(DEEP, keys=more)[1][name]


# --- what cannot be grown --------------------------------------------------------------------------------

IMPOSSIBLE: list[tuple[list[str], dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    # overrides of both, sizes of the base, sizes of the grown model, how -> what the line says
    ([], {}, {"depth": 5}, {}, "model.depth: 5 is no multiple of the base's 2.*allowed: 6, 8, …"),
    ([], {}, {"depth": 1}, {}, "model.depth: 1 is less than the base's 2"),
    ([], {}, {"depth": 1}, {"depth": "learn"}, "model.depth: 1 is less than the base's 2"),
    (
        [],
        {"depth": 4, "stages": 2},
        {"depth": 3, "stages": "null"},
        {"depth": "zero"},
        "model.depth: 3 is less than the .*4",
    ),
    ([], {}, {"depth": 4, "stages": 1}, {}, "model.stages: 1 is less than the base's 2"),
    ([], {"depth": 0}, {"depth": 2}, {}, "model.depth: 2 blocks cannot come from .*allowed: 0, or grow.depth=random"),
    ([], {}, DEEP, {"depth": "pattern", "pattern": "0,1,0"}, "grow.pattern: '0,1,0' .*allowed: 4 numbers from 0 to 1"),
    ([], {}, DEEP, {"depth": "pattern", "pattern": "0,1,0,2"}, "grow.pattern: '0,1,0,2' .*from 0 to 1"),
    ([], {}, {"width": 24, "heads": 3}, {}, "model.width: 24 is no multiple of the base's 16.*allowed: 32, 48, …"),
    ([], {}, {"width": 8, "heads": 1}, {}, "model.width: 8 is less than the base's 16; allowed: 16 or more"),
    ([], {}, {"width": 8, "heads": 1}, {"width": "zero"}, "model.width: 8 is less"),
    ([], {}, {"width": 32}, {}, "model.heads: 2 gives heads of 16, but the base's have 8.*allowed: 4"),
    ([], {}, {"width": 20}, {"width": "zero"}, "model.heads: 2 gives heads of 10.*allowed: .*width that 8 divides"),
    ([], {}, {"mlp_hidden": 25}, {}, "model.mlp_hidden: 25 is no multiple of the base's 24.*allowed: 48, 72, …"),
    ([], {}, {"mlp_hidden": 8}, {"width": "random"}, "model.mlp_hidden: 8 is less than the base's 24"),
    ([], {"param_tokens": 4}, {"param_tokens": 6}, {}, "model.param_tokens: 6 is no multiple of the base's 4"),
    ([], {"param_tokens": 4}, {"param_tokens": 3}, {"width": "zero"}, "model.param_tokens: 3 is less"),
    ([], {}, {"param_tokens": 8}, {}, "model.param_tokens: 8 .*allowed: null"),
    ([], {"param_tokens": 4}, {"param_tokens": "null"}, {}, "model.param_tokens: None .*allowed: 4 or more"),
    ([], {"templates": 2}, {"templates": 3}, {}, "model.templates: 3 is not the base's; allowed: 2"),
    ([], {}, {"norm": "layernorm"}, {}, "model.norm: 'layernorm' is not the base's; allowed: 'rmsnorm'"),
    ([], {}, {"activation": "swiglu"}, {}, "model.activation: 'swiglu'"),
    ([], {}, {"qk_norm": "head"}, {}, "model.qk_norm: 'head'"),
    ([], {}, {"position": "learned"}, {}, "model.position: 'learned'"),
    ([], {}, {"tie_embeddings": True}, {}, "model.tie_embeddings: True is not the base's; allowed: False"),
    ([], {}, {"attention_scale": "1/d"}, {}, "model.attention_scale: '1/d'"),
    (["model.norm=layernorm"], {}, WIDE, {"width": "zero"}, "grow.width: 'zero' is not allowed .*layernorm"),
    (["model.norm_placement=post"], {}, DEEP, {"depth": "zero"}, "grow.depth: 'zero' adds block 1 in post-norm"),
    (["model.norm_placement=mix", "model.mix_fraction=0.5"], {}, DEEP, {}, "grow.depth: 'stack' puts block 1, of pre-"),
    (
        ["model.norm_placement=mix"],
        {"mix_fraction": 0.5},
        {**DEEP, "mix_fraction": 0.5},
        {"depth": "random"},
        "block 1",
    ),
    (["model.norm_placement=mix"], {"mix_fraction": 0.5}, {**DEEP, "mix_fraction": 0.5}, {"depth": "zero"}, "no ident"),
    (SIGMA, {}, {"width": 32, "heads": 4}, {}, "model.width: 32 is not the base's, with model.sigma_reparam=true"),
    (SIGMA, {}, {"mlp_hidden": 48}, {}, "model.mlp_hidden: 48 is not the base's, with model.sigma_reparam=true"),
    (SIGMA, {}, DEEP, {"noise": 0.1}, "grow.noise: 0.1 is not allowed with model.sigma_reparam=true; allowed: 0"),
    ([], {}, {"depth": 4, "stages": 4}, {"depth": "zero"}, "grow.depth: 'zero' is not allowed with model.stages=4"),
    ([], {}, {}, {"depth": "random"}, "grow.depth: 'random' does nothing between two models of 2 blocks"),
    ([], {}, WIDE, {"depth": "zero"}, "grow.depth: 'zero' does nothing between two models of 2 blocks"),
    ([], {"depth": 0}, {"width": 32, "heads": 4}, {"depth": "interpolate"}, "does nothing between two models of 0"),
    ([], {}, DEEP, {"width": "zero"}, "grow.width: 'zero' does nothing between two models of width 16"),
    ([], {"depth": 0}, {"mlp_hidden": 48}, {"width": "random"}, "grow.width: 'random' does nothing"),
]


def test_an_operator_that_acts_is_let_through() -> None:
    """The control of those that do nothing: any axis that grows, blocks that are repeated, blocks that are untied."""
    small = settings().model
    for sizes in ({"width": 32, "heads": 4}, {"mlp_hidden": 25}):
        check_growth(small, settings(**sizes).model, GrowConfig(width="zero"))
    shared, untied = settings(depth=4, stages=2).model, settings(depth=4).model
    for depth in ("interpolate", "zero", "random"):
        check_growth(shared, untied, GrowConfig(depth=depth))


@pytest.mark.parametrize(
    ("names", "base_sizes", "sizes", "how", "line"), IMPOSSIBLE, ids=[row[4] for row in IMPOSSIBLE]
)
def test_impossible_growth_is_one_line(
    names: list[str], base_sizes: dict[str, Any], sizes: dict[str, Any], how: dict[str, Any], line: str
) -> None:
    before = settings(*names, **base_sizes).model
    after = settings(*names, **{**base_sizes, **sizes}).model
    with pytest.raises(GrowthError, match=line) as raised:
        check_growth(before, after, GrowConfig(**how))
    assert "\n" not in str(raised.value)
    assert "allowed: " in str(raised.value)
    check_growth(before, before, GrowConfig())


def test_what_mix_allows() -> None:
    """Blocks that stay what they were: both halves grow, or only the pre-norm one."""
    mix = ["model.norm_placement=mix"]
    base = settings(*mix, mix_fraction=0.5).model
    check_growth(base, settings(*mix, **DEEP, mix_fraction=0.5).model, GrowConfig(depth="interpolate"))
    check_growth(base, settings(*mix, **DEEP, mix_fraction=0.25).model, GrowConfig(depth="random"))


@pytest.mark.parametrize(
    ("vocab_size", "context", "line"), [(V + 1, T, "data.vocab_size: 41"), (V, T + 1, "data.context: 13"), (V, T, None)]
)
def test_tables_must_have_the_same_rows(vocab_size: int, context: int, line: str | None) -> None:
    config = settings("model.position=learned")
    base = fresh_model(config).state_dict()
    other = fresh_model(config, vocab_size=vocab_size, context=context).state_dict()

    def grow() -> None:
        grow_state(base, other, growth_of(config, config))

    if line is None:
        return grow()
    with pytest.raises(GrowthError, match=line):
        grow()
    return None

"""Counts in closed form against the real model and torch's own FLOP counter."""

from __future__ import annotations

import dataclasses

import pytest
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conf.compose import compose
from conf.config import resolve
from conf.schema import ConfigError
from models.build import build
from models.count import block_gains, block_weights, count_params, flops_per_token, flops_per_token_6nd
from tests.helpers import tokens
from train.timetable.cost import run_cost

VARIANTS = [
    [],
    ["model.activation=swiglu", "model.qk_norm=model", "model.position=learned"],
    ["model.norm_placement=peri", "model.tie_embeddings=true", "model.qk_norm=head"],
    ["model.norm_placement=mix", "model.norm=layernorm", "model.mlp_hidden=100"],
    ["model.layernorm_scaling=true", "model.softcap=30", "model.activation=relu2", "param=completep"],
    ["model.depth=0"],
    ["model.depth=0", "model.position=learned", "model.tie_embeddings=true", "model.norm_placement=peri"],
    ["model.qk_norm=qkv", "model.attention_softcap=5"],
    ["model.sigma_reparam=true", "model.activation=swiglu", "model.qk_rms=3"],
    ["model.sigma_reparam=true", "model.norm_placement=post", "model.attention_softcap=2"],
    ["model.stages=2", "model.qk_norm=head"],
    ["model.stages=2", "model.sigma_reparam=true", "model.norm_placement=peri"],
    ["model.templates=2", "model.activation=swiglu", "model.tie_embeddings=true"],
    ["model.param_tokens=24", "model.mlp_hidden=100", "model.param_tau=0.5"],
    ["model.param_tokens=24", "model.stages=2", "model.position=learned"],
]
V, T = 61, 24


@pytest.mark.parametrize("overrides", VARIANTS)
def test_counts_agree_with_the_model(overrides: list[str]) -> None:
    config = resolve(compose(["model=gpt_100k", *overrides]), cuda=False)
    model = build(config.model, config.param, vocab_size=V, context=T, seed=0)
    counts = count_params(config.model, vocab_size=V, context=T)
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    assert counts.vocab + counts.non_vocab == counts.total
    assert counts.matmul == sum(
        p.numel() for name, p in model.named_parameters() if p.ndim >= 2 and name != "positions.weight"
    ) - (0 if config.model.tie_embeddings else V * config.model.width)


@pytest.mark.parametrize("overrides", VARIANTS)
def test_flops_agree_with_torch(overrides: list[str]) -> None:
    """Exactly, with the attention that torch can see into; the 6ND rule leaves attention out and falls short of it."""
    config = resolve(compose(["model=gpt_100k", *overrides]), cuda=False)
    model = build(config.model, config.param, vocab_size=V, context=T, seed=0)
    x = tokens(3, T, V)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        F.cross_entropy(model(x).flatten(0, 1), x.flatten()).backward()
    measured = counter.get_total_flops() / x.numel()
    assert flops_per_token(config.model, vocab_size=V, context=T) == measured
    by_rule_of_thumb = flops_per_token_6nd(config.model, vocab_size=V, context=T)
    assert by_rule_of_thumb < measured if config.model.depth else by_rule_of_thumb == measured


def test_named_sizes_are_about_that_size() -> None:
    named = {
        "10k": 1e4,
        "30k": 3e4,
        "100k": 1e5,
        "300k": 3e5,
        "1m": 1e6,
        "3m": 3e6,
        "10m": 1e7,
        "30m": 3e7,
        "100m": 1e8,
    }
    for name, size in named.items():
        config = compose([f"model=gpt_{name}"])
        counted = count_params(config.model, vocab_size=V, context=T).non_embedding
        assert counted == pytest.approx(size, rel=0.25), name
    wrong = count_params(compose(["model=gpt_10k"]).model, vocab_size=V, context=T).non_embedding
    assert wrong != pytest.approx(3e4, rel=0.25)


def test_cost_follows_duration() -> None:
    config = compose(["model=gpt_10k", "train.duration=10steps", "train.batch_size=4", "data.context=32"])
    cost = run_cost(config, V)
    assert (cost.n_steps, cost.n_tokens) == (10, 10 * 4 * 32)
    twenty = dataclasses.replace(config, train=dataclasses.replace(config.train, duration="20tok/param"))
    assert run_cost(twenty, V).n_tokens == pytest.approx(20 * cost.n_params, abs=4 * 32)
    short = dataclasses.replace(config, train=dataclasses.replace(config.train, duration="10tok"))
    with pytest.raises(ConfigError, match=r"train\.duration: '10tok' is less than one step"):
        run_cost(short, V)


@pytest.mark.parametrize("overrides", VARIANTS)
def test_conventions_of_counting_are_nested(overrides: list[str]) -> None:
    model = compose(["model=gpt_100k", *overrides]).model
    counts = count_params(model, vocab_size=V, context=T)
    assert counts.total == sum(counts.groups.values()) >= counts.non_vocab >= counts.non_embedding > 0
    assert min(counts.groups.values()) >= 0
    assert counts.non_vocab - counts.non_embedding == (T * model.width if model.position == "learned" else 0)
    more = count_params(model, vocab_size=V + 1, context=T)
    assert more.vocab - counts.vocab == model.width * (1 if model.tie_embeddings else 2)
    assert (more.non_vocab, more.matmul - counts.matmul) == (counts.non_vocab, model.width)


@pytest.mark.parametrize("overrides", VARIANTS)
def test_blocks_add_what_one_of_them_has(overrides: list[str]) -> None:
    """Weights and FLOPs are linear in the depth, but for those that blocks share."""
    model = dataclasses.replace(compose(["model=gpt_100k", *overrides]).model, depth=4)
    deeper = [dataclasses.replace(model, depth=depth) for depth in (4, 8, 12)]
    totals = [count_params(cfg, vocab_size=V, context=T).total for cfg in deeper]
    flops = [flops_per_token(cfg, vocab_size=V, context=T) for cfg in deeper]
    assert totals[2] - totals[1] == totals[1] - totals[0]
    assert flops[2] - flops[1] == flops[1] - flops[0] == 3 * 4 * (2 * sum(block_weights(model)) + 4 * T * model.width)
    assert (totals[1] == totals[0]) == (model.stages is not None)
    if model.stages is None and model.templates is None:
        wide, head = block_gains(model)
        gains = wide * model.width + head * model.head_dim
        matrices = (7 if model.activation == "swiglu" else 6) if model.sigma_reparam else 0
        assert totals[1] - totals[0] == 4 * (sum(block_weights(model)) + gains + matrices)

"""The rule of thumb for activations against what torch keeps, and how many sequences fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import ModelConfig
from tests.helpers import gpt, tokens
from train.measure.memory import kept_bytes
from train.timetable.memory import activation_bytes, auto_micro_batch, state_bytes

V, T = 50, 64


@pytest.mark.parametrize(
    "overrides",
    [[], ["model.depth=2"], ["model.attention_softcap=30"], ["model.param_tokens=64"], ["model.activation=swiglu"]],
    ids=str,
)
def test_the_rule_of_thumb_is_near_what_is_kept(overrides: list[str]) -> None:
    model = gpt(*overrides, vocab_size=V, context=T)
    kept = kept_bytes(model, tokens(1, T, V), torch.autocast("cpu", enabled=False))
    assert 1 / 2 < activation_bytes(model.cfg, vocab_size=V, context=T) / kept < 2


def test_twice_the_sequences_keep_twice_as_much() -> None:
    model, autocast = gpt(vocab_size=V, context=T), torch.autocast("cpu", enabled=False)
    one, two = (kept_bytes(model, tokens(n, T, V), autocast) for n in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.02)


def test_weights_gradients_and_moments() -> None:
    model = gpt(vocab_size=V, context=T)
    optimizer = torch.optim.AdamW(model.parameters())
    model(tokens(1, T, V)).sum().backward()
    optimizer.step()
    held = [
        x for p in model.parameters() for x in (p, p.grad, *optimizer.state[p].values()) if x is not None and x.ndim
    ]
    assert sum(x.nbytes for x in held) == state_bytes(sum(p.numel() for p in model.parameters()))


def test_auto_micro_batch_is_the_largest_divisor_that_fits() -> None:
    assert auto_micro_batch(12, bytes_per_sequence=10, budget_bytes=1000) == 12
    assert auto_micro_batch(12, bytes_per_sequence=10, budget_bytes=55) == 4
    assert auto_micro_batch(12, bytes_per_sequence=10, budget_bytes=5) == 1


@given(st.integers(1, 500), st.floats(0, 1e9), st.floats(0, 1e10))
@settings(max_examples=100, deadline=None)
def test_a_micro_batch_divides_the_batch_and_fits_if_any_does(batch_size: int, each: float, budget: float) -> None:
    n = auto_micro_batch(batch_size, bytes_per_sequence=each, budget_bytes=budget)
    assert batch_size % n == 0
    assert n == 1 or n * each <= budget
    larger = [m for m in range(n + 1, batch_size + 1) if batch_size % m == 0]
    assert all(m * each > budget for m in larger)


def test_memory_grows_with_each_size() -> None:
    usual = ModelConfig(depth=2, width=32, heads=4)
    sizes = {"vocab_size": V, "context": T}
    least = activation_bytes(usual, **sizes)
    for change in ({"depth": 3}, {"width": 64}, {"mlp_hidden": 256}, {"attention_softcap": 3.0}, {"param_tokens": 9}):
        assert activation_bytes(replace(usual, **change), **sizes) > least, change
    assert activation_bytes(usual, vocab_size=V, context=2 * T) == 2 * least  # a fused kernel keeps no scores
    capped = replace(usual, attention_softcap=3.0)
    assert activation_bytes(capped, vocab_size=V, context=2 * T) > 2 * activation_bytes(capped, **sizes)
    assert activation_bytes(replace(usual, depth=0), **sizes) == 4 * 4 * V * T  # the logits alone

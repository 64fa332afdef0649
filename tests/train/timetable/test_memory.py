"""The rule of thumb for activations against what torch keeps, and how many sequences fit."""

from __future__ import annotations

import pytest
import torch

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

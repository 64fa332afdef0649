"""Queries, keys and logits that are held in bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.blocks import Norm
from models.gpt import GPT
from tests.helpers import gpt, tokens

V, T = 50, 16


def logits_and_output(model: GPT) -> tuple[Tensor, Tensor]:
    """What enters the softmax of the first block where it is not masked, and the model's output."""
    seen: list[Tensor] = []

    def tap(name: str, layer: int, x: Tensor) -> None:
        if name == "attention_logits" and layer == 0:
            seen.append(x[x.isfinite()])

    output = model(tokens(2, T, V), tap)
    return seen[0], output


def louder(model: GPT, factor: float, *names: str) -> GPT:
    """The model with some matrices of its attention scaled up."""
    with torch.no_grad():
        for block in model.blocks:
            for name in names:
                getattr(block.attention.branch, name).weight.mul_(factor)
    return model


# --- qk_norm=qkv -----------------------------------------------------------------------------------------


def test_qkv_norm_takes_the_place_of_the_norm_before_attention() -> None:
    for block in gpt("model.qk_norm=qkv").blocks:
        assert isinstance(block.attention.norm_input, torch.nn.Identity)
        assert isinstance(block.mlp.norm_input, Norm)
    assert isinstance(gpt("model.qk_norm=head").blocks[0].attention.norm_input, Norm)


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_qkv_norm_makes_the_size_of_each_matrix_irrelevant(name: str) -> None:
    def change(option: str) -> float:
        before, after = (logits_and_output(louder(gpt(option), factor, name))[1] for factor in (1, 3))
        return (before - after).abs().max().item()

    assert change("model.qk_norm=qkv") < 1e-3
    assert change("model.norm=rmsnorm") > 1e-2
    assert (change("model.qk_norm=head") > 1e-2) is (name == "value")


# --- qk_rms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.5, 10.0, 1e4])
def test_kappa_bounds_the_logits_and_is_reached(kappa: float) -> None:
    fixed = [f"model.qk_rms={kappa}", "model.attention_scale=1/d"]
    logits, _ = logits_and_output(gpt(*fixed))
    assert logits.abs().max() <= kappa * (1 + 1e-5)
    aligned = gpt(*fixed)
    with torch.no_grad():
        attention = aligned.blocks[0].attention.branch
        attention.key.weight.copy_(attention.query.weight)
    assert logits_and_output(aligned)[0].max().item() == pytest.approx(kappa, rel=1e-4)
    assert logits_and_output(louder(gpt("model.attention_scale=1/d"), 300, "query", "key"))[0].max() > kappa


# --- attention_softcap -----------------------------------------------------------------------------------


def test_the_cap_bounds_loud_logits_and_leaves_quiet_ones() -> None:
    def loud(*overrides: str) -> Tensor:
        return logits_and_output(louder(gpt(*overrides), 10, "query", "key"))[0]

    assert loud().abs().max() > 20
    assert loud("model.attention_softcap=3").abs().max() <= 3
    quiet = louder(gpt(), 0.1, "query", "key")
    capped = louder(gpt("model.attention_softcap=3"), 0.1, "query", "key")
    assert torch.allclose(logits_and_output(capped)[0], logits_and_output(quiet)[0], atol=1e-4)


def test_a_huge_cap_gives_what_the_fused_kernel_gives() -> None:
    def output_and_gradient(*overrides: str) -> tuple[Tensor, Tensor]:
        model = gpt(*overrides)
        output = model(tokens(2, T, V))
        output.square().mean().backward()
        return output, model.blocks[0].attention.branch.query.weight.grad

    fused, huge = output_and_gradient(), output_and_gradient("model.attention_softcap=1e4")
    small = output_and_gradient("model.attention_softcap=0.1")
    for plain, capped, different in zip(fused, huge, small, strict=True):
        size = plain.abs().max().item()
        assert torch.allclose(plain, capped, atol=1e-4 * size)
        assert not torch.allclose(plain, different, atol=1e-2 * size)


def test_a_capped_model_keeps_the_precision_of_its_logits() -> None:
    model = gpt("model.attention_softcap=3")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, output = logits_and_output(model)
    assert (logits.dtype, output.dtype) == (torch.float32, torch.bfloat16)
    assert not torch.equal(logits, logits.bfloat16().float())

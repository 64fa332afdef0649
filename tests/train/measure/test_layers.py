"""The loss without each block, and the angles between the blocks' inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from conf.config import Config
from models.gpt import GPT
from tests.helpers import gpt, metrics, tokens
from train.distributed import Ranks
from train.measure import layers
from train.measure.layers import angles, angular_distance, measure_layers, removal_losses
from train.measure.loss import evaluate
from train.record.run import run_dir
from train.run import run

Tiny = Callable[..., Config]

V, T, L = 50, 16, 4
HOW: dict[str, Any] = {"batch_size": 3, "autocast": contextlib.nullcontext()}
WINDOWS = tokens(8, T + 1, V)


def silence(model: GPT, layer: int) -> GPT:
    """Make both branches of a block zero."""
    with torch.no_grad():
        model.blocks[layer].attention.branch.out.weight.zero_()
        model.blocks[layer].mlp.branch.down.weight.zero_()
    return model


# --- removal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_placement", ["pre", "peri"])
def test_removing_a_block_that_writes_nothing_costs_nothing(norm_placement: str) -> None:
    losses = removal_losses(silence(gpt(f"model.norm_placement={norm_placement}"), 2), WINDOWS, **HOW)
    assert list(losses) == [f"block{layer}/removal_loss" for layer in range(L)]
    assert losses["block2/removal_loss"] == 0
    assert all(abs(losses[f"block{layer}/removal_loss"]) > 1e-4 for layer in (0, 1, 3))


def test_removal_loss_is_the_loss_of_the_silenced_model_minus_the_whole_ones() -> None:
    def loss(model: GPT) -> float:
        return evaluate(model, WINDOWS, **HOW, ranks=Ranks()).mean

    losses = removal_losses(gpt(), WINDOWS, **HOW)
    for layer in range(L):
        assert losses[f"block{layer}/removal_loss"] == pytest.approx(
            loss(silence(gpt(), layer)) - loss(gpt()), abs=1e-6
        )


# --- angles ----------------------------------------------------------------------------------------------


def test_angular_distance_is_arccos_in_units_of_pi() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(200, 5, generator=generator) for _ in range(2))
    cosine = torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=-1)
    assert torch.allclose(angular_distance(x, y).double(), cosine.arccos() / torch.pi, atol=1e-6)
    assert torch.equal(angular_distance(x, x), torch.zeros(200))
    assert torch.allclose(angular_distance(x, -2 * x), torch.ones(200))
    tiny = angular_distance(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e-5]))
    assert tiny.item() == pytest.approx(1e-5 / torch.pi, rel=1e-4)  # arccos in float32 makes this 0


def test_a_block_that_writes_nothing_turns_nothing() -> None:
    """The angle over it is 0 and over every other is not; angles across it do not see it."""
    distance = angles(silence(gpt(), 2), WINDOWS[:, :-1], **HOW)
    assert set(distance) == {f"angle/{layer}/{n}" for layer in range(L) for n in range(1, L - layer + 1)}
    assert distance["angle/2/1"] == 0
    assert all(distance[f"angle/{layer}/1"] > 0.01 for layer in (0, 1, 3))
    assert distance["angle/1/2"] == distance["angle/1/1"]
    assert distance["angle/2/2"] == distance["angle/3/1"]
    assert distance["angle/0/4"] != distance["angle/0/3"]


def test_angles_are_a_mean_over_tokens_however_they_are_batched() -> None:
    """Also with a last batch that is smaller; and the angle to the last input reaches past the last block."""
    model, inputs = gpt(), []
    model(WINDOWS[:, :-1], lambda name, _, x: inputs.append(x) if name in {"embedding", "block_output"} else None)
    whole = angles(model, WINDOWS[:, :-1], **HOW | {"batch_size": 8})
    assert angles(model, WINDOWS[:, :-1], **HOW) == pytest.approx(whole, rel=1e-5)
    expected = torch.nn.functional.cosine_similarity(inputs[1], inputs[4], dim=-1).arccos().mean().item() / torch.pi
    assert whole["angle/1/3"] == pytest.approx(expected, rel=1e-4)


def test_angles_see_a_bounded_number_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "ANGLE_WINDOWS", 5)
    few, five = measure_layers(gpt(), WINDOWS, **HOW), angles(gpt(), WINDOWS[:5, :-1], **HOW)
    assert {name: few[name] for name in five} == five
    assert removal_losses(gpt(), WINDOWS, **HOW).items() <= few.items()
    assert angles(gpt(), WINDOWS[:, :-1], **HOW) != five


# --- in a run --------------------------------------------------------------------------------------------


def test_the_last_row_of_a_run_has_them(tiny: Tiny) -> None:
    """Once, beside the last validation loss, and no other number changes."""
    plain, measured = tiny(), tiny("eval.layers=true")
    for config in (plain, measured):
        run(config)
    rows, expected = metrics(run_dir(measured)), metrics(run_dir(plain))
    added = {"block0/removal_loss", "block1/removal_loss", "angle/0/1", "angle/0/2", "angle/1/1"}
    assert rows[-1].keys() - expected[-1].keys() == added
    assert rows[:-1] == expected[:-1]
    assert {name: value for name, value in rows[-1].items() if name not in added} == expected[-1]

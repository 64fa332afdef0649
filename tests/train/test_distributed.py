"""Alone nothing is changed; among peers sums and means are those of whatever is sent, a message for each type."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from train import distributed
from train.distributed import Ranks, join


def tensors() -> list[Tensor]:
    return [torch.tensor([[1.0, 2.0]]), torch.tensor(3.0), torch.tensor([4.0], dtype=torch.float64)]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What is sent; each of three peers sends the same."""
    sent: list[Tensor] = []

    def all_reduce(flat: Tensor) -> None:
        sent.append(flat.clone())
        flat.mul_(3)

    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    return sent


def test_alone_nothing_is_sent(messages: list[Tensor]) -> None:
    values = tensors()
    Ranks().sum(values)
    Ranks().mean(values)
    assert all(map(torch.equal, values, tensors()))
    assert messages == []


def test_a_sum_and_a_mean_replace_each_tensor_in_its_own_shape(messages: list[Tensor]) -> None:
    ranks, values, means = Ranks(1, 3), tensors(), tensors()
    ranks.sum(values)
    assert all(torch.equal(value, 3 * before) for value, before in zip(values, tensors(), strict=True))
    assert [(len(sent), sent.dtype) for sent in messages] == [(3, torch.float32), (1, torch.float64)]
    ranks.mean(means)
    assert all(map(torch.equal, means, tensors()))  # of equal values


def test_one_process_leads() -> None:
    assert [Ranks(rank, 3).leads for rank in range(3)] == [True, False, False]
    assert Ranks().leads


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for world in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        if world is not None:
            monkeypatch.setenv("WORLD_SIZE", world)
        with join("cpu") as ranks:
            assert ranks == Ranks()

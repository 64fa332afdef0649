"""Checkpoints read back to the last bit, are complete or absent, and refuse another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from conf.schema import OptimConfig
from models.parametrize import Rule
from train.checkpoint import (
    Position,
    keep_checkpoint,
    latest,
    load_checkpoint,
    optimizer_state,
    read_checkpoint,
    save_checkpoint,
    step_of,
)
from train.optim import build_optimizer
from train.record.checkpoints import CHECKPOINT, KEPT, step_name
from train.record.run import RecordError

Parts = tuple[nn.Linear, torch.optim.Optimizer]


def parts(seed: int = 0, width: int = 3, *, trained: bool = True) -> Parts:
    """A layer and its optimiser after an update."""
    torch.manual_seed(seed)
    layer = nn.Linear(width, 2)
    rules = {name: Rule(std=1.0, lr_scale=1.0, eps_scale=1.0, decay_scale=1.0) for name, _ in layer.named_parameters()}
    optimizer = build_optimizer(layer, rules, OptimConfig())
    if trained:
        layer(torch.randn(4, width)).square().sum().backward()
        optimizer.step()
    return layer, optimizer


def content(layer: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer_state(layer, optimizer)
    return dict(layer.state_dict()) | {f"{name}/{key}": x for name, own in state.items() for key, x in own.items()}


def same(a: Parts, b: Parts) -> bool:
    one, two = content(*a), content(*b)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


POSITION = Position(20, 1.5, 1.25)


def test_what_is_saved_is_restored_to_the_last_bit(tmp_path: Path) -> None:
    saved, other = parts(), parts(seed=1)
    save_checkpoint(tmp_path, *saved, POSITION)
    assert not same(saved, other)
    path = latest(tmp_path)
    assert path is not None
    assert load_checkpoint(path, *other) == POSITION
    assert same(saved, other)
    assert content(*other)["weight/exp_avg"].abs().sum() > 0
    weights, moments = read_checkpoint(path)
    assert weights.keys() == {"weight", "bias"}
    assert moments["bias"].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_a_restored_optimiser_steps_on_as_the_saved_one(tmp_path: Path) -> None:
    saved, other = parts(), parts(seed=1)
    save_checkpoint(tmp_path, *saved, POSITION)
    load_checkpoint(tmp_path / CHECKPOINT / step_name(20), *other)
    for layer, optimizer in (saved, other):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
    assert same(saved, other)


def test_an_older_checkpoint_goes_and_a_kept_one_stays(tmp_path: Path) -> None:
    for step in (5, 9, 30):
        save_checkpoint(tmp_path, *parts(), Position(step, 0.0, 0.0))
    for step in (0, 9):
        keep_checkpoint(tmp_path, *parts(), Position(step, 0.0, 0.0))
    assert [file.name for file in (tmp_path / CHECKPOINT).iterdir()] == [step_name(30)]
    assert sorted(file.name for file in (tmp_path / KEPT).iterdir()) == [step_name(0), step_name(9)]
    found = {until: latest(tmp_path, until=until) for until in (0, 8, 9, 29, 30, 99)}
    assert {until: path and step_of(path) for until, path in found.items()} == {0: 0, 8: 0, 9: 9, 29: 9, 30: 30, 99: 30}
    assert latest(tmp_path) == tmp_path / CHECKPOINT / step_name(30)
    assert latest(tmp_path / "other") is latest(tmp_path / "other", until=5) is None


def test_a_checkpoint_that_is_there_is_left_alone(tmp_path: Path) -> None:
    first, second = parts(), parts(seed=1)
    keep_checkpoint(tmp_path, *first, POSITION)
    keep_checkpoint(tmp_path, *second, POSITION)
    load_checkpoint(tmp_path / KEPT / step_name(20), *second)
    assert same(first, second)


def test_an_error_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, *parts(), Position(10, 0.0, 0.0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("train.checkpoint.write_json", full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, *parts(), POSITION)
    assert latest(tmp_path) == tmp_path / CHECKPOINT / step_name(10)
    save_checkpoint(tmp_path, *parts(), POSITION)  # over what the error left
    assert latest(tmp_path) == tmp_path / CHECKPOINT / step_name(20)
    assert len(list((tmp_path / CHECKPOINT).iterdir())) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "position.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_damage_is_a_record_error_that_names_the_folder(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, *parts(), POSITION)
    path = tmp_path / CHECKPOINT / step_name(20)
    whole = (path / name).read_bytes()
    (path / name).unlink() if damage == "gone" else (path / name).write_bytes(
        whole[: damage == "cut" and len(whole) // 2]
    )
    with pytest.raises(RecordError, match=f"{step_name(20)}: cannot be read as a checkpoint"):
        load_checkpoint(path, *parts())
    (path / name).write_bytes(whole)
    load_checkpoint(path, *parts())


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *parts(), POSITION)
    path = tmp_path / CHECKPOINT / step_name(20)
    with pytest.raises(RecordError, match="cannot be read as a checkpoint of this run"):
        load_checkpoint(path, *parts(width=4))
    layer = nn.Linear(3, 2, bias=False)
    rules = {"weight": Rule(std=1.0, lr_scale=1.0, eps_scale=1.0, decay_scale=1.0)}
    with pytest.raises(RecordError, match="holds tensors that this model has not: bias, bias"):
        load_checkpoint(path, layer, build_optimizer(layer, rules, OptimConfig()))

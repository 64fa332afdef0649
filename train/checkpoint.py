"""Weights, optimiser state and position on disk: safetensors and JSON, complete or absent."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from train.record import RecordError, sync_folder, write_bytes, write_json


@dataclass(frozen=True)
class Position:
    """How far a run has come; with the config and the weights this is its whole state."""

    step: int
    seconds: float
    train_seconds: float


def _name(step: int) -> str:
    return f"step-{step:09d}"


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run folder."""
    return max((folder / "checkpoint").glob("step-*"), default=None)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was saved at, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Write `checkpoint/step-N/`, under another name until it is complete; older ones go afterwards."""
    root = folder / "checkpoint"
    part, final = root / f".{_name(position.step)}", root / _name(position.step)
    if final.exists():
        return
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_bytes(part / "model.safetensors", save(_contiguous(model.state_dict())))
    write_bytes(part / "optimizer.safetensors", save(_contiguous(_optimizer_tensors(model, optimizer))))
    write_json(part / "position.json", asdict(position))
    part.rename(final)
    sync_folder(root)
    for old in root.iterdir():
        if old != final:
            shutil.rmtree(old)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Restore what `save_checkpoint` wrote, in place.

    The optimiser must have a state for every parameter, as `build_optimizer` gives it: its names are looked up.

    Raises:
        RecordError: the checkpoint is damaged, or is of another model.
    """
    try:
        position = Position(**json.loads((path / "position.json").read_text()))
        weights = load_file(path / "model.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        with torch.no_grad():
            for name, tensor in model.state_dict().items():  # parameters and persistent buffers
                tensor.copy_(weights.pop(name))
        for name, parameter in model.named_parameters():
            optimizer.state[parameter] = {
                key: moments.pop(f"{name}/{key}").to(parameter.device) for key in optimizer.state[parameter]
            }
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise RecordError(f"{path}: cannot be read as a checkpoint of this run ({error})") from error
    if weights or moments:
        raise RecordError(f"{path}: holds tensors that this model has not: {', '.join([*weights, *moments])}")
    return position


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

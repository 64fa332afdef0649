"""Weights, optimiser state and position on disk: safetensors and JSON, complete or absent.

`checkpoint/step-N/` is where a run goes on after a kill, and `kept/step-N/` (`train.keep`) where another one may start.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from train.record.checkpoints import CHECKPOINT, KEPT, step_name
from train.record.files import sync_folder, write_bytes, write_json
from train.record.run import RecordError


@dataclass(frozen=True)
class Position:
    """How far a run has come; with the config and the weights this is its whole state."""

    step: int
    seconds: float
    train_seconds: float


def latest(folder: Path, *, until: int | None = None) -> Path | None:
    """The newest complete checkpoint of a run folder; with `until` the newest at or before that step, of those that are
    kept for others too."""
    complete = (folder / CHECKPOINT).glob("step-*")
    if until is None:
        return max(complete, default=None)
    early = (one for one in (*complete, *(folder / KEPT).glob("step-*")) if step_of(one) <= until)
    return max(early, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was saved at, from its name."""
    return int(checkpoint.name.removeprefix("step-"))


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Write `checkpoint/step-N/`; older ones go afterwards."""
    final = _write(folder / CHECKPOINT, model, optimizer, position)
    for old in final.parent.iterdir():
        if old != final:
            shutil.rmtree(old)


def keep_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Write `kept/step-N/`, which stays."""
    _write(folder / KEPT, model, optimizer, position)


def _write(root: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Path:
    """`root/step-N/`, under another name until it is complete; left alone if it is there."""
    part, final = root / f".{step_name(position.step)}", root / step_name(position.step)
    if final.exists():
        return final
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_bytes(part / "model.safetensors", save(_contiguous(model.state_dict())))
    write_bytes(part / "optimizer.safetensors", save(_contiguous(_flat(optimizer_state(model, optimizer)))))
    write_json(part / "position.json", asdict(position))
    part.rename(final)
    sync_folder(root)
    return final


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """(weights by name, the optimiser's state by name and key) of a checkpoint of any model.

    Raises:
        RecordError: the checkpoint is damaged.
    """
    try:
        weights, flat = load_file(path / "model.safetensors"), load_file(path / "optimizer.safetensors")
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise RecordError(f"{path}: cannot be read as a checkpoint ({error})") from error
    moments: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in flat.items():
        name, _, key = full_name.rpartition("/")
        moments.setdefault(name, {})[key] = tensor
    return weights, moments


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Restore what `save_checkpoint` or `keep_checkpoint` wrote, in place.

    The optimiser must have a state for every parameter, as `build_optimizer` gives it: its names are looked up.

    Raises:
        RecordError: the checkpoint is damaged, or is of another model.
    """
    weights, moments = read_checkpoint(path)
    try:
        position = Position(**json.loads((path / "position.json").read_text()))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():  # parameters and persistent buffers
                tensor.copy_(weights.pop(name))
        for name, parameter in model.named_parameters():
            own = moments.pop(name)
            optimizer.state[parameter] = {key: own[key].to(parameter.device) for key in optimizer.state[parameter]}
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise RecordError(f"{path}: cannot be read as a checkpoint of this run ({error})") from error
    if weights or moments:
        raise RecordError(f"{path}: holds tensors that this model has not: {', '.join([*weights, *moments])}")
    return position


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """The optimiser's own tensors, by the name of the parameter and by key."""
    return {name: dict(optimizer.state[parameter]) for name, parameter in model.named_parameters()}


def _flat(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for name, tensors in state.items() for key, value in tensors.items()}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

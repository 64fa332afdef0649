"""Assertions in the language of the subject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conf.compose import compose
from conf.config import resolve
from models.build import build
from models.gpt import GPT
from train import loop, traced_step

EXPLODING = {"param.readout_scale": 4, "train.diverged_above": 1.0001}
"""Settings of a run that diverges at its first step on every processor: logits of a standard deviation of 4, whose loss
is far above ln V, and a limit that is not."""


def gpt(*overrides: str, vocab_size: int = 50, context: int = 16, seed: int = 0) -> GPT:
    """A small model, with a readout large enough that its logits say something."""
    small = ["model.depth=4", "model.width=32", "model.heads=4", "param.readout_scale=1.0"]
    config = resolve(compose([*small, *overrides]), cuda=False)
    return build(config.model, config.param, vocab_size=vocab_size, context=context, seed=seed)


def tokens(batch: int, context: int, vocab_size: int, seed: int = 0) -> Tensor:
    return torch.randint(vocab_size, (batch, context), generator=torch.Generator().manual_seed(seed))


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of log2 y against log2 x."""
    return float(np.polyfit([log2(v) for v in x], [log2(v) for v in y], 1)[0])


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run, read without the project's own reader."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def lose_at(patch: pytest.MonkeyPatch, step: int, loss: float) -> None:
    """The training loss of this step is this one, whether the run comes to it for the first time or again."""
    original = traced_step.train_step

    def lose(forward: Any, parameters: Any, optimizer: torch.optim.Optimizer, *rest: Any, **how: Any) -> Any:
        row = original(forward, parameters, optimizer, *rest, **how)
        done = next(iter(optimizer.state.values()))["step"]
        return row | ({"train_loss": torch.tensor(loss)} if done == step else {})

    patch.setattr(traced_step, "train_step", lose)


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The run is interrupted before this step, as by Ctrl-C that nobody hears."""
    original = loop.step_row

    def stop(job: Any, clock: Any, at: int, **how: Any) -> Any:
        if at == step:
            raise KeyboardInterrupt
        return original(job, clock, at, **how)

    patch.setattr(loop, "step_row", stop)

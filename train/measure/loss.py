"""The validation loss, with its standard error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.distributed import Ranks
from train.step import Forward, sequence_losses


@dataclass(frozen=True)
class Average:
    """A mean of independent values with its standard error (ddof 1)."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Tensor) -> Average:
        """Of a vector of at least two values, in double precision."""
        values = values.double()
        return cls(values.mean().item(), (values.std(correction=1) / len(values) ** 0.5).item())


@torch.no_grad()
def evaluate(
    forward: Forward, windows_NT1: Tensor, *, batch_size: int, autocast: torch.autocast, ranks: Ranks
) -> Average:
    """Mean cross-entropy in nats per token over N windows of T+1 tokens, each window one sample.

    The windows are the same on every process, which evaluates its own share of them.
    """
    losses_N = torch.zeros(len(windows_NT1), dtype=torch.float64, device=windows_NT1.device)
    mine = slice(ranks.rank, None, ranks.world)
    parts = []
    for windows_BT1 in windows_NT1[mine].split(batch_size):
        with autocast:
            parts.append(sequence_losses(forward(windows_BT1[:, :-1]), windows_BT1[:, 1:]))
    if parts:  # more processes than windows leave some without
        losses_N[mine] = torch.cat(parts).double()
    ranks.sum([losses_N])
    return Average.of(losses_N)

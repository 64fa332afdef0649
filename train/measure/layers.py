"""What each block is good for: the loss without it, and how far it turns the residual stream.

Letters: N windows, B of them at a time, T context, L depth, D width.
"""

from __future__ import annotations

import logging
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from models.gpt import GPT
from train.distributed import Ranks
from train.measure.loss import evaluate
from train.record.metrics import block_name

ANGLE_WINDOWS = 64

log = logging.getLogger(__name__)


def measure_layers(model: GPT, windows_NT1: Tensor, *, batch_size: int, autocast: torch.autocast) -> dict[str, float]:
    """`block{l}/removal_loss` and `angle/{l}/{n}` of `train.record.metrics`, on this process alone.

    Args:
        windows_NT1: (N, T+1) tokens; the angles are of the first `ANGLE_WINDOWS` of them.
        batch_size: windows per forward pass.
    """
    log.info("measuring what each of the %d blocks is good for", model.cfg.depth)
    row = removal_losses(model, windows_NT1, batch_size=batch_size, autocast=autocast)
    return row | angles(model, windows_NT1[:ANGLE_WINDOWS, :-1], batch_size=batch_size, autocast=autocast)


def removal_losses(model: GPT, windows_NT1: Tensor, *, batch_size: int, autocast: torch.autocast) -> dict[str, float]:
    """The rise of the loss when one block is left out, nats per token (Sun et al. 2025, arXiv 2502.05795)."""

    def loss(skip: frozenset[int]) -> float:
        def forward(tokens_BT: Tensor) -> Tensor:
            return model(tokens_BT, skip=skip)

        return evaluate(forward, windows_NT1, batch_size=batch_size, autocast=autocast, ranks=Ranks()).mean

    whole = loss(frozenset())
    return {f"{block_name(layer)}/removal_loss": loss(frozenset({layer})) - whole for layer in range(model.cfg.depth)}


@torch.no_grad()
def angles(model: GPT, tokens_NT: Tensor, *, batch_size: int, autocast: torch.autocast) -> dict[str, float]:
    """Angular distance arccos(cosine) / pi between the inputs of blocks l and l + n, averaged over tokens.

    Gromov et al. 2024 (arXiv 2403.17887), here at every token as in Sun et al. 2025 (arXiv 2502.05795). The input of
    block L is the last block's output.
    """
    depth = model.cfg.depth
    pairs = [(layer, n) for layer in range(depth) for n in range(1, depth - layer + 1)]
    totals = torch.zeros(len(pairs), dtype=torch.float64, device=tokens_NT.device)
    for tokens_BT in tokens_NT.split(batch_size):
        inputs = _block_inputs(model, tokens_BT, autocast)
        each = [angular_distance(inputs[layer], inputs[layer + n]).double().sum() for layer, n in pairs]
        totals += torch.stack(each)
    means = (totals / tokens_NT.numel()).tolist()
    return {f"angle/{layer}/{n}": mean for (layer, n), mean in zip(pairs, means, strict=True)}


def angular_distance(x: Tensor, y: Tensor) -> Tensor:
    """Angle between vectors along the last dimension, in units of pi: 0 aligned, 1/2 orthogonal, 1 opposed.

    As 2 atan2(|u - v|, |u + v|) of the unit vectors, since arccos loses half of the digits of a small angle.
    """
    u, v = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    return 2 / pi * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))


def _block_inputs(model: GPT, tokens_BT: Tensor, autocast: torch.autocast) -> list[Tensor]:
    """The residual stream before each block and after the last one, L + 1 tensors of shape (B, T, D)."""
    streams: list[Tensor] = []

    def tap(name: str, _: int, x: Tensor) -> None:
        if name in {"embedding", "block_output"}:
            streams.append(x.float())

    with autocast:
        model(tokens_BT, tap)
    return streams

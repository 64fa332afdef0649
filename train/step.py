"""One optimiser step: a batch in, metrics out.

Letters: B sequences of this process, M sequences per forward pass, T context, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.optim import clip_each

Forward = Callable[[Tensor], Tensor]
Reduce = Callable[[Sequence[Tensor]], None]


def sequence_losses(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean cross-entropy of each sequence in nats per token, (B,)."""
    losses_BT = F.cross_entropy(logits_BTV.float().transpose(-2, -1), targets_BT, reduction="none")
    return losses_BT.mean(-1)


def z_penalty(logits_BTV: Tensor) -> Tensor:
    """Mean (log Z)² of the output logits (Chowdhery et al. 2022, section 5), a scalar."""
    return logits_BTV.float().logsumexp(-1).square().mean()


def train_step(
    forward: Forward,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    windows_BT1: Tensor,
    *,
    micro_batch: int,
    clip: float | None,
    clip_by: str,
    z_loss: float,
    autocast: torch.autocast,
    reduce: Reduce,
    observe_gradients: Callable[[], None] | None = None,
) -> dict[str, Tensor]:
    """Forward and backward over micro-batches, then one update.

    Args:
        forward: tokens (M, T) -> logits (M, T, V).
        windows_BT1: (B, T+1) tokens, inputs and targets overlapping by T.
        micro_batch: M, at most.
        clip: largest gradient norm, or None.
        clip_by: `global`: of all gradients together; `tensor`: see `train.optim.clip_each`.
        z_loss: weight of `z_penalty`; it enters the gradient, not the reported loss.
        reduce: averages tensors over the processes, in place.
        observe_gradients: called when the gradients are complete and not yet clipped.

    Returns:
        `train_loss` (mean cross-entropy, nats per token) and `grad_norm` (global, before clipping), as tensors
        that have not been waited for.
    """
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=windows_BT1.device)
    for windows_MT1 in windows_BT1.split(micro_batch):
        share = len(windows_MT1) / len(windows_BT1)  # the last one may be smaller
        with autocast:
            logits_MTV = forward(windows_MT1[:, :-1])
            loss = sequence_losses(logits_MTV, windows_MT1[:, 1:]).mean() * share
            penalty = z_loss * z_penalty(logits_MTV) * share if z_loss else 0.0
        (loss + penalty).backward()
        total = total + loss.detach()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    reduce([*gradients, total])
    if observe_gradients is not None:
        observe_gradients()
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None and clip_by == "tensor":
        clip_each(optimizer, clip)
    elif clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    optimizer.step()
    return {"train_loss": total, "grad_norm": norm}

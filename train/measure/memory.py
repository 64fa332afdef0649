"""`kept_bytes(model, tokens_BT, autocast)`: what backward keeps of a forward pass, measured and not estimated."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpt import GPT


def kept_bytes(model: GPT, tokens_BT: Tensor, autocast: torch.autocast) -> int:
    """Bytes of the tensors that are kept for backward, the weights aside; those that share a storage count once."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast:
        loss = model(tokens_BT).float().logsumexp(-1).mean()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    total = sum(size for place, size in kept.items() if place not in weights)
    del loss  # until here it keeps the storages, whose places would be given to others
    return total

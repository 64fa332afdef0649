"""Whether a model is dead: `cause_of_death(model, tokens_BT, autocast)` -> "dead: the attention of block 0 reaches
3.9e+20, and the final norm is exactly 0 at 256 of 256 tokens", or None for one that is alive.

Once the sum of squares of the residual stream overflows, its norm is exactly 0: so are the logits and every gradient,
the loss is that of a uniform guess, and no step changes that. Neither the loss nor the gradient is infinite, so that
nothing but this tells such a run from one that has yet to learn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpt import GPT

_PLACES = {
    "embedding": "the embedding",
    "attention_out": "the attention of block {layer}",
    "mlp_out": "the MLP of block {layer}",
    "block_output": "the residual stream after block {layer}",
}


@torch.no_grad()
def cause_of_death(model: GPT, tokens_BT: Tensor, autocast: torch.autocast) -> str | None:
    """What a record says of a model whose final norm is exactly 0 at some token; None where it is at none.

    A forward pass of its own. It is the norm that decides, and not the logits or the gradient: a readout that is still
    zero has neither the one nor, where its targets happen to be balanced, the other.
    """
    overflowing: list[str] = []
    normed: list[Tensor] = []

    def tap(name: str, layer: int, x: Tensor) -> None:
        x = x.float()
        if name in _PLACES and not x.square().sum(-1).isfinite().all():
            place = _PLACES[name].format(layer=layer)
            overflowing.append(f"{place} reaches {x.abs().max().item():.2g}")

    hook = model.final_norm.register_forward_hook(lambda _module, _inputs, output: normed.append(output))
    try:
        with autocast:
            model(tokens_BT, tap)
    finally:
        hook.remove()
    zero_BT = ~normed[0].any(-1)
    if not zero_BT.any():
        return None
    found = f"the final norm is exactly 0 at {int(zero_BT.sum())} of {zero_BT.numel()} tokens"
    return "dead: " + ", and ".join([*overflowing[:1], found])

"""Statistics of activations, logits, gradients, weights and updates. They read and never write."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from models.gpt import GPT
from models.roles import named_roles


def rms(x: Tensor) -> float:
    """Root mean square over all elements."""
    return x.float().square().mean().sqrt().item()


@torch.no_grad()
def probe_activations(model: GPT, tokens_BT: Tensor, autocast: torch.autocast) -> dict[str, float]:
    """Per block: largest attention logit, attention entropy, q, k and output RMS; of the logits: log Z and mean.

    A forward pass of its own, outside the training graph, with the attention logits computed explicitly.
    """
    row: dict[str, float] = {}

    def tap(name: str, layer: int, x: Tensor) -> None:
        match name:
            case "query" | "key":
                row[f"block{layer}/{name}_rms"] = rms(x)
            case "attention_logits":
                row[f"block{layer}/attention_logit_max"] = x.max().item()
                row[f"block{layer}/attention_entropy"] = _entropy(x).mean().item()
            case "block_output":
                row[f"block{layer}/output_rms"] = rms(x)
            case "logits":
                row["log_z_mean"] = x.float().logsumexp(-1).mean().item()
                row["logit_mean"] = x.float().mean().item()

    with autocast:
        model(tokens_BT, tap)
    return row


def _entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the softmax over the last dimension; masked entries add nothing."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


class ParameterProbe:
    """RMS per role of gradients, weights and the update, around one optimiser step.

    Create it before the step, call `see_gradients` when they are complete, and `row` after the step.
    """

    def __init__(self, model: GPT) -> None:
        self._parameters = defaultdict(list)
        for _, parameter, role in named_roles(model):
            self._parameters[role].append(parameter)
        self._before = {role: [p.detach().clone() for p in ps] for role, ps in self._parameters.items()}
        self._row: dict[str, float] = {}

    def see_gradients(self) -> None:
        for role, parameters in self._parameters.items():
            gradients = [p.grad.reshape(-1) for p in parameters if p.grad is not None]
            if gradients:
                self._row[f"{role}/gradient_rms"] = rms(torch.cat(gradients))

    @torch.no_grad()
    def row(self) -> dict[str, float]:
        for role, parameters in self._parameters.items():
            before = self._before[role]
            self._row[f"{role}/parameter_rms"] = rms(torch.cat([p.reshape(-1) for p in before]))
            changes = [(p - old).reshape(-1) for p, old in zip(parameters, before, strict=True)]
            self._row[f"{role}/update_rms"] = rms(torch.cat(changes))
        return self._row

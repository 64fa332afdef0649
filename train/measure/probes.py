"""Statistics of activations, logits, gradients, weights and updates. They read and never write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import Linear
from models.gpt import GPT
from models.roles import named_roles
from train.optim import debiased, staleness
from train.record.metrics import TABLE_NAME, block_name


@torch.no_grad()
def probe_activations(model: GPT, tokens_BT: Tensor, autocast: torch.autocast) -> dict[str, float]:
    """Of the embedding, each block's attention, branches and output, and the logits: what `train.record.metrics` lists.

    A forward pass of its own, outside the training graph, with the attention logits computed explicitly.
    """
    row: dict[str, Tensor] = {}
    queries: dict[int, Tensor] = {}

    def tap(name: str, layer: int, x: Tensor) -> None:
        x, block = x.float(), block_name(layer)
        match name:
            case "embedding":
                row["embedding_abs"] = x.abs().mean()
            case "query":
                queries[layer] = x
                row[f"{block}/query_rms"] = _rms(x)
            case "key":
                row[f"{block}/key_rms"] = _rms(x)
                row[f"{block}/qk_cosine"] = _largest_cosine(queries.pop(layer), x)
            case "attention_logits":
                row[f"{block}/attention_logit_max"] = x.max()
                row[f"{block}/attention_entropy"] = _entropy(x).mean()
            case "attention_out" | "mlp_out":
                row[f"{block}/{name.removesuffix('_out')}_abs"] = x.abs().mean()
            case "block_output":
                row[f"{block}/output_abs"] = x.abs().mean()
                row[f"{block}/output_rms"] = _rms(x)
                row[f"{block}/output_variance"] = x.var(-1, correction=0).mean()
            case "logits":
                row["log_z_mean"] = x.logsumexp(-1).mean()
                row["logit_mean"] = x.mean()
                row["logits_abs"] = x.abs().mean()

    with autocast:
        model(tokens_BT, tap)
    return _fetch(row)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the softmax over the last dimension; masked entries add nothing."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


def _largest_cosine(q_BHTK: Tensor, k_BHTK: Tensor) -> Tensor:
    """Of a query with a key at its own place or before it."""
    with torch.autocast(q_BHTK.device.type, enabled=False):
        cosine_BHTT = F.normalize(q_BHTK, dim=-1) @ F.normalize(k_BHTK, dim=-1).transpose(-2, -1)
    future_TT = torch.ones(cosine_BHTT.shape[-2:], dtype=torch.bool, device=cosine_BHTT.device).triu(1)
    return cosine_BHTT.masked_fill(future_TT, -torch.inf).max()


def _fetch(row: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers behind scalar tensors, waiting for the device once."""
    return dict(zip(row, torch.stack(list(row.values())).tolist(), strict=True)) if row else {}


# --- parameters ------------------------------------------------------------------------------------------


def named_tensors(model: GPT) -> Iterator[tuple[str, nn.Parameter]]:
    """Every matrix and the token table under the name that its metrics have: `block3/query`, `tokens`, `readout`.

    A block that has several places in the depth goes by the first of them. Parameter tokens, templates and their
    coefficients are no matrices of a block; their metrics are those of their role.
    """
    yield TABLE_NAME, model.tokens.weight
    for layer, block in zip(model.first_layers(), model.blocks, strict=True):
        for path, module in block.named_modules():
            if isinstance(module, Linear):
                yield f"{block_name(layer)}/{path.rpartition('.')[2]}", module.weight
    if model.readout is not None:
        yield "readout", model.readout.weight


class ParameterProbe:
    """Gradients, weights and the update around one optimiser step, by role, by block and by tensor.

    Create it before the step, call `see_gradients` when they are complete and not yet clipped, and `row` after the
    step, when the optimiser's moments include its gradient.
    """

    def __init__(self, model: GPT, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._roles: dict[str, list[nn.Parameter]] = defaultdict(list)
        for _, parameter, role in named_roles(model):
            self._roles[role].append(parameter)
        blocks = zip(model.first_layers(), model.blocks, strict=True)
        self._blocks = {block_name(layer): list(block.parameters()) for layer, block in blocks}
        self._tensors = dict(named_tensors(model))
        self._before = {parameter: parameter.detach().clone() for parameter in model.parameters()}
        self._row: dict[str, float] = {}

    @torch.no_grad()
    def see_gradients(self) -> None:
        norms = _norms({p: p.grad for p in self._before if p.grad is not None})
        groups = self._roles | {name: [parameter] for name, parameter in self._tensors.items()}
        for name, parameters in groups.items():
            if seen := [parameter for parameter in parameters if parameter in norms]:
                self._row[f"{name}/gradient_rms"] = _rms_of(seen, norms)
        for name, parameters in self._blocks.items():
            self._row[f"{name}/gradient_norm"] = sqrt(sum(norms.get(parameter, 0.0) ** 2 for parameter in parameters))

    @torch.no_grad()
    def row(self) -> dict[str, float]:
        weights, changes = _norms(self._before), _norms({p: p - old for p, old in self._before.items()})
        for role, parameters in self._roles.items():
            self._row[f"{role}/parameter_rms"] = _rms_of(parameters, weights)
            self._row[f"{role}/update_rms"] = _rms_of(parameters, changes)
        return self._row | _fetch(self._adam())

    def _adam(self) -> dict[str, Tensor]:
        """Adam's direction before the learning rate (Kingma and Ba 2015, algorithm 1), and `train.optim.staleness`."""
        row: dict[str, Tensor] = {}
        groups = {parameter: group for group in self._optimizer.param_groups for parameter in group["params"]}
        for name, parameter in self._tensors.items():
            if parameter.grad is None:
                continue
            state, group = self._optimizer.state[parameter], groups[parameter]
            beta1, beta2 = group["betas"]
            m_hat = debiased(state["exp_avg"], beta1, state["step"])
            v_hat = debiased(state["exp_avg_sq"], beta2, state["step"])
            row[f"{name}/adam_rms"] = _rms(m_hat / (v_hat.sqrt() + group["eps"]))
            row[f"{name}/staleness"] = staleness(parameter.grad, v_hat, group["eps"])
        return row


def _norms(tensors: Mapping[nn.Parameter, Tensor]) -> dict[nn.Parameter, float]:
    """The 2-norm of each tensor, waiting for the device once."""
    return dict(
        zip(tensors, torch.stack([torch.linalg.vector_norm(x) for x in tensors.values()]).tolist(), strict=True)
    )


def _rms_of(parameters: Iterable[nn.Parameter], norms: Mapping[nn.Parameter, float]) -> float:
    """Root mean square over all elements of several tensors, from their norms."""
    parameters = list(parameters)
    return sqrt(sum(norms[p] ** 2 for p in parameters) / sum(p.numel() for p in parameters))

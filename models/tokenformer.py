"""Linear maps as attention to parameter tokens (TokenFormer: Wang et al. 2024, arXiv 2410.23168).

Letters: B batch, T context, D width, N parameter tokens. With `model.param_tokens` = N, a block's query, key, value
and out are each a `Pattention` of N tokens, and its MLP is one of `model.mlp_hidden` tokens, D -> D, so that
`model.activation` has no say. Appending tokens makes the model larger at the same width.

What differs from the paper's code: norms keep their gain (theirs have none inside the blocks), RoPE turns whole heads
(theirs a quarter), and the init is the parametrisation's. Keys are hidden matrices with D inputs; their scale drops out
of the function. Values have the role of the matrix that they stand for, with N inputs: std 1/sqrt(N), which gives
outputs of variance E[GELU(z)²] = 0.43, z ~ N(0, 1), whatever D and N, as the usual MLP has after its GELU. muP's zero
queries are zero values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conf.schema import ModelConfig
from models.blocks import fix_rms, stream
from models.roles import Axis, Role, Weight


class Pattention(nn.Module):
    """GELU(tau A / |A|_2) V with A = x Kᵀ, tau = sqrt(param_tau N) (section 3.2 of the paper, where param_tau = 1).

    Args:
        inputs, outputs: of the keys (N, inputs) and of the values (N, outputs).
        role: of the matrix that this stands for.
        tokens: the N parameter tokens.
        param_tau: tau²/N. Halved while zero keys double N, it keeps tau, and so the function.
    """

    def __init__(self, inputs: Axis, outputs: Axis, role: Role, *, tokens: Axis, param_tau: float) -> None:
        super().__init__()
        self.declared = {
            "keys": Weight(Role.HIDDEN, (tokens.name, inputs.name), summed=1),
            "values": Weight(role, (tokens.name, outputs.name), summed=0),
        }
        self.param_tau = param_tau
        self.keys = nn.Parameter(torch.empty(tokens.size, inputs.size))
        self.values = nn.Parameter(torch.empty(tokens.size, outputs.size))

    def forward(self, x_BTD: Tensor) -> Tensor:
        # tau / |A|_2 = sqrt(param_tau) / RMS(A)
        scores_BTN = F.gelu(fix_rms(F.linear(x_BTD, self.keys), self.param_tau))
        return scores_BTN @ self.values


class TokenMLP(nn.Module):
    """The MLP as one Pattention: keys for `up`, values for `down`."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        residual, hidden = stream(cfg), Axis("hidden", cfg.hidden)
        self.tokens = Pattention(residual, residual, Role.RESIDUAL, tokens=hidden, param_tau=cfg.param_tau)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = self.tokens(x_BTD)
        return y_BTD

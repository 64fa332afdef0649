"""The model, top to bottom: tokens in, logits out.

Letters: B batch, T context, D width, H heads, K = D/H, F MLP hidden, V vocabulary, L depth.
A decoder-only transformer without biases; without blocks, a table of bigrams of rank D. `models.blocks` holds the
parts and their options; `models.build` makes an initialised one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conf.schema import ModelConfig
from models.blocks import (
    MLPS,
    PLACEMENTS,
    Attention,
    Linear,
    Norm,
    SigmaLinear,
    Sublayer,
    Table,
    Tap,
    placement,
    rope_tables,
    soft_cap,
)
from models.roles import Role


class GPT(nn.Module):
    """Decoder-only transformer.

    Args:
        cfg: the architecture, with `attention_scale` resolved.
        vocab_size: V.
        context: T, the longest window.
        residual_multiplier: on every residual branch.
        logit_multiplier: on the logits.
    """

    cos_TK2: Tensor
    sin_TK2: Tensor

    def __init__(
        self,
        cfg: ModelConfig,
        *,
        vocab_size: int,
        context: int,
        residual_multiplier: float = 1.0,
        logit_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.cfg = cfg
        self.logit_multiplier = logit_multiplier
        tied = cfg.tie_embeddings
        table_role = Role.TIED_EMBEDDING if tied else Role.EMBEDDING
        self.tokens = Table(vocab_size, cfg.width, table_role)
        self.positions = Table(context, cfg.width, table_role) if cfg.position == "learned" else None
        # Peri-LN normalises the embedding too, or branches of unit variance would drown it (Kim et al. 2025).
        self.embedding_norm = Norm(cfg.norm, cfg.width, Role.EDGE_NORM) if cfg.norm_placement == "peri" else None
        self.blocks = nn.ModuleList(Block(cfg, layer, residual_multiplier) for layer in range(cfg.depth))
        self.final_norm = Norm(cfg.norm, cfg.width, Role.EDGE_NORM)
        self.readout = None if tied else Linear(cfg.width, vocab_size, Role.READOUT)

        cos_TK2, sin_TK2 = rope_tables(context, cfg.head_dim, cfg.rope_base)
        self.register_buffer("cos_TK2", cos_TK2, persistent=False)
        self.register_buffer("sin_TK2", sin_TK2, persistent=False)

    def forward(self, tokens_BT: Tensor, tap: Tap | None = None, skip: frozenset[int] = frozenset()) -> Tensor:
        """Logits of the next token, (B, T, V).

        Args:
            tokens_BT: tokens, T at most the context.
            tap: is shown what is computed on the way; of skipped blocks nothing is.
            skip: blocks, from 0, that are left out, as if both of their branches were zero (and nothing normalised).
        """
        x_BTD = self.embed(tokens_BT)
        if tap is not None:
            tap("embedding", 0, x_BTD)
        return self.decode(x_BTD, tap, skip)

    def iterate_sigmas(self) -> None:
        """Once before each update, ahead of its forward passes: see `models.blocks.SigmaReparam`."""
        if not self.cfg.sigma_reparam:  # no need to look through the modules at every step
            return
        for module in self.modules():
            if isinstance(module, SigmaLinear):
                module.sigma.iterate(module.weight)

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """The residual stream before the first block, (B, T, D)."""
        x_BTD = self.tokens(tokens_BT)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions(torch.arange(tokens_BT.shape[-1], device=tokens_BT.device))
        return x_BTD if self.embedding_norm is None else self.embedding_norm(x_BTD)

    def decode(self, x_BTD: Tensor, tap: Tap | None = None, skip: frozenset[int] = frozenset()) -> Tensor:
        """Logits, (B, T, V), from the embedded tokens."""
        T = x_BTD.shape[-2]
        cos_TK2, sin_TK2 = self.cos_TK2[:T], self.sin_TK2[:T]
        for layer, block in enumerate(self.blocks):
            if layer not in skip:
                x_BTD = block(x_BTD, cos_TK2, sin_TK2, tap)
        logits_BTV = self.read_out(self.final_norm(x_BTD))
        if tap is not None:
            tap("logits", 0, logits_BTV)
        return logits_BTV

    def read_out(self, x_BTD: Tensor) -> Tensor:
        """Logits from the normalised stream, capped on request."""
        weight_VD = self.tokens.weight if self.readout is None else self.readout.weight
        logits_BTV = F.linear(x_BTD, weight_VD)
        if self.logit_multiplier != 1:
            logits_BTV = logits_BTV * self.logit_multiplier
        return logits_BTV if self.cfg.softcap is None else soft_cap(logits_BTV, self.cfg.softcap)


class Block(nn.Module):
    """Attention, then MLP, each a residual sublayer."""

    def __init__(self, cfg: ModelConfig, layer: int, residual_multiplier: float) -> None:
        super().__init__()
        self.layer = layer
        places = PLACEMENTS[placement(cfg, layer)]
        # Norms of q, k and v take the place of the one norm before them (Rybakov et al. 2024).
        attention_places = places - {"input"} if cfg.qk_norm == "qkv" else places
        self.attention = Sublayer(Attention(cfg, layer), cfg, layer, attention_places, residual_multiplier)
        self.mlp = Sublayer(MLPS[cfg.activation](cfg), cfg, layer, places, residual_multiplier)

    def forward(self, x_BTD: Tensor, cos_TK2: Tensor, sin_TK2: Tensor, tap: Tap | None = None) -> Tensor:
        x_BTD, attention_BTD = self.attention(x_BTD, cos_TK2, sin_TK2, tap)
        x_BTD, mlp_BTD = self.mlp(x_BTD)
        if tap is not None:
            tap("attention_out", self.layer, attention_BTD)
            tap("mlp_out", self.layer, mlp_BTD)
            tap("block_output", self.layer, x_BTD)
        return x_BTD

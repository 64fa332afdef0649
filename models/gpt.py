"""The model, top to bottom: tokens in, logits out.

Letters: B batch, T context, D width, H heads, K = D/H, F MLP hidden, V vocabulary, L depth.
A decoder-only transformer without biases; without blocks, a table of bigrams of rank D. `models.blocks` holds the
parts and their options, `models.tokenformer` and `models.templates` what can stand in for a block's matrices;
`models.build` makes an initialised one.

With `model.stages` = S there are S blocks, and place l of the depth is block floor(l S / L)'s: the weight sharing of
Learngene's auxiliary model (Xia et al. 2024, arXiv 2404.16897, SWS). What is shown to a tap, and what `skip` leaves
out, is by place. Rules of the parametrisation see L, and know nothing of the sharing.
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
    MakeLinear,
    Norm,
    Show,
    SigmaLinear,
    Sublayer,
    Table,
    Tap,
    rope_tables,
    soft_cap,
    stream,
)
from models.roles import Axis, Role
from models.templates import Templates
from models.tokenformer import Pattention, TokenMLP


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
        residual, vocabulary, positions = stream(cfg), Axis("vocabulary", vocab_size), Axis("positions", context)
        self.tokens = Table(vocabulary, residual, table_role)
        self.positions = Table(positions, residual, table_role) if cfg.position == "learned" else None
        # Peri-LN normalises the embedding too, or branches of unit variance would drown it (Kim et al. 2025).
        self.embedding_norm = Norm(cfg.norm, residual, Role.EDGE_NORM) if cfg.norm_placement == "peri" else None
        self.templates = None if cfg.templates is None else Templates(cfg.templates)
        linear = linear_maker(cfg, self.templates)
        self.blocks = nn.ModuleList(Block(cfg, layer, linear, residual_multiplier) for layer in range(cfg.n_blocks))
        # A tied readout sums over the channels of a table whose rows are also looked up, and so cannot be shared out.
        self.final_norm = Norm(cfg.norm, residual, Role.EDGE_NORM, summed=tied)
        self.readout = None if tied else Linear(residual, vocabulary, Role.READOUT)

        cos_TK2, sin_TK2 = rope_tables(context, cfg.head_dim, cfg.rope_base)
        self.register_buffer("cos_TK2", cos_TK2, persistent=False)
        self.register_buffer("sin_TK2", sin_TK2, persistent=False)

    def forward(self, tokens_BT: Tensor, tap: Tap | None = None, skip: frozenset[int] = frozenset()) -> Tensor:
        """Logits of the next token, (B, T, V).

        Args:
            tokens_BT: tokens, T at most the context.
            tap: is shown what is computed on the way; of skipped blocks nothing is.
            skip: places in the depth, from 0, whose blocks are left out, as if both of their branches were zero (and
                nothing normalised).
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
        for layer in range(self.cfg.depth):
            if layer not in skip:
                x_BTD = self.block_at(layer)(x_BTD, cos_TK2, sin_TK2, _at_layer(tap, layer))
        logits_BTV = self.read_out(self.final_norm(x_BTD))
        if tap is not None:
            tap("logits", 0, logits_BTV)
        return logits_BTV

    def block_at(self, layer: int) -> nn.Module:
        """The block at this place in the depth, from 0."""
        return self.blocks[layer * len(self.blocks) // self.cfg.depth]

    def first_layers(self) -> list[int]:
        """For each block the first place in the depth where it stands; without stages that is its index."""
        return [-(-index * self.cfg.depth // len(self.blocks)) for index in range(len(self.blocks))]

    def read_out(self, x_BTD: Tensor) -> Tensor:
        """Logits from the normalised stream, capped on request."""
        weight_VD = self.tokens.weight if self.readout is None else self.readout.weight
        logits_BTV = F.linear(x_BTD, weight_VD)
        if self.logit_multiplier != 1:
            logits_BTV = logits_BTV * self.logit_multiplier
        return logits_BTV if self.cfg.softcap is None else soft_cap(logits_BTV, self.cfg.softcap)


class Block(nn.Module):
    """Attention, then MLP, each a residual sublayer."""

    def __init__(self, cfg: ModelConfig, layer: int, linear: MakeLinear, residual_multiplier: float) -> None:
        super().__init__()
        places = PLACEMENTS[cfg.placement(layer)]
        # Norms of q, k and v take the place of the one norm before them (Rybakov et al. 2024).
        attention_places = places - {"input"} if cfg.qk_norm == "qkv" else places
        mlp = MLPS[cfg.activation](cfg, linear) if cfg.param_tokens is None else TokenMLP(cfg)
        self.attention = Sublayer(Attention(cfg, linear), cfg, layer, attention_places, residual_multiplier)
        self.mlp = Sublayer(mlp, cfg, layer, places, residual_multiplier)

    def forward(self, x_BTD: Tensor, cos_TK2: Tensor, sin_TK2: Tensor, show: Show | None = None) -> Tensor:
        x_BTD, attention_BTD = self.attention(x_BTD, cos_TK2, sin_TK2, show)
        x_BTD, mlp_BTD = self.mlp(x_BTD)
        if show is not None:
            show("attention_out", attention_BTD)
            show("mlp_out", mlp_BTD)
            show("block_output", x_BTD)
        return x_BTD


def linear_maker(cfg: ModelConfig, templates: Templates | None) -> MakeLinear:
    """What the linear maps of the blocks are made of."""
    if templates is not None:
        return templates.linear
    if cfg.param_tokens is not None:
        n, tau = cfg.param_tokens, cfg.param_tau
        return lambda name, inputs, outputs, role: Pattention(
            inputs, outputs, role, tokens=Axis(f"{name}_tokens", n), param_tau=tau
        )
    matrix = SigmaLinear if cfg.sigma_reparam else Linear
    return lambda _, inputs, outputs, role: matrix(inputs, outputs, role)


def _at_layer(tap: Tap | None, layer: int) -> Show | None:
    return None if tap is None else lambda name, x: tap(name, layer, x)

"""Parameters by group and FLOPs per token, in closed form. No torch, so that a plan can be priced anywhere.

Letters: L depth, B blocks with weights of their own, D width, H heads, K = D/H, F MLP hidden, V vocabulary, T context.
`tests/models/test_count.py` compares both with the real model and with torch's own FLOP counter.
"""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import GrowConfig, ModelConfig


@dataclass(frozen=True)
class ParamCounts:
    """Parameters by named group; the properties are the conventions that papers count by."""

    groups: dict[str, int]

    @property
    def total(self) -> int:
        """Everything that is trained."""
        return sum(self.groups.values())

    @property
    def vocab(self) -> int:
        """Token embedding and readout (Tao et al. 2024, "scaling laws with vocabulary": N_v)."""
        return self.groups["token_embedding"] + self.groups["readout"]

    @property
    def non_vocab(self) -> int:
        """All but `vocab` (N_nv)."""
        return self.total - self.vocab

    @property
    def non_embedding(self) -> int:
        """Without token and position embeddings and readout (Kaplan et al. 2020: N)."""
        return self.non_vocab - self.groups["position_embedding"]

    @property
    def matmul(self) -> int:
        """Weights that every token is multiplied by: the body's matrices and the readout, tied or not.

        Shared ones count once, however often they are used; of matrices that templates make, the templates count.
        Up to the norm gains this is the N of Hoffmann et al. 2022 as counted by Porian et al. 2024.
        """
        readout = self.groups["readout"] or self.groups["token_embedding"]
        return self.groups["attention"] + self.groups["mlp"] + readout


def block_weights(model: ModelConfig) -> tuple[int, int]:
    """Weights that a token is multiplied by in one block's attention, and in its MLP."""
    D, F = model.width, model.hidden
    if model.param_tokens is not None:  # each token a key and a value
        return 4 * model.param_tokens * 2 * D, F * 2 * D
    return 4 * D * D, _mlp_matrices(model) * D * F


def _mlp_matrices(model: ModelConfig) -> int:
    return 3 if model.activation == "swiglu" else 2


def block_gains(model: ModelConfig) -> tuple[int, int]:
    """How many norms of one block are as wide as the model, and how many as one head."""
    wide = 4 if model.norm_placement == "peri" else 2
    if model.qk_norm == "qkv":  # which takes the place of the attention's own norm
        wide -= 1
    return wide + (2 if model.qk_norm == "model" else 0), {"head": 2, "qkv": 3}.get(model.qk_norm, 0)


def count_params(model: ModelConfig, *, vocab_size: int, context: int) -> ParamCounts:
    """Count the parameters of `models.gpt.GPT` without building it."""
    B, D, V, T = model.n_blocks, model.width, vocab_size, context
    wide_gains, head_gains = block_gains(model)
    attention, mlp = block_weights(model)
    matrices = 4 + _mlp_matrices(model)
    copies = B if model.templates is None else model.templates
    return ParamCounts(
        {
            "token_embedding": V * D,
            "position_embedding": T * D if model.position == "learned" else 0,
            "attention": copies * attention,
            "mlp": copies * mlp,
            "coefficients": 0 if model.templates is None else B * matrices * model.templates,
            "block_norms": B * (wide_gains * D + head_gains * model.head_dim),
            "matrix_gains": B * matrices if model.sigma_reparam else 0,
            "edge_norms": D * (2 if model.norm_placement == "peri" else 1),
            "readout": 0 if model.tie_embeddings else V * D,
        }
    )


def flops_per_token(model: ModelConfig, *, vocab_size: int, context: int) -> int:
    """FLOPs of training on one token: every matmul of forward and backward, as executed.

    A multiply-add is 2 FLOPs; backward costs twice the forward. The attention scores are counted whole, not
    halved for causality (2 TD for QKᵀ and 2 TD for the weighted values per layer), as in Hoffmann et al. 2022,
    appendix F. Norms, softmax, nonlinearities and the embedding look-up are not matmuls and are left out, and so are
    the products of a matrix with one vector: those of sigma-Reparam, and the combination of K templates, which takes 2K
    FLOPs per weight for all the tokens of a forward pass together.
    """
    L, D, V, T = model.depth, model.width, vocab_size, context
    forward = 2 * (L * sum(block_weights(model)) + V * D) + 4 * L * T * D
    return 3 * forward


def flops_per_token_6nd(model: ModelConfig, *, vocab_size: int, context: int) -> int:
    """The rule of thumb C = 6ND per token, with N the weights of `ParamCounts.matmul`, shared ones once."""
    return 6 * count_params(model, vocab_size=vocab_size, context=context).matmul


def learn_flops(
    base: ModelConfig, cfg: ModelConfig, how: GrowConfig, *, vocab_size: int, context: int
) -> tuple[int, int]:
    """FLOPs of forming a grown model's weights once by `models.growth.learned`, forward and backward."""
    deep, small = how.depth == "learn", base if how.width == "learn" else cfg
    few, many = (base.n_blocks if deep else cfg.n_blocks), cfg.n_blocks
    stream, hidden = (small.width, cfg.width), (small.hidden, cfg.hidden)
    if cfg.param_tokens is not None:
        tokens = (small.param_tokens or 0, cfg.param_tokens)
        matrices = 8 * [(tokens, stream)] + 2 * [(hidden, stream)]
    else:
        matrices = 4 * [(stream, stream)] + (_mlp_matrices(cfg) - 1) * [(hidden, stream)] + [(stream, hidden)]
    wide_gains, head_gains = block_gains(cfg)
    rows = vocab_size * (1 if cfg.tie_embeddings else 2) + (context if cfg.position == "learned" else 0)
    rows += few * wide_gains + (2 if cfg.norm_placement == "peri" else 1)

    copies = few if cfg.templates is None else cfg.templates
    widened = [_widening((rows, rows), stream, 1)]
    widened += [_widening(outputs, inputs, copies if few else 0) for outputs, inputs in matrices]
    mixed = []
    if deep:
        wider = stream[0] != stream[1]
        mixed += [_mixing(few, many, wide_gains * cfg.width, widened=wider)]
        mixed += [_mixing(few, many, head_gains * cfg.head_dim, widened=False)]
        if cfg.templates is not None:
            mixed += [_mixing(few, many, len(matrices) * cfg.templates, widened=False)]
        else:
            mixed += [
                _mixing(few, many, outputs[1] * inputs[1], widened=outputs[0] != outputs[1] or inputs[0] != inputs[1])
                for outputs, inputs in matrices
            ]
    forward, backward = zip(*widened, *mixed, strict=True)
    return sum(forward), sum(backward)


def _widening(outputs: tuple[int, int], inputs: tuple[int, int], copies: int) -> tuple[int, int]:
    """FLOPs of B_out W, and of that times B_inᵀ, for sizes (old, new); W is frozen and needs no gradient."""
    first = 2 * copies * outputs[1] * outputs[0] * inputs[0] if outputs[0] != outputs[1] else 0
    second = 2 * copies * outputs[1] * inputs[0] * inputs[1] if inputs[0] != inputs[1] else 0
    return first + second, first + second * (2 if first else 1)


def _mixing(few: int, many: int, weights: int, *, widened: bool) -> tuple[int, int]:
    """FLOPs of making `many` blocks' tensors out of `few`; the gradient goes on to them if they were widened."""
    product = 2 * many * few * weights
    return product, product * (2 if widened else 1)

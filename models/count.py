"""Parameters by group and FLOPs per token, in closed form. No torch, so that a plan can be priced anywhere.

Letters: L depth, B blocks with weights of their own, D width, H heads, K = D/H, F MLP hidden, V vocabulary, T context.
`tests/models/test_count.py` compares both with the real model and with torch's own FLOP counter.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from conf.duration import Duration
from conf.schema import Config, ConfigError, GrowConfig, ModelConfig


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


# --- learned growth --------------------------------------------------------------------------------------


def learn_flops(
    base: ModelConfig, cfg: ModelConfig, how: GrowConfig, *, vocab_size: int, context: int
) -> tuple[int, int]:
    """FLOPs of forming a grown model's weights once by `models.learned_growth`, forward and backward."""
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


# --- a run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What weights have cost up to some step: optimiser steps, training tokens, and FLOPs as executed and by 6ND."""

    steps: int = 0
    tokens: int = 0
    flops: int = 0
    flops_6nd: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class RunCost:
    """What a run will take, known before it starts. `n_steps`, `n_tokens` and `flops` are its own."""

    n_params: int
    tokens_per_step: int
    n_steps: int
    flops: int
    flops_6nd: int
    inherited: Spent = Spent()  # frozen
    """Of the runs that it grew out of, up to where it began."""
    tuning: Spent = Spent()
    """Of the steps that tuned the map from the base's weights (`grow.learn_steps`); no optimiser step among them. Each
    is charged as a whole step of the grown model, though its backward pass leaves out weights that have no map."""
    model: ModelConfig | None = None
    """What is trained."""
    begun: int = 0
    """Steps of its schedule that others have made before it (`grow.schedule=continue`)."""

    @property
    def n_tokens(self) -> int:
        return self.n_steps * self.tokens_per_step

    @property
    def executed(self) -> Spent:
        """What the run itself computes: the tuning before its first step, and its steps."""
        return self.executed_by(self.n_steps)

    def executed_by(self, step: int) -> Spent:
        """What the run itself has computed when it has made `step` steps."""
        flops, flops_6nd = (total * step // self.n_steps for total in (self.flops, self.flops_6nd))
        return self.tuning + Spent(step, step * self.tokens_per_step, flops, flops_6nd)

    def spent(self, step: int) -> Spent:
        """All that the weights have cost when the run has made `step` steps of its own."""
        return self.inherited + self.executed_by(step)

    def steps(self, duration: str) -> int:
        """A duration within this run, rounded to whole steps."""
        return Duration.parse(duration).steps(
            tokens_per_step=self.tokens_per_step, n_params=self.n_params, run_steps=self.n_steps
        )

    def every(self, duration: str) -> int:
        """Every how many steps something happens; at least one."""
        return max(1, self.steps(duration))


def run_cost(config: Config, vocab_size: int, base: RunCost | None = None) -> RunCost:
    """Steps, tokens and FLOPs of a run, its duration rounded to whole steps.

    Args:
        base: what the run costs that this one grows out of (`grow.base`).

    Raises:
        ConfigError: the duration is shorter than half a step, or the base has no such step.
    """
    context = config.data.context
    n_params = count_params(config.model, vocab_size=vocab_size, context=context).total
    tokens_per_step = config.train.batch_size * context
    duration = Duration.parse(config.train.duration)
    n_steps = duration.steps(tokens_per_step=tokens_per_step, n_params=n_params)
    if n_steps < 1:
        raise ConfigError(
            f"train.duration: {config.train.duration!r} is less than one step of {tokens_per_step} tokens; "
            "allowed: at least one step"
        )
    per_token = flops_per_token(config.model, vocab_size=vocab_size, context=context)
    per_token_6nd = flops_per_token_6nd(config.model, vocab_size=vocab_size, context=context)
    inherited = tuning = Spent()
    begun = 0
    if base is not None:
        assert config.grow.step is not None  # the schema demands it
        if config.grow.step > base.n_steps:
            raise ConfigError(f"grow.step: {config.grow.step} is beyond the base's end; allowed: 0 to {base.n_steps}")
        inherited = base.spent(config.grow.step)
        begun = base.begun + config.grow.step if config.grow.schedule == "continue" else 0
        if "learn" in {config.grow.depth, config.grow.width}:
            assert base.model is not None  # it was priced here
            forward, backward = learn_flops(
                base.model, config.model, config.grow, vocab_size=vocab_size, context=context
            )
            tokens = config.grow.learn_steps * tokens_per_step
            forming = config.grow.learn_steps * (forward + backward) + forward
            tuning = Spent(0, tokens, tokens * per_token + forming, tokens * per_token_6nd)
    tokens = n_steps * tokens_per_step
    return RunCost(
        n_params=n_params,
        tokens_per_step=tokens_per_step,
        n_steps=n_steps,
        flops=tokens * per_token,
        flops_6nd=tokens * per_token_6nd,
        inherited=inherited,
        tuning=tuning,
        model=config.model,
        begun=begun,
    )

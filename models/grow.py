"""The state of a trained model -> that of a larger one. State in, state out; nothing is trained.

Depth, with l blocks in the base and L in the grown model, counted from 0 (`block_sources`):

- `stack`: block i is the base's i mod l (Du et al. 2024, arXiv 2405.15319, "G_stack"; Gong et al. 2019).
- `interpolate`: floor(i l / L). A base with shared weights (`model.stages`) has as many blocks as stages, each of which
  is repeated in its stage and then untied (Xia et al. 2024, arXiv 2404.16897, "SWS").
- `pattern`: `grow.pattern`, block by block.
- `zero`: the order of `interpolate`; the first copy of each block is intact, and the others add nothing to the stream
  (Du et al. 2024, "G_zero"; Gesmundo and Maile 2023, arXiv 2308.06103): their output projections are zero, or, where
  that alone would decide nothing, the gain that follows: of the branch's norm (peri) or of the matrix (sigma-Reparam).
- `random`: the base's blocks, and fresh ones after them.

Width: `models.grow_width`.

The function is kept exactly, under one parametrisation and without noise, by

- depth `zero`, in models without post-norm;
- width `direct`; with parameter tokens, if `model.param_tau` stays the same;
- width `zero` with RMSNorm, up to its epsilon; with parameter tokens, if `model.param_tau` falls as their number grows;

and by a growth in both directions if both of its operators keep it.

Rules for what depends on place or size:

- Embeddings, learned positions, embedding norm and final norm are not repeated; only their width grows.
- A tied readout would sum over all copies of a channel. The gain of the final norm is split between them, and makes up
  for the multiplier on the logits (muP's 1/m) where it changes; so does it for `zero`.
- LayerNorm scaling and CompleteP's residual multiplier belong to a block's new place and depth, and are not made up
  for, except by `zero`, which promises the function: gains grow by the square root of new over old place (from 1), and
  what scales an intact copy's output grows by the base's multiplier over the new one.
- The depth-scaled init, like all of the parametrisation, decides about fresh blocks and entries alone.
- A block goes only where it normalises in the same place (`norm_placement=mix`).
- Noise is a random permutation of the fresh weights, which with the same seed could be the base's own init, and is
  added to all matrices and tables that come from the base: W <- (1 - a) W + a noise (Du et al. 2024, figure 41).

Maps that are learned are the affair of `models.learned_growth`, and matrices made from a base's templates, which here
only have their order, that of `models.template_growth`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conf.schema import GrowConfig, ModelConfig, ParamConfig, UserError, parse_steps
from models.blocks import placement
from models.grow_width import generator, impossible_sizes, is_gain, multiples, widen, widen_moment
from models.parametrize import Shape, logit_multiplier, residual_multiplier

State = dict[str, Tensor]
Moments = dict[str, dict[str, Tensor]]


class GrowthError(UserError):
    """A model that cannot become the other one in the way that was asked for."""


# --- the door --------------------------------------------------------------------------------------------

# What may grow, or is checked block by block; every other setting of the model is the same before and after.
_MAY_DIFFER = frozenset(
    {"depth", "width", "heads", "mlp_hidden", "mix_fraction", "param_tokens", "param_tau", "stages", "templates"}
)


def check_growth(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> None:
    """Whether a model `base` can become `cfg`, as far as settings tell. `attention_scale` must be resolved.

    Raises:
        GrowthError: the first thing that is in the way.
    """
    for problem in (
        *_differences(base, cfg, how),
        *impossible_sizes(base, cfg, how.width),
        *_broken_promises(base, cfg, how),
    ):
        raise GrowthError(problem)
    if how.depth == "learn":  # the rest is another module's affair
        _check_no_fewer(base.n_blocks, cfg.n_blocks, _blocks_setting(cfg))
        return
    for block, origin in enumerate(_origins(base, cfg, how)):
        if origin is None:
            continue
        old, new = placement(base, origin.block), placement(cfg, block)
        if old != new:
            raise GrowthError(
                f"grow.depth: {how.depth!r} puts block {origin.block}, of {old}-norm, where blocks have {new}-norm; "
                "allowed: an order or a model.mix_fraction that leaves each block as it is"
            )
        if not origin.intact and new == "post":
            raise GrowthError(
                f"grow.depth: 'zero' adds block {block} in post-norm, where it is no identity; "
                "allowed: stack, interpolate, pattern, random"
            )


def _differences(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    for field in dataclasses.fields(ModelConfig):
        old, new = getattr(base, field.name), getattr(cfg, field.name)
        if field.name not in _MAY_DIFFER and old != new:
            yield f"model.{field.name}: {new!r} is not the base's; allowed: {old!r}"
    if not base.n_blocks:  # then nothing is made of either
        return
    if (base.param_tokens is None) != (cfg.param_tokens is None):
        allowed = "null" if base.param_tokens is None else f"{base.param_tokens} or more"
        yield f"model.param_tokens: {cfg.param_tokens} is not of the base's architecture; allowed: {allowed}"
    if base.templates != cfg.templates and how.depth != "templates":
        yield f"model.templates: {cfg.templates} is not the base's; allowed: {base.templates}"


def _broken_promises(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    if cfg.sigma_reparam and base.n_blocks:
        for name, old, new in (("width", base.width, cfg.width), ("mlp_hidden", base.hidden, cfg.hidden)):
            if new != old:
                yield (
                    f"model.{name}: {new} is not the base's, with model.sigma_reparam=true, whose singular vectors "
                    f"do not grow; allowed: {old}"
                )
        if how.noise:
            yield f"grow.noise: {how.noise:g} is not allowed with model.sigma_reparam=true; allowed: 0"
    if how.width == "zero" and cfg.norm == "layernorm" and base.width != cfg.width:
        yield (
            "grow.width: 'zero' is not allowed with model.norm=layernorm, whose mean sees the new channels; "
            "allowed: direct, random, learn"
        )
    if how.depth == "zero" and cfg.stages is not None:
        yield (
            f"grow.depth: 'zero' is not allowed with model.stages={cfg.stages}, which repeats each block; "
            "allowed: stack, interpolate, pattern, random"
        )


# --- depth -----------------------------------------------------------------------------------------------

_ORDERS: dict[str, Callable[[int, int, int], int | None]] = {
    "stack": lambda i, few, _: i % few,
    "interpolate": lambda i, few, many: i * few // many,
    "zero": lambda i, few, many: i * few // many,
    "random": lambda i, few, _: i if i < few else None,
    "templates": lambda i, few, many: i * few // many,
}


def block_sources(depth_from: int, depth_to: int, how: GrowConfig, setting: str = "model.depth") -> list[int | None]:
    """For each block of the grown model the base's block, or None for a fresh one.

    Args:
        depth_from, depth_to: blocks of the base and of the grown model.
        how: an operator that copies, not `learn`.
        setting: what errors call the number of blocks.

    Raises:
        GrowthError: there is no such order.
    """
    _check_no_fewer(depth_from, depth_to, setting)
    if depth_to and not depth_from and how.depth != "random":
        raise GrowthError(
            f"{setting}: {depth_to} blocks cannot come from a base without any with grow.depth={how.depth}; "
            "allowed: 0, or grow.depth=random"
        )
    if how.depth == "stack" and depth_to and depth_to % depth_from:
        raise GrowthError(
            f"{setting}: {depth_to} is no multiple of the base's {depth_from}, which grow.depth=stack repeats whole; "
            f"allowed: {multiples(depth_from, depth_to)}"
        )
    if how.depth != "pattern":
        return [_ORDERS[how.depth](i, depth_from, depth_to) for i in range(depth_to)]
    sources = parse_steps(how.pattern or "")
    if len(sources) != depth_to or max(sources) >= depth_from:
        raise GrowthError(
            f"grow.pattern: {how.pattern!r} is not allowed with {setting}={depth_to}; "
            f"allowed: {depth_to} numbers from 0 to {depth_from - 1}, the base's blocks"
        )
    return list(sources)


@dataclass(frozen=True)
class _Origin:
    """Where a block of the grown model comes from."""

    block: int
    """Of the base."""
    intact: bool
    """Whether it does what it did, and not nothing."""


def _origins(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> list[_Origin | None]:
    if how.depth == "zero":  # keeps the function, hence every place in the depth of a base with shared weights
        places = block_sources(base.depth, cfg.n_blocks, how)
        return [
            _Origin(place * base.n_blocks // base.depth, intact=place not in places[:i])
            for i, place in enumerate(places)
            if place is not None
        ]
    sources = block_sources(base.n_blocks, cfg.n_blocks, how, _blocks_setting(cfg))
    return [None if source is None else _Origin(source, intact=True) for source in sources]


def _blocks_setting(cfg: ModelConfig) -> str:
    return "model.depth" if cfg.stages is None else "model.stages"


def _check_no_fewer(depth_from: int, depth_to: int, setting: str) -> None:
    if depth_to < depth_from:
        raise GrowthError(f"{setting}: {depth_to} is less than the base's {depth_from}; allowed: {depth_from} or more")


def _output_scales(cfg: ModelConfig) -> tuple[str, ...]:
    """The parameters of a block, by how their names end, that scale what its two branches add to the stream."""
    if cfg.norm_placement == "peri":
        return ("norm_branch.gain",)
    if cfg.param_tokens is not None:
        return "branch.out.values", "branch.tokens.values"
    kind = "coefficients" if cfg.templates is not None else "sigma.gamma" if cfg.sigma_reparam else "weight"
    return f"branch.out.{kind}", f"branch.down.{kind}"


# --- the whole state -------------------------------------------------------------------------------------


def grow_state(
    base: Mapping[str, Tensor],
    base_cfg: ModelConfig,
    fresh: Mapping[str, Tensor],
    cfg: ModelConfig,
    how: GrowConfig,
    *,
    param: ParamConfig,
    base_param: ParamConfig,
    seed: int = 0,
) -> State:
    """The state of the grown model, in new tensors that share no storage.

    Args:
        base: the base's state, keyed as `GPT.state_dict()`.
        base_cfg, base_param: what the base is, resolved.
        fresh: the grown model's state as `models.build` draws it; its names, shapes, dtypes and devices are kept.
        cfg, param: what it grows into, resolved.
        how: the operators; not `learn` or `templates`.
        seed: draws shares and noise.

    Raises:
        GrowthError: the one cannot become the other.
    """
    check_growth(base_cfg, cfg, how)
    _check_tables(base, fresh)
    tied = cfg.tie_embeddings
    old_shape, new_shape = (Shape(model.width, model.depth) for model in (base_cfg, cfg))
    logits = logit_multiplier(base_param, old_shape, tied=tied) / logit_multiplier(param, new_shape, tied=tied)
    residual = residual_multiplier(base_param, old_shape) / residual_multiplier(param, new_shape)
    origins = _origins(base_cfg, cfg, how)

    grown: State = {}
    for name, new in fresh.items():
        source, block, origin = _source(name, origins)
        if source is None:
            grown[name] = new.clone()
            continue
        tensor = widen(name, base[source], new, how.width, tied=tied, seed=seed)
        if name == "final_norm.gain" and how.width != "random":
            tensor *= logits
        if how.depth == "zero" and origin is not None:
            if name.endswith(_output_scales(cfg)):
                tensor *= residual if origin.intact else 0
            if name.endswith("norm_input.gain") and cfg.layernorm_scaling:
                tensor *= ((block + 1) / (origin.block + 1)) ** 0.5
        if how.noise and new.ndim > 1 and not is_gain(name):
            tensor.lerp_(_shuffled(new, name, seed), how.noise)
        grown[name] = tensor
    return grown


def grow_moments(
    base: Mapping[str, Mapping[str, Tensor]],
    base_cfg: ModelConfig,
    fresh: Mapping[str, Mapping[str, Tensor]],
    cfg: ModelConfig,
    how: GrowConfig,
) -> Moments:
    """The state of the grown model's optimiser, parameter by parameter, in new tensors that share no storage.

    Moments are copied with the weights that they belong to and never scaled, since Adam's direction does not depend on
    the gradient's scale. Whatever is new begins as in `fresh`; of a parameter that is partly new the entries do, and
    the count of steps is the base's. A parameter that `zero` sets to zero is new.

    Args:
        base: for each parameter `step`, `exp_avg`, `exp_avg_sq` and perhaps more.
        fresh: the same of the grown model before its first step: all zero. Its names and keys are kept.

    Raises:
        GrowthError: the one model cannot become the other.
    """
    check_growth(base_cfg, cfg, how)
    origins = _origins(base_cfg, cfg, how)
    grown: Moments = {}
    for name, moments in fresh.items():
        source, _, origin = _source(name, origins)
        zeroed = origin is not None and not origin.intact and name.endswith(_output_scales(cfg))
        old = {} if source is None or zeroed else base[source]
        grown[name] = {
            key: widen_moment(old[key], new, how.width) if key in old else new.clone() for key, new in moments.items()
        }
    return grown


def _source(name: str, origins: list[_Origin | None]) -> tuple[str | None, int, _Origin | None]:
    """The base's name for a parameter (None: it is fresh), its block's index, and that block's origin."""
    if not name.startswith("blocks."):
        absent = name.startswith("templates.") and not any(origins)  # a base without blocks has no templates
        return None if absent else name, -1, None
    _, index, rest = name.split(".", 2)
    origin = origins[int(index)]
    return (None if origin is None else f"blocks.{origin.block}.{rest}"), int(index), origin


def _check_tables(base: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> None:
    for table, setting in (("tokens.weight", "data.vocab_size"), ("positions.weight", "data.context")):
        if table in fresh and len(base[table]) != len(fresh[table]):
            old, new = len(base[table]), len(fresh[table])
            raise GrowthError(
                f"{setting}: {new} is not the base's, which has a row for each in {table}; allowed: {old}"
            )


def _shuffled(fresh: Tensor, name: str, seed: int) -> Tensor:
    order = torch.randperm(fresh.numel(), generator=generator(seed, "noise", name))
    return fresh.flatten()[order.to(fresh.device)].view_as(fresh)

"""Whether one model can become another one, as far as settings tell, and which block comes from which. No torch.

check_growth(base, cfg, how)                        GrowthError: the first thing that is in the way
Growth(base=…, base_param=…, cfg=…, param=…, how=…)  the same, as a value that the operators are given
origins(base, cfg, how)                             [Origin(block=0, intact=True), None, …], a place for each block
block_sources(2, 4, GrowConfig(depth="stack"))      [0, 1, 0, 1]

What the operators do is told in `models.growth.grow`, `models.growth.width`, `models.growth.learned` and
`models.growth.templates`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from conf.duration import parse_steps
from conf.schema import Direction, GrowConfig, ModelConfig, ParamConfig, UserError


class GrowthError(UserError):
    """A model that cannot become the other one in the way that was asked for."""


# --- whether at all --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What becomes what, and how: a growth but for its weights. Making one checks it (`check_growth`).

    Attributes:
        base, base_param: what the base is, resolved.
        cfg, param: what it grows into, resolved.
        how: the operators.
        seed: draws whatever an operator draws, but for the grown model's fresh weights.
    """

    base: ModelConfig
    base_param: ParamConfig
    cfg: ModelConfig
    param: ParamConfig
    how: GrowConfig
    seed: int = 0

    def __post_init__(self) -> None:
        check_growth(self.base, self.cfg, self.how)


def check_growth(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> None:
    """Whether a model `base` can become `cfg` by any of the operators. `attention_scale` must be resolved.

    Raises:
        GrowthError: the first thing that is in the way.
    """
    for problem in (
        *_differences(base, cfg, how),
        *impossible_sizes(base, cfg, how.width),
        *_broken_promises(base, cfg, how),
        *_unlearnable(base, cfg, how),
        *_not_untied(base, cfg, how),
        *_idle_width(base, cfg, how),
    ):
        raise GrowthError(problem)
    if how.depth == "learn":  # whose blocks come from all of the base's
        _check_no_fewer(base.n_blocks, cfg.n_blocks, _blocks_setting(cfg))
        return
    found = origins(base, cfg, how)
    as_they_were = [Origin(block, intact=True) for block in range(base.n_blocks)]
    if found == as_they_were and how.depth in {"interpolate", "zero", "random"}:
        raise GrowthError(
            f"grow.depth: {how.depth!r} does nothing between two models of {base.n_blocks} blocks; "
            "allowed: stack, or more blocks"
        )
    for block, origin in enumerate(found):
        if origin is None:
            continue
        old, new = base.placement(origin.block), cfg.placement(block)
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


def growing(*directions: Direction) -> tuple[str, ...]:
    """The settings of a model that may change when it grows in these directions, or that are checked block by block."""
    return tuple(field.name for field in dataclasses.fields(ModelConfig) if field.metadata["grows"] in directions)


def _differences(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    for field in dataclasses.fields(ModelConfig):
        old, new = getattr(base, field.name), getattr(cfg, field.name)
        if field.name not in growing("depth", "width") and old != new:
            by = ", as param.name decides where it is not set" if field.name == "attention_scale" else ""
            yield f"model.{field.name}: {new!r} is not the base's; allowed: {old!r}{by}"
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


# --- width -----------------------------------------------------------------------------------------------


def _sizes(base: ModelConfig, cfg: ModelConfig) -> list[tuple[str, int, int]]:
    """What `grow.width` makes larger: the setting, the base's size, and the grown model's."""
    sizes = [("width", base.width, cfg.width)]
    if base.n_blocks and cfg.n_blocks:
        sizes.append(("mlp_hidden", base.hidden, cfg.hidden))
        if base.param_tokens is not None and cfg.param_tokens is not None:
            sizes.append(("param_tokens", base.param_tokens, cfg.param_tokens))
    return sizes


def impossible_sizes(base: ModelConfig, cfg: ModelConfig, operator: str) -> Iterator[str]:
    """One line for each size that the base cannot grow into by `grow.width`; `direct` makes whole copies."""
    for name, old, new in _sizes(base, cfg):
        if new < old:
            yield f"model.{name}: {new} is less than the base's {old}; allowed: {old} or more"
        if operator == "direct" and new % old:
            yield (
                f"model.{name}: {new} is no multiple of the base's {old}, of which grow.width=direct makes whole "
                f"copies; allowed: {multiples(old, new)}"
            )
    if base.n_blocks and cfg.n_blocks and base.head_dim != cfg.head_dim:
        fitting = cfg.width / base.head_dim
        instead = f"{int(fitting)}" if fitting.is_integer() else f"with a model.width that {base.head_dim} divides"
        yield (
            f"model.heads: {cfg.heads} gives heads of {cfg.head_dim}, but the base's have {base.head_dim}, "
            f"and only whole heads are added; allowed: {instead}"
        )


def _grows_wider(base: ModelConfig, cfg: ModelConfig) -> bool:
    return any(new > old for _, old, new in _sizes(base, cfg))


def _idle_width(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    if how.width in {"zero", "random"} and not _grows_wider(base, cfg):
        yield (
            f"grow.width: {how.width!r} does nothing between two models of width {base.width}; "
            "allowed: direct, or a larger model.width, model.mlp_hidden or model.param_tokens"
        )


def multiples(of: int, above: int) -> str:
    """The next two sizes that are whole copies, in words."""
    return f"{(above // of + 1) * of}, {(above // of + 2) * of}, …"


# --- learned maps and templates --------------------------------------------------------------------------


def _unlearnable(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    deeper = cfg.n_blocks != base.n_blocks
    if how.depth == "learn":
        if not deeper:
            yield (
                f"grow.depth: 'learn' has nothing to learn between two models of {base.n_blocks} blocks; "
                "allowed: with more blocks"
            )
        if not base.n_blocks:
            yield "grow.depth: 'learn' adds up the base's blocks, and there are none; allowed: random"
        places = {model.placement(block) for model in (base, cfg) for block in range(model.n_blocks)}
        if len(places) > 1:
            yield (
                f"grow.depth: 'learn' adds up blocks that normalise in different places: {', '.join(sorted(places))}; "
                "allowed: all of them in one"
            )
        if cfg.sigma_reparam:
            yield (
                "grow.depth: 'learn' is not allowed with model.sigma_reparam=true, since singular vectors of a sum "
                "are no sum; allowed: stack, interpolate, pattern, zero, random"
            )
    if how.width == "learn":
        if not _grows_wider(base, cfg):
            yield (
                f"grow.width: 'learn' has nothing to learn between two models of width {base.width}; "
                "allowed: with a larger model.width, model.mlp_hidden or model.param_tokens"
            )
        if how.depth == "random" and deeper:
            yield (
                "grow.depth: 'random' is not allowed with grow.width=learn, since its blocks have nothing to be "
                "widened from; allowed: stack, interpolate, pattern, zero, learn"
            )


def _not_untied(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> Iterator[str]:
    if how.depth != "templates":
        return
    if base.templates is None:
        yield (
            "grow.depth: 'templates' is not allowed with a base whose blocks have matrices of their own; "
            "allowed: with one that has model.templates"
        )
    if cfg.templates is not None:
        yield (
            f"model.templates: {cfg.templates} is not allowed with grow.depth=templates, which gives each block "
            "matrices of its own; allowed: null"
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
class Origin:
    """Where a block of the grown model comes from."""

    block: int
    """Of the base."""
    intact: bool
    """Whether it does what it did, and not nothing."""


def origins(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> list[Origin | None]:
    """For each block of the grown model where it comes from, or None for a fresh one; raises as `block_sources`."""
    if how.depth == "zero":  # keeps the function, hence every place in the depth of a base with shared weights
        places = block_sources(base.depth, cfg.n_blocks, how)
        return [
            Origin(place * base.n_blocks // base.depth, intact=place not in places[:i])
            for i, place in enumerate(places)
            if place is not None
        ]
    sources = block_sources(base.n_blocks, cfg.n_blocks, how, _blocks_setting(cfg))
    return [None if source is None else Origin(source, intact=True) for source in sources]


def _blocks_setting(cfg: ModelConfig) -> str:
    return "model.depth" if cfg.stages is None else "model.stages"


def _check_no_fewer(depth_from: int, depth_to: int, setting: str) -> None:
    if depth_to < depth_from:
        raise GrowthError(f"{setting}: {depth_to} is less than the base's {depth_from}; allowed: {depth_from} or more")

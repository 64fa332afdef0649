"""The state of a trained model -> that of a larger one. State in, state out; nothing is trained.

Depth, with l blocks in the base and L in the grown model, counted from 0 (`models.growth.rules.block_sources`):

- `stack`: block i is the base's i mod l (Du et al. 2024, arXiv 2405.15319, "G_stack"; Gong et al. 2019).
- `interpolate`: floor(i l / L). A base with shared weights (`model.stages`) has as many blocks as stages, each of which
  is repeated in its stage and then untied (Xia et al. 2024, arXiv 2404.16897, "SWS").
- `pattern`: `grow.pattern`, block by block.
- `zero`: the order of `interpolate`; the first copy of each block is intact, and the others add nothing to the stream
  (Du et al. 2024, "G_zero"; Gesmundo and Maile 2023, arXiv 2308.06103): their output projections are zero, or, where
  that alone would decide nothing, the gain that follows: of the branch's norm (peri) or of the matrix (sigma-Reparam).
- `random`: the base's blocks, and fresh ones after them.

Width: `models.growth.width`.

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
- Noise is the fresh weights, added to all matrices and tables that come from the base: W <- (1 - a) W + a noise (Du et
  al. 2024, figure 41).

Maps that are learned are the affair of `models.growth.learned`, and matrices made from a base's templates, which here
only have their order, that of `models.growth.templates`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from conf.schema import ModelConfig
from models.gpt import GPT
from models.growth.rules import Growth, GrowthError, Origin, origins
from models.growth.width import widen, widen_moment
from models.parametrize import Shape, logit_multiplier, residual_multiplier
from models.roles import named_weights

StateDict = dict[str, Tensor]
Moments = dict[str, dict[str, Tensor]]


def _output_scales(cfg: ModelConfig) -> tuple[str, ...]:
    """The parameters of a block, by how their names end, that scale what its two branches add to the stream."""
    if cfg.norm_placement == "peri":
        return ("norm_branch.gain",)
    if cfg.param_tokens is not None:
        return "branch.out.values", "branch.tokens.values"
    kind = "coefficients" if cfg.templates is not None else "sigma.gamma" if cfg.sigma_reparam else "weight"
    return f"branch.out.{kind}", f"branch.down.{kind}"


# --- the whole state -------------------------------------------------------------------------------------


def grow_state(base: Mapping[str, Tensor], fresh: Mapping[str, Tensor], growth: Growth) -> StateDict:
    """The state of the grown model, in new tensors that share no storage.

    Args:
        base: the base's state, keyed as `GPT.state_dict()`.
        fresh: the grown model's state as `models.build` draws it, from another seed than the base's; its names, shapes,
            dtypes and devices are kept.
        growth: with operators other than `learn` and `templates`; its seed draws shares.

    Raises:
        GrowthError: the two states have tables of different sizes.
    """
    _check_tables(base, fresh)
    cfg, how, tied = growth.cfg, growth.how, growth.cfg.tie_embeddings
    old_shape, new_shape = (Shape(model.width, model.depth) for model in (growth.base, cfg))
    logits = logit_multiplier(growth.base_param, old_shape, tied=tied)
    logits /= logit_multiplier(growth.param, new_shape, tied=tied)
    residual = residual_multiplier(growth.base_param, old_shape) / residual_multiplier(growth.param, new_shape)
    blocks = origins(growth.base, cfg, how)
    weights = {name: weight for name, _, weight in named_weights(outline(cfg, fresh))}

    grown: StateDict = {}
    for name, new in fresh.items():
        source, block, origin = _source(name, blocks)
        if source is None:
            grown[name] = new.clone()
            continue
        # Buffers, which no module declares, have the same shape before and after.
        old = base[source]
        same = old.shape == new.shape
        tensor = old.to(new, copy=True) if same else widen(name, weights[name], old, new, how.width, seed=growth.seed)
        if name == "final_norm.gain" and how.width != "random":
            tensor *= logits
        if how.depth == "zero" and origin is not None:
            if name.endswith(_output_scales(cfg)):
                tensor *= residual if origin.intact else 0
            if name.endswith("norm_input.gain") and cfg.layernorm_scaling:
                tensor *= ((block + 1) / (origin.block + 1)) ** 0.5
        if how.noise and new.ndim > 1:
            tensor.lerp_(new, how.noise)
        grown[name] = tensor
    return grown


def outline(cfg: ModelConfig, tables: Mapping[str, Tensor]) -> GPT:
    """A model of shapes alone, on the device `meta`, with a row for each in the tables of a state."""
    context = len(tables["positions.weight"]) if "positions.weight" in tables else 1
    with torch.device("meta"):
        return GPT(cfg, vocab_size=len(tables["tokens.weight"]), context=context)


def grow_moments(
    base: Mapping[str, Mapping[str, Tensor]], fresh: Mapping[str, Mapping[str, Tensor]], growth: Growth
) -> Moments:
    """The state of the grown model's optimiser, parameter by parameter, in new tensors that share no storage.

    Moments are copied with the weights that they belong to and never scaled, since Adam's direction does not depend on
    the gradient's scale. Whatever is new begins as in `fresh`; of a parameter that is partly new the entries do, and
    the count of steps is the base's. A parameter that `zero` sets to zero is new.

    Args:
        base: for each parameter `step`, `exp_avg`, `exp_avg_sq` and perhaps more.
        fresh: the same of the grown model before its first step: all zero. Its names and keys are kept.
    """
    cfg, how = growth.cfg, growth.how
    blocks = origins(growth.base, cfg, how)
    grown: Moments = {}
    for name, moments in fresh.items():
        source, _, origin = _source(name, blocks)
        zeroed = origin is not None and not origin.intact and name.endswith(_output_scales(cfg))
        old = {} if source is None or zeroed else base[source]
        grown[name] = {
            key: widen_moment(old[key], new, how.width) if key in old else new.clone() for key, new in moments.items()
        }
    return grown


def _source(name: str, blocks: list[Origin | None]) -> tuple[str | None, int, Origin | None]:
    """The base's name for a parameter (None: it is fresh), its block's index, and that block's origin."""
    if not name.startswith("blocks."):
        absent = name.startswith("templates.") and not any(blocks)  # a base without blocks has no templates
        return None if absent else name, -1, None
    _, index, rest = name.split(".", 2)
    origin = blocks[int(index)]
    return (None if origin is None else f"blocks.{origin.block}.{rest}"), int(index), origin


def _check_tables(base: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> None:
    for table, setting in (("tokens.weight", "data.vocab_size"), ("positions.weight", "data.context")):
        if table in fresh and len(base[table]) != len(fresh[table]):
            old, new = len(base[table]), len(fresh[table])
            raise GrowthError(
                f"{setting}: {new} is not the base's, which has a row for each in {table}; allowed: {old}"
            )

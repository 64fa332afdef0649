"""Growth by a learned linear map: LiGO (Wang et al. 2023, arXiv 2303.00980; "G_learn" in Du et al. 2024, 2405.15319).

Every weight of the grown model is a linear function of the base's frozen weights. What is learned is the function, on
the loss of the grown model (`train.growth.tune`); after that the weights are ordinary ones.

Width, `grow.width=learn`: a map B of shape (new, old) for each kind of axis that grows, shared by all blocks and by
all that writes to the axis and reads from it. E' = E Bᵀ for tables and readout, with B that of the residual stream;
W' = B_out W B_inᵀ for matrices, where query, key and value have maps of their own, out reads by the value's, and up,
gate and down share that of the hidden units; g' = B g for gains. B begins as [I; N(0, 1/new)].

Depth, `grow.depth=learn`: for each kind of parameter in a block, gains included, a matrix of shape (L, l):
W'_i = sum_j D_ij W_j. It begins as identities on top of each other, which is `stack`, cut off at L rows.

Rules beside the paper's:

- Where only one direction is learned and the other grows too, its operator comes first, on the frozen weights: depth
  is learned over blocks that are wide already, and width over blocks that are all there.
- What is not in a block has no map for the depth, and what is as wide as one head none for the width.
- Parameter tokens are an axis like hidden units, of keys and values alike, with a map for each of query, key, value and
  out. Templates are widened as the matrices that they make; blocks combine their coefficients.
- The final norm's gain makes up for the multiplier on the logits of a tied readout (muP's 1/m), as in
  `models.growth.grow`. Nothing else is made up for: it is learned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import sqrt
from typing import get_args

import torch
from torch import Tensor, nn

from conf.schema import Direction, GrowConfig, ModelConfig
from models.growth.grow import StateDict, grow_state, outline
from models.growth.rules import Growth, growing
from models.growth.width import generator
from models.parametrize import Shape, logit_multiplier
from models.roles import named_weights


class LearnedGrowth(nn.Module):
    """The maps from a base's weights to those of a grown model; they are its parameters.

    Args:
        base: the base's state, keyed as `GPT.state_dict()`.
        fresh: the grown model's state; its names, shapes, dtypes and device are kept, its values where an operator
            that is not learned takes them.
        growth: with at least one operator `learn`; its seed draws the new rows of the maps for the width, and what an
            operator draws that is not learned.

    Raises:
        GrowthError: the two states have tables of different sizes.
    """

    def __init__(self, base: Mapping[str, Tensor], fresh: Mapping[str, Tensor], growth: Growth) -> None:
        super().__init__()
        cfg, how, param = growth.cfg, growth.how, growth.param
        between = _between(growth.base, cfg, how)
        first = dataclasses.replace(  # what has its size already is copied by any operator
            how,
            depth="stack" if how.depth == "learn" else how.depth,
            width="direct" if how.width == "learn" else how.width,
        )
        self.frozen = grow_state(base, _like(fresh, between), dataclasses.replace(growth, cfg=between, how=first))
        """What the maps are applied to: the base's weights, grown where nothing is learned."""
        self._names = list(fresh)
        self._axes = {name: weight.axes for name, _, weight in named_weights(outline(between, fresh))}
        self._n_blocks = between.n_blocks
        self._logits = 1.0
        if how.width == "learn":
            old, new = (
                logit_multiplier(param, Shape(model.width, model.depth), tied=cfg.tie_embeddings)
                for model in (between, cfg)
            )
            self._logits = old / new

        like = fresh["tokens.weight"]
        sizes = {
            axis: (few, many)
            for name, axes in self._axes.items()
            for axis, few, many in zip(axes, self.frozen[name].shape, fresh[name].shape, strict=True)
        }
        self.width_maps = nn.ParameterDict(
            {
                axis: _widening(axis, few, many, growth.seed).to(like)
                for axis, (few, many) in sorted(sizes.items())
                if few != many
            }
        )
        kinds = [name.removeprefix("blocks.0.") for name in self.frozen if name.startswith("blocks.0.")]
        stacked = torch.arange(cfg.n_blocks) % max(1, self._n_blocks)
        self.depth_maps = nn.ParameterDict(
            {_key(kind): torch.eye(self._n_blocks)[stacked].to(like) for kind in kinds if how.depth == "learn"}
        )

    def grown_state(self) -> StateDict:
        """The grown model's state, by its names, as a function of the maps that can be differentiated."""
        grown = {name: self._widened(name, tensor) for name, tensor in self.frozen.items()}
        if self._logits != 1:
            grown["final_norm.gain"] = grown["final_norm.gain"] * self._logits
        for key, map_Ll in self.depth_maps.items():
            kind = _kind(key)
            blocks = torch.stack([grown[f"blocks.{block}.{kind}"] for block in range(self._n_blocks)])
            mixed = (map_Ll @ blocks.flatten(1)).unflatten(1, blocks.shape[1:])
            grown |= {f"blocks.{block}.{kind}": tensor for block, tensor in enumerate(mixed)}
        return {name: grown[name] for name in self._names}

    def _widened(self, name: str, tensor: Tensor) -> Tensor:
        axes = self._axes[name]
        for place, axis in enumerate(axes):
            if axis in self.width_maps:
                width_map = self.width_maps[axis]
                last = place == len(axes) - 1
                tensor = tensor @ width_map.mT if last else width_map @ tensor
        return tensor


def _widening(axis: str, few: int, many: int, seed: int) -> Tensor:
    new = torch.randn(many - few, few, generator=generator(seed, "learn", axis)) / sqrt(many)
    return torch.cat((torch.eye(few), new))


def _key(kind: str) -> str:
    return kind.replace(".", "/")  # a module's parameter may have no dot in its name


def _kind(key: str) -> str:
    return key.replace("/", ".")


def _between(base: ModelConfig, cfg: ModelConfig, how: GrowConfig) -> ModelConfig:
    """The grown model, in each direction that is learned as small as the base."""
    learned = [direction for direction in get_args(Direction) if getattr(how, direction) == "learn"]
    of_base = {name: getattr(base, name) for name in growing(*learned)}
    return dataclasses.replace(cfg, **of_base)


def _like(fresh: Mapping[str, Tensor], cfg: ModelConfig) -> StateDict:
    """`fresh`, or where a model of other sizes is asked for, zeros with its names and shapes."""
    return {
        name: fresh[name] if fresh[name].shape == meta.shape else fresh[name].new_zeros(meta.shape)
        for name, meta in outline(cfg, fresh).state_dict().items()
    }

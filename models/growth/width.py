"""How one tensor becomes wider: more channels, heads, hidden units or parameter tokens.

It is enough to know which axis of a tensor is summed over (`models.roles.Weight.summed`). Heads keep their dimension
and lie one after the other, so that an operator on the rows of a query matrix acts on whole heads.

- `direct` (Chen et al. 2016, "Net2Net", arXiv 1511.05641; Wang et al. 2023, "LEMON", arXiv 2310.07999): entry j of a
  longer axis is a copy of entry j mod d. What is summed over is split between the copies, by shares that add up to 1
  and differ from copy to copy and from entry to entry: with equal shares, copies would have equal gradients and remain
  copies for ever. Whole factors keep means and mean squares, hence every norm, and the function.
- `zero` (Du et al. 2024, arXiv 2405.15319, "G_zero"): W' = [[W, A], [0, C]] with A and C fresh, rows of tables [E, 0],
  and gains [sqrt(d/D) g, fresh], so that all new activations are exactly zero and RMSNorm, up to its epsilon, divides
  as before. A new hidden unit or parameter token reads zero. With GELU it learns at once, since GELU'(0) = 1/2; with
  relu2 and swiglu its own gradient is zero, and it wakes only when new channels do: where the width does not grow,
  never.
- `random` (Yao et al. 2023, arXiv 2305.02869, without their mask): the old weights in their corner, all else fresh. It
  promises nothing.
"""

from __future__ import annotations

import zlib
from math import sqrt

import torch
from torch import Tensor

from models.roles import GAINS, Weight


def generator(seed: int, purpose: str, name: str) -> torch.Generator:
    """Random numbers for one purpose and one parameter, whatever else grows."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}/{purpose}/{name}".encode()))


# --- the operators ---------------------------------------------------------------------------------------


def widen(name: str, weight: Weight, old: Tensor, fresh: Tensor, operator: str, *, seed: int) -> Tensor:
    """`old` in the shape of `fresh`, by `grow.width`; a tensor of its own in any case.

    Args:
        name, seed: draw the shares.
        weight: what the parameter is.
    """
    if old.shape == fresh.shape:
        return old.to(fresh, copy=True)
    return _OPERATORS[operator](name, weight, old.to(fresh), fresh, seed)


def widen_moment(old: Tensor, fresh: Tensor, operator: str) -> Tensor:
    """A moment of an optimiser, by the index map of its weight: copied, never scaled, and `fresh` (zero) elsewhere."""
    if old.shape == fresh.shape:
        return old.to(fresh, copy=True)
    return _duplicate(old.to(fresh), fresh.shape) if operator == "direct" else _in_corner(old.to(fresh), fresh.clone())


def _direct(name: str, weight: Weight, old: Tensor, fresh: Tensor, seed: int) -> Tensor:
    grown, axis = _duplicate(old, fresh.shape), weight.summed
    if axis is None:
        return grown
    return grown * shares(seed, name, grown.shape, axis, fresh.shape[axis] // old.shape[axis]).to(grown)


def _zero(_: str, weight: Weight, old: Tensor, fresh: Tensor, __: int) -> Tensor:
    if weight.role in GAINS:
        return _in_corner(old * sqrt(len(old) / len(fresh)), fresh.clone())
    grown, axis = fresh.clone(), weight.summed
    (grown if axis is None else grown.narrow(axis, 0, old.shape[axis])).zero_()
    return _in_corner(old, grown)


def _random(_: str, __: Weight, old: Tensor, fresh: Tensor, ___: int) -> Tensor:
    return _in_corner(old, fresh.clone())


_OPERATORS = {"direct": _direct, "zero": _zero, "random": _random}


def shares(seed: int, name: str, shape: torch.Size, axis: int, copies: int) -> Tensor:
    """What each of the copies along `axis` gets of what they share, in float64.

    Each entry draws a random order of `copies` separate strata of [1/2, 3/2), and a place in the lower half of its
    stratum; over their sum. So no two shares are equal, and for two copies they lie between 1/4 and 3/4.
    """
    random = generator(seed, "shares", name)
    split = (*shape[:axis], copies, shape[axis] // copies, *shape[axis + 1 :])
    order = torch.rand(split, generator=random).argsort(axis)
    drawn = 0.5 + (order + 0.5 * torch.rand(split, generator=random, dtype=torch.float64)) / copies
    return (drawn / drawn.sum(axis, keepdim=True)).reshape(shape)


def _duplicate(old: Tensor, shape: torch.Size) -> Tensor:
    for axis, size in enumerate(shape):
        old = old.index_select(axis, torch.arange(size, device=old.device) % old.shape[axis])
    return old


def _in_corner(old: Tensor, grown: Tensor) -> Tensor:
    grown[tuple(slice(size) for size in old.shape)] = old
    return grown

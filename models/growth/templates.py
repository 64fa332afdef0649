"""A model whose blocks share templates -> a deeper one whose blocks have matrices of their own.

After MixtureGrowth (Pham et al. 2024, arXiv 2311.04251), which makes the new parts of a network from the templates
that the old parts have trained, with new coefficients, and unties them. There the new parts are quadrants of a wider
layer; here they are further blocks.

The blocks lie in the order of `interpolate`. The first copy of each of the base's blocks has the matrices that its
coefficients make; so without further blocks the function stays. For each further one and each kind of matrix, the
coefficients are orthogonal to all those before, as far as K templates allow: the right-singular vector of the stacked
coefficients, the earlier new ones included, that belongs to the smallest singular value, as long as the base's
coefficients are on average. Gains are copied from the base's block in whose place the new one lies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from models.growth.grow import StateDict
from models.growth.rules import Growth, block_sources, growing

_COEFFICIENTS = ".coefficients"


def untie_templates(base: Mapping[str, Tensor], growth: Growth) -> tuple[StateDict, Growth]:
    """The state of a model as wide as the base, with as many blocks as the grown one, each with its own matrices; and
    what is left to grow from there, only the width.

    Args:
        base: the base's state, keyed as `GPT.state_dict()`.
        growth: with `templates` for the depth.
    """
    base_cfg, cfg, how = growth.base, growth.cfg, growth.how
    sources = block_sources(base_cfg.n_blocks, cfg.n_blocks, how)
    first = [source not in sources[:place] for place, source in enumerate(sources)]

    state = {name: w.clone() for name, w in base.items() if not name.startswith(("blocks.", "templates."))}
    for place, source in enumerate(sources):
        for name, tensor in base.items():
            if name.startswith(f"blocks.{source}.") and not name.endswith(_COEFFICIENTS):
                state[_at(place, name)] = tensor.clone()
    for name in [name for name in base if name.startswith("blocks.0.") and name.endswith(_COEFFICIENTS)]:
        templates_KOI = base[f"templates.{name.split('.')[-2]}"]
        known_lK = torch.stack([base[_at(block, name)] for block in range(base_cfg.n_blocks)])
        new = iter(orthogonal_rows(known_lK, first.count(False)))
        for place, source in enumerate(sources):
            assert source is not None  # every place has a block of the base
            coefficients_K = known_lK[source] if first[place] else next(new)
            matrix_OI = (coefficients_K @ templates_KOI.flatten(1)).unflatten(0, templates_KOI.shape[1:])
            state[_at(place, name.removesuffix(_COEFFICIENTS) + ".weight")] = matrix_OI
    deeper = {name: getattr(cfg, name) for name in growing("depth")}
    between = dataclasses.replace(base_cfg, **deeper)
    return state, dataclasses.replace(growth, base=between, how=dataclasses.replace(how, depth="stack"))


def orthogonal_rows(known_lK: Tensor, n: int) -> Tensor:
    """`n` more rows of length K, each as orthogonal as can be to all before it, as long as the known ones on average.

    A singular vector has no sign; its largest entry is made positive.
    """
    rows = known_lK.double()
    length = rows.norm(dim=1).mean()
    for _ in range(n):
        new_K = torch.linalg.svd(rows).Vh[-1]
        new_K = new_K * new_K[new_K.abs().argmax()].sign() * length
        rows = torch.cat((rows, new_K.unsqueeze(0)))
    return rows[len(known_lK) :].to(known_lK)


def _at(block: int, name: str) -> str:
    """The name of the same parameter in another block."""
    _, _, rest = name.split(".", 2)
    return f"blocks.{block}.{rest}"

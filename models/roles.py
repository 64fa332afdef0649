"""The role of a parameter: what `models.parametrize` needs to know of it besides its shape."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that rules need no torch
    from torch import nn


class Role(StrEnum):
    """Every parameter has one of these. Its module says which: `role`, or by the parameter's name in `roles`."""

    EMBEDDING = "embedding"  # token or position table: one row per lookup
    TIED_EMBEDDING = "tied_embedding"  # a token table that also reads out, and the positions added to it
    QUERY = "query"  # hidden matrix whose outputs are the queries, where neither it nor they are normalised
    HIDDEN = "hidden"  # every other matrix that reads the residual stream inside a block
    RESIDUAL = "residual"  # matrix that writes into the residual stream
    READOUT = "readout"  # final matrix, to the vocabulary
    BLOCK_NORM = "block_norm"  # gain inside a block
    EDGE_NORM = "edge_norm"  # gain before the first or after the last block
    MATRIX_GAIN = "matrix_gain"  # scalar that multiplies a whole matrix inside a block
    COEFFICIENT = "coefficient"  # of a block's matrix, in front of each of the templates that make it


MATRICES = frozenset({Role.QUERY, Role.HIDDEN, Role.RESIDUAL})
GAINS = frozenset({Role.BLOCK_NORM, Role.EDGE_NORM, Role.MATRIX_GAIN})
OF_WHOLE_MATRIX = frozenset({Role.MATRIX_GAIN, Role.COEFFICIENT})
IN_BLOCK = MATRICES | OF_WHOLE_MATRIX | {Role.BLOCK_NORM}


def named_roles(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Role]]:
    """Every (name, parameter, role) of a model, each parameter once, in the order of its modules.

    Raises:
        TypeError: a module owns a parameter but declares no role.
    """
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{prefix}.{name}" if prefix else name
            role = getattr(module, "roles", {name: getattr(module, "role", None)}).get(name)
            if not isinstance(role, Role):
                raise TypeError(f"{full_name}: a parameter without a role; give {type(module).__name__} a `role`")
            yield full_name, parameter, role

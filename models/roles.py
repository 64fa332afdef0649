"""What each weight of a model is: its role, what its axes run over, and which of them its readers sum over.

Weight(Role.HIDDEN, ("hidden", "residual"), summed=1)     declared by the module that owns the matrix, in `declared`
Weight(…).fan_in(torch.Size((64, 16)))                    16: inputs that each output sums over
named_weights(model)                                      every (name, parameter, weight), each parameter once
named_roles(model)                                        the same with the role alone

The role is what `models.parametrize` needs to know beside the fan-in; the axes are what `models.growth` needs. So a
parameter's name says nothing to either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # so that rules need no torch
    from torch import nn


class Role(StrEnum):
    """What a parameter is for. Every parameter has one of these."""

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


class Axis(NamedTuple):
    """What an axis of a weight runs over, and how long it is. Axes of the same name have the same length, and grow by
    the same map."""

    name: str
    size: int


@dataclass(frozen=True)
class Weight:
    """What its module declares of a parameter.

    Attributes:
        axes: the name of each axis, in the order of the shape.
        summed: the axis that whoever reads the weight sums over; None where each is only written to or looked up.
    """

    role: Role
    axes: tuple[str, ...]
    summed: int | None = None

    def fan_in(self, shape: Sequence[int]) -> int:
        """Inputs that each output sums over, for a parameter of this shape; 1 where nothing is summed."""
        return 1 if self.summed is None else shape[self.summed]


def named_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Weight]]:
    """Every (name, parameter, weight) of a model, each parameter once, in the order of its modules.

    Raises:
        TypeError: a module owns a parameter that it does not declare.
    """
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full_name = f"{prefix}.{name}" if prefix else name
            weight = getattr(module, "declared", {}).get(name)
            if not isinstance(weight, Weight):
                raise TypeError(
                    f"{full_name}: a parameter without a role; allowed: `declared` by {type(module).__name__}"
                )
            yield full_name, parameter, weight


def named_roles(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Role]]:
    """Every (name, parameter, role) of a model; raises as `named_weights`."""
    return ((name, parameter, weight.role) for name, parameter, weight in named_weights(model))

"""Matrices as learned combinations of templates that all blocks share.

After MixtureGrowth (Pham et al. 2024, arXiv 2311.04251), which makes the layers of an image model this way, adapted:
each kind of matrix in a block (query, key, value, out, up, gate, down) has its own K templates T_k, and block l has
W_l = sum_k c_lk T_k.

Templates are drawn as the matrix that they make. The K coefficients of a matrix are a random direction of unit norm,
so W_l has the size of one template, and two blocks' matrices correlate by the cosine of their coefficients, 1/sqrt(K)
in size; a single template gives every block the same matrix up to its sign.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.roles import Axis, Role, Weight


class Templates(nn.Module):
    """K matrices of each kind, `templates.query` of shape (K, out, in) and so on."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.declared: dict[str, Weight] = {}

    def linear(self, name: str, inputs: Axis, outputs: Axis, role: Role) -> TemplateLinear:
        """A map of kind `name`; the first one of its kind brings the templates into being."""
        if name not in self.declared:
            self.declared[name] = Weight(role, ("templates", outputs.name, inputs.name), summed=2)
            self.register_parameter(name, nn.Parameter(torch.empty(self.count, outputs.size, inputs.size)))
        return TemplateLinear(self, name)

    def combine(self, name: str, coefficients: Tensor) -> Tensor:
        """sum_k c_k T_k, (out, in)."""
        templates: Tensor = getattr(self, name)
        with torch.autocast(templates.device.type, enabled=False):  # rounded once, as a matrix is, and not K times
            return templates.flatten(1).mT.mv(coefficients).unflatten(0, templates.shape[1:])


class TemplateLinear(nn.Module):
    """y = x Wᵀ with W a combination of templates that belong to the model."""

    def __init__(self, templates: Templates, name: str) -> None:
        super().__init__()
        self.declared = {"coefficients": Weight(Role.COEFFICIENT, ("templates",), summed=0)}
        self.name = name
        self.combine = templates.combine  # a method and not the module, which would be a child of every block
        self.coefficients = nn.Parameter(torch.empty(templates.count))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.combine(self.name, self.coefficients))

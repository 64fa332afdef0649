"""How init, learning rate, epsilon, decay and multipliers follow width and depth: arithmetic on numbers.

Letters: m = width / base width, m_L = depth / base depth, alpha the depth exponent, eta the learning rate at
the base. Nothing here sees a tensor. Sources:

- `standard`: matrices N(0, 1/fan_in), embeddings N(0, 1/width) (Wortsman et al. 2023, section 2.1).
- `mup`, in the three steps of Wortsman et al. 2023, section 3.2.3: `simple` divides the learning rate of every
  matrix, readout included, by m; `intermediate` also gives the readout std sqrt(base width)/fan_in; `full` also
  starts the queries at zero (unless they are normalised: a norm of zero has a huge gradient), keeps the
  embedding's std of the base width, and scales attention by 1/d (`conf.schema.resolve`). `full` is Yang et al. 2022
  (arXiv 2203.03466), Table 3. A tied readout has 1/m on its logits in every variant.
- `completep`: Dey et al. 2025 (arXiv 2505.01618), Table 1: `full` muP with queries drawn like other matrices,
  residual branches times m_L^-alpha, block learning rates times m_L^(alpha-1), epsilon of the blocks times
  m^-1 m_L^-alpha. alpha = 1 is CompleteP, 1/2 depth-muP.

Every rule takes fan-ins to grow with the width, as they do unless `model.mlp_hidden` is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from conf.schema import ParamConfig
from models.roles import GAINS, IN_BLOCK, MATRICES, Role


@dataclass(frozen=True)
class Shape:
    """The sizes that a rule may depend on."""

    width: int
    depth: int


@dataclass(frozen=True)
class Rule:
    """What a parametrisation decides about one parameter."""

    std: float | None
    """Standard deviation of its init, with mean 0; None: a gain, which starts at 1."""
    lr_scale: float
    """Its learning rate, relative to the base rate eta."""
    eps_scale: float
    """Its AdamW epsilon, relative to the base epsilon."""
    decay_scale: float
    """Its coupled weight decay, relative to the base; 0: it does not decay."""


def width_ratio(param: ParamConfig, shape: Shape) -> float:
    """m: how much wider than the base, and 1 where width changes nothing."""
    return shape.width / param.base_width if param.scales_width else 1.0


def depth_ratio(param: ParamConfig, shape: Shape) -> float:
    """m_L: how much deeper than the base, and 1 where depth changes nothing."""
    return shape.depth / param.base_depth if param.name == "completep" else 1.0


def residual_multiplier(param: ParamConfig, shape: Shape) -> float:
    """m_L^-alpha, on every residual branch."""
    return depth_ratio(param, shape) ** -param.depth_alpha


def logit_multiplier(param: ParamConfig, shape: Shape, *, tied: bool) -> float:
    """1/m on the logits of a tied readout, whose init and learning rate belong to the embedding."""
    return 1 / width_ratio(param, shape) if tied else 1.0


def rule(role: Role, fan_in: int, param: ParamConfig, shape: Shape) -> Rule:
    """The rule for one parameter.

    Args:
        role: what the parameter is.
        fan_in: inputs that each of its outputs sums over; 1 for a table of rows or a gain.
        param: the parametrisation and its base.
        shape: width and depth of the model at hand.
    """
    m, m_L, alpha = width_ratio(param, shape), depth_ratio(param, shape), param.depth_alpha
    matrix = role in MATRICES
    lr = 1 / m if matrix or role is Role.READOUT else 1.0
    eps = 1.0
    if role in IN_BLOCK:
        lr *= m_L ** (alpha - 1)
        if param.name == "completep":
            eps = m_L**-alpha / m
    return Rule(
        std=_std(role, fan_in, param, shape),
        lr_scale=lr,
        eps_scale=eps,
        # Coupled decay is multiplied by the learning rate; this keeps their product free of width.
        decay_scale=0.0 if role in GAINS else (m if matrix or role is Role.READOUT else 1.0),
    )


def _std(role: Role, fan_in: int, param: ParamConfig, shape: Shape) -> float | None:
    m = width_ratio(param, shape)
    constant = param.init == "constant"
    if role in GAINS:
        return None
    if role in {Role.EMBEDDING, Role.TIED_EMBEDDING}:
        if param.embedding_std is not None:
            return param.embedding_std
        std = param.init_std if constant else 1 / sqrt(param.base_width if param.scales_everything else shape.width)
        return std * param.readout_scale if role is Role.TIED_EMBEDDING else std
    if role is Role.QUERY and param.name == "mup" and param.variant == "full":
        return 0.0
    std = param.init_std / sqrt(m) if constant else 1 / sqrt(fan_in)
    if role is Role.READOUT:
        # sqrt(base fan_in) / fan_in = (1 / sqrt(fan_in)) / sqrt(m)
        return param.readout_scale * (std if param.name == "mup" and param.variant == "simple" else std / sqrt(m))
    if role is Role.RESIDUAL and param.scaled_residual_init:
        return std / sqrt(2 * shape.depth)
    return std

"""How init, learning rate, epsilon, decay and multipliers follow width and depth: arithmetic on numbers.

Letters: m = width / base width, m_L = depth / base depth, alpha the depth exponent, eta the learning rate at
the base. Nothing here sees a tensor. Sources:

- `standard`: matrices N(0, 1/fan_in), embeddings N(0, 1/width) (Wortsman et al. 2023, section 2.1).
- `mup`, in the three steps of Wortsman et al. 2023, section 3.2.3: `simple` divides the learning rate of every
  matrix, readout included, by m; `intermediate` also gives the readout std sqrt(base width)/fan_in; `full` also
  starts the queries at zero (unless they are normalised: a norm of zero has a huge gradient), keeps the
  embedding's std of the base width, and scales attention by 1/d (`conf.config.resolve`). `full` is Yang et al. 2022
  (arXiv 2203.03466), Table 3. A tied readout has 1/m on its logits in every variant.
- `completep`: Dey et al. 2025 (arXiv 2505.01618), Table 1: `full` muP with queries drawn like other matrices,
  residual branches times m_L^-alpha, block learning rates times m_L^(alpha-1), epsilon of the blocks times
  m^-1 m_L^-alpha. alpha = 1 is CompleteP, 1/2 depth-muP.

`param.without` switches one rule off, and leaves the others as they are:

- `hidden_init` (Yang et al. 2022, Table 3, hidden weights: variance 1/fan_in): the base width's std at every width.
- `hidden_lr` (Table 3, hidden weights: Adam's rate 1/fan_in): eta at every width, and eta m_L^(alpha-1) in depth.
- `readout_init` (Table 3, output weights: variance 1/fan_in²): variance 1/fan_in, as in `simple`.
- `readout_lr` (Table 3, output weights: Adam's rate 1/fan_in): eta.
- `embedding_std` (Table 3, input weights: variance free of width): 1/sqrt(width), as in `standard`.
- `attention_scale` (definition 4.1: 1/d): 1/sqrt(d); `conf.config.resolve` sees to it.
- `query_init` (appendix D.2: zero): drawn like other matrices.
- `residual_multiplier` (Dey et al. 2025, Table 1: m_L^-alpha): 1; learning rates and epsilons keep their alpha.

Every rule takes fan-ins to grow with the width, as they do unless `model.mlp_hidden` or `model.param_tokens` is fixed.

Templates follow the rule of the matrix that they make. Their coefficients multiply whole matrices: N(0, 1/K) for K
templates, brought to unit norm (`models.build`), with learning rate, epsilon and decay of a matrix's gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from conf.schema import ParamConfig
from models.roles import GAINS, IN_BLOCK, MATRICES, OF_WHOLE_MATRIX, Role


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
    if param.without == "residual_multiplier":
        return 1.0
    return depth_ratio(param, shape) ** -param.depth_alpha


def logit_multiplier(param: ParamConfig, shape: Shape, *, tied: bool) -> float:
    """1/m on the logits of a tied readout, whose init and learning rate belong to the embedding."""
    return 1 / width_ratio(param, shape) if tied else 1.0


def rule(role: Role, fan_in: int, param: ParamConfig, shape: Shape) -> Rule:
    """The rule for one parameter.

    Args:
        role: what the parameter is.
        fan_in: inputs that each of its outputs sums over (`models.roles.Weight.fan_in`); K for the coefficients of K
            templates; a table of rows and a gain do not go by it.
        param: the parametrisation and its base.
        shape: width and depth of the model at hand.
    """
    m_L, alpha = depth_ratio(param, shape), param.depth_alpha
    slower = 1.0  # how much lower the learning rate is for the width
    if role in MATRICES:
        slower = _ratio_for("hidden_lr", param, shape)
    elif role is Role.READOUT:
        slower = _ratio_for("readout_lr", param, shape)
    lr, eps = 1 / slower, 1.0
    if role in IN_BLOCK:
        lr *= m_L ** (alpha - 1)
        if param.name == "completep":
            # The gradient of a number for a whole matrix sums over it, and does not shrink as its entries' do.
            eps = m_L**-alpha / (1.0 if role in OF_WHOLE_MATRIX else width_ratio(param, shape))
    return Rule(
        std=_std(role, fan_in, param, shape),
        lr_scale=lr,
        eps_scale=eps,
        # Coupled decay is multiplied by the learning rate; this keeps their product free of width.
        decay_scale=0.0 if role in GAINS | OF_WHOLE_MATRIX else slower,
    )


def _ratio_for(name: str, param: ParamConfig, shape: Shape) -> float:
    """m as the rule of this name sees it: 1 where the rule is switched off."""
    return 1.0 if param.without == name else width_ratio(param, shape)


def _std(role: Role, fan_in: int, param: ParamConfig, shape: Shape) -> float | None:
    m = width_ratio(param, shape)
    constant = param.init == "constant"
    if role in GAINS:
        return None
    if role is Role.COEFFICIENT:
        return 1 / sqrt(fan_in)
    if role in {Role.EMBEDDING, Role.TIED_EMBEDDING}:
        if param.embedding_std is not None:
            return param.embedding_std
        of_base = param.scales_everything and param.without != "embedding_std"
        std = param.init_std if constant else 1 / sqrt(param.base_width if of_base else shape.width)
        return std * param.readout_scale if role is Role.TIED_EMBEDDING else std
    full_mup = param.name == "mup" and param.variant == "full"
    if role is Role.QUERY and full_mup and param.without != "query_init":
        return 0.0
    std = param.init_std / sqrt(m) if constant else 1 / sqrt(fan_in)
    if role is Role.READOUT:
        simple = param.name == "mup" and param.variant == "simple"
        # sqrt(base fan_in) / fan_in = (1 / sqrt(fan_in)) / sqrt(m)
        return param.readout_scale * (std if simple else std / sqrt(_ratio_for("readout_init", param, shape)))
    if param.without == "hidden_init":
        std *= sqrt(m)
    if role is Role.RESIDUAL and param.scaled_residual_init:
        return std / sqrt(2 * shape.depth)
    return std

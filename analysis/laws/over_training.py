"""Loss beyond the compute-optimal number of tokens, and the downstream error that follows from a loss.

Symbols: N parameters, embeddings included; D training tokens; M = D/N the token multiplier, about 20 where training
is compute-optimal and larger where it is over-trained; C = 6 N D FLOPs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.fitter.formula import Options, Parameter
from analysis.fitter.law import Law
from analysis.laws.chinchilla import D, N
from analysis.laws.power import FLOOR
from analysis.tables.columns import LOSS, Array, Column, Columns, read_column

ERROR = Column("error", "top-1 error, one minus accuracy, averaged over tasks", "share of the items")


def over_training(columns: Columns, *, E: Any, a: Any, b: Any, eta: Any) -> Array:
    """L = E + (a M^eta + b M^-eta) C^-eta. Gadre et al. 2024 (arXiv 2403.08540), equation 4.

    Lines of ln (L - E) over ln C at fixed M are parallel: over-training moves them up and keeps their slope. It is
    Chinchilla's law with alpha = beta = 2 eta, A = a 6^-eta and B = b 6^-eta.
    """
    log_m, log_c = np.log(columns["token_multiplier"]), np.log(columns["flops"])
    loss: Array = E + a * np.exp(eta * (log_m - log_c)) + b * np.exp(-eta * (log_m + log_c))
    return loss


def _over_training_gradient(columns: Columns, *, E: Any, a: Any, b: Any, eta: Any) -> tuple[Array, ...]:
    log_m, log_c = np.log(columns["token_multiplier"]), np.log(columns["flops"])
    size, data = np.exp(eta * (log_m - log_c)), np.exp(-eta * (log_m + log_c))
    return np.ones_like(size + E), size, data, a * size * (log_m - log_c) - b * data * (log_m + log_c)


def best_multiplier(*, a: Any, b: Any, eta: Any) -> Array:
    """M* = (b/a)^(1/(2 eta)), the token multiplier of the lowest loss at any compute.

    It is the zero of the derivative of `over_training` by M. Beyond 1e100 either way it is cut, being infinite or
    nothing for all that data can tell.
    """
    log_m: Array = (np.log(b) - np.log(a)) / (2 * eta)
    return np.exp(np.clip(log_m, -100 * np.log(10), 100 * np.log(10)))


def over_training_cost(token_multiplier: Any, *, a: Any, b: Any, eta: Any) -> Array:
    """Reducible loss at M over that at M*, for the same compute: (a M^eta + b M^-eta) / (2 sqrt(a b)) >= 1."""
    excess = eta * np.log(token_multiplier) + (np.log(a) - np.log(b)) / 2
    return np.cosh(excess)


def _multiplier_and_flops(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001  # every reader takes them
    n_params, n_tokens = read_column(table, N), read_column(table, D)
    return {"token_multiplier": n_tokens / n_params, "flops": 6 * n_params * n_tokens}


def downstream(columns: Columns, *, eps: Any, k: Any, gamma: Any) -> Array:
    """Err = eps - k exp(-gamma L), with L the loss in nats per token. Gadre et al. 2024 (arXiv 2403.08540), equation 5.

    The same as eps - k PP^-gamma, with PP the perplexity.
    """
    error: Array = eps - k * np.exp(-gamma * columns["loss"])
    return error


def _downstream_gradient(columns: Columns, *, eps: Any, k: Any, gamma: Any) -> tuple[Array, ...]:
    skill = np.exp(-gamma * columns["loss"])
    return np.ones_like(skill + eps), -skill + 0 * k, k * skill * columns["loss"]


LAWS = (
    Law(
        name="over_training",
        formula="L = E + (a M^eta + b M^-eta) C^-eta, M = D/N, C = 6 N D",
        question="what training beyond the compute-optimal number of tokens costs; the best D/N is M*",
        source="Gadre et al. 2024, arXiv 2403.08540",
        columns=(N, D),
        parameters=(
            FLOOR,
            Parameter(
                "a",
                "coefficient of M^eta C^-eta: of too few parameters",
                carries=(("token_multiplier", "-eta"), ("flops", "eta")),
            ),
            Parameter(
                "b",
                "coefficient of M^-eta C^-eta: of too few tokens",
                carries=(("token_multiplier", "eta"), ("flops", "eta")),
            ),
            # Half of Chinchilla's exponents; below 0.005 a thousand times the compute takes off less than 4 %.
            Parameter(
                "eta",
                "exponent of compute at a fixed token multiplier",
                0.005,
                2.0,
                starts=(0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7),
                typical=(0.025, 0.6),
            ),
        ),
        function=over_training,
        gradient=_over_training_gradient,
        objective="lsq",
        read=_multiplier_and_flops,
        derived=lambda params: {"M*": best_multiplier(a=params["a"], b=params["b"], eta=params["eta"])},
    ),
    Law(
        name="downstream",
        formula="Err = eps - k exp(-gamma L)",
        question="the average error on downstream tasks at a given loss",
        source="Gadre et al. 2024, arXiv 2403.08540",
        columns=(LOSS,),
        parameters=(
            Parameter("eps", "error of a model that has learned nothing"),
            Parameter("k", "how far the error would fall at zero loss, were the law to hold there"),
            Parameter(
                "gamma",
                "rate at which error falls with loss, per nat per token",
                0.01,
                100.0,
                starts=(0.3, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0),
                carries=(("loss", -1.0),),
                typical=(0.1, 5.0),
            ),
        ),
        function=downstream,
        gradient=_downstream_gradient,
        target=ERROR,
        objective="lsq",
    ),
)

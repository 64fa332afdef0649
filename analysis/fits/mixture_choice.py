"""How well a fitted mixture law ranks mixtures that it has not seen, and the mixture that it would choose.

rank_score(predicted, measured).regret     nats lost by taking the mixture that is predicted best
best_mixture(result).shares                {"w_web": 0.61, "w_code": 0.39}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.fitter.law import FitResult
from analysis.laws.mixtures import LAWS
from analysis.tables.columns import Array, FitError


def spearman(predicted: Array, measured: Array) -> float:
    """Spearman's rank correlation of (N,) with (N,), ties at their mean rank; nan where either is constant."""
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (predicted, measured)]
    if len(ranks[0]) != len(ranks[1]) or len(ranks[0]) < 2:
        raise FitError(f"spearman: of {len(ranks[0])} and {len(ranks[1])} values; allowed: two or more, and as many")
    a, b = (values - values.mean() for values in ranks)
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size else math.nan


def _ranks(values: Array) -> Array:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Array = (np.cumsum(count) - (count - 1) / 2)[place]
    return mean_rank


@dataclass(frozen=True)
class RankScore:
    """How well predictions order mixtures that the law has not seen.

    Attributes:
        spearman: over all of them; terrible mixtures flatter it.
        spearman_best: within the quarter of the lowest measured losses.
        regret: measured loss of the mixture predicted best, less the lowest measured loss; nats per token.
    """

    spearman: float
    spearman_best: float
    regret: float


def rank_score(predicted: Array, measured: Array) -> RankScore:
    """Score predicted (N,) against measured losses (N,); raises `FitError` for fewer than 8."""
    if len(measured) < 8:
        raise FitError(f"rank_score: of {len(measured)} mixtures; allowed: at least 8")
    best = np.argsort(measured)[: math.ceil(len(measured) / 4)]
    return RankScore(
        spearman=spearman(predicted, measured),
        spearman_best=spearman(predicted[best], measured[best]),
        regret=float(measured[np.argmin(predicted)] - measured.min()),
    )


@dataclass(frozen=True)
class BestMixture:
    """The mixture of the lowest predicted loss.

    Attributes:
        shares: of each domain, summing to one.
        ci95: the 95 % interval of each share when the law is fitted to resampled points; None without a bootstrap.
        predicted: loss at `shares`.
        predicted_ci95: its 95 % interval, with the shares as they are; None without a bootstrap.
    """

    shares: dict[str, float]
    ci95: dict[str, tuple[float, float]] | None
    predicted: float
    predicted_ci95: tuple[float, float] | None


def best_mixture(
    result: FitResult,
    n: int = 100_000,
    keep: int = 128,
    seed: int = 0,
    *,
    strength: float = 1.0,
    largest: Mapping[str, float] | None = None,
) -> BestMixture:
    """The mean of the `keep` mixtures of lowest predicted loss among `n`, as in RegMix (Liu et al. 2024, section 3).

    Mixtures are drawn from a Dirichlet distribution whose mean is the `prior` of the fit. Each bootstrap replicate of
    the law chooses among the same mixtures.

    Args:
        result: a fit of a law of this module.
        strength: of the Dirichlet; 1 is the paper's, more stays closer to the prior.
        largest: share that a column may not exceed, e.g. its epochs allowed times its tokens over those planned.

    Raises:
        FitError: the law is not one of mixtures; numbers out of range; too few mixtures below `largest`.
    """
    families = {family.name: family for family in LAWS}
    if result.law.name not in families:
        raise FitError(f"best_mixture: of {result.law.name!r} is not allowed; allowed: {', '.join(families)}")
    if not n >= keep >= 1 or not strength > 0:
        raise FitError(
            f"best_mixture: n {n}, keep {keep}, strength {strength} is not allowed; "
            "allowed: n >= keep >= 1 and strength > 0"
        )
    law = families[result.law.name].build(result.law.options)
    names = law.options["weights"]
    shares_NJ = _sample(names, np.array(law.options["prior"]), n, seed, strength, largest or {})
    if len(shares_NJ) < keep:
        raise FitError(f"largest: leaves {len(shares_NJ)} of {n} mixtures, fewer than keep = {keep}")

    def choose(loss: Array) -> Array:
        return shares_NJ[np.argpartition(loss, keep - 1)[:keep]].mean(0)

    def predict(mixtures_NJ: Array, values: Mapping[str, Any]) -> Array:
        return np.asarray(law.function(dict(zip(names, mixtures_NJ.T, strict=True)), **values))

    chosen_J = choose(predict(shares_NJ, result.values))
    ci95, predicted_ci95 = None, None
    draws = result.draws
    if result.bootstrap["n"] and draws:
        replicates = [{name: values[r] for name, values in draws.items()} for r in range(result.bootstrap["n"])]
        chosen_RJ = np.stack([choose(predict(shares_NJ, values)) for values in replicates])
        low_J, high_J = np.quantile(chosen_RJ, [0.025, 0.975], axis=0)
        ci95 = {name: (float(a), float(b)) for name, a, b in zip(names, low_J, high_J, strict=True)}
        low, high = np.quantile(predict(chosen_J[None], draws), [0.025, 0.975])
        predicted_ci95 = float(low), float(high)
    return BestMixture(
        shares=dict(zip(names, chosen_J.tolist(), strict=True)),
        ci95=ci95,
        predicted=float(predict(chosen_J[None], result.values)[..., 0].item()),
        predicted_ci95=predicted_ci95,
    )


def _sample(
    names: Sequence[str], prior_J: Array, n: int, seed: int, strength: float, largest: Mapping[str, float]
) -> Array:
    """Mixtures from a Dirichlet distribution (N, J), those within `largest`; a domain of prior 0 stays at 0."""
    for name in largest:
        if name not in names:
            raise FitError(f"largest: {name!r} is not allowed; allowed: {', '.join(names)}")
    shares_NJ = np.zeros((n, len(names)))
    used = prior_J > 0
    shares_NJ[:, used] = np.random.default_rng(seed).dirichlet(strength * prior_J[used], size=n)
    limit_J = np.array([largest.get(name, 1.0) for name in names])
    within: Array = shares_NJ[(shares_NJ <= limit_J).all(1)]
    return within

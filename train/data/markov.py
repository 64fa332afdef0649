"""The Dirichlet Markov source: text whose entropy is known exactly.

Each of the C = V^k contexts has its own row P(· | c) ~ Dirichlet(alpha, …, alpha); the context (x1 … xk) is the
number x1 V^(k-1) + … + xk, so the next one is (c V + x) mod C. Every window starts from the stationary law of
k-grams, hence each of its positions has the same law and the same entropy given enough of the past.

Shape letters: C contexts, V symbols, B windows, T tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from train.data.sources import DataError

TOLERANCE = 1e-12  # of the stationary law, in total variation per step
MAX_ITERATIONS = 10_000


@dataclass(frozen=True, eq=False)
class MarkovChain:
    """A chain of order k: rows `probability_CV`, and the stationary law `stationary_C` of its contexts."""

    order: int
    probability_CV: NDArray[np.float64]
    stationary_C: NDArray[np.float64]

    @classmethod
    def draw(cls, *, vocab_size: int, order: int, alpha: float, seed: int) -> MarkovChain:
        """Draw the rows; the mean entropy of a row is psi(V alpha + 1) - psi(alpha + 1) nats.

        Raises:
            DataError: `alpha` is so large that no rows can be drawn, or the chain mixes too slowly for its law.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
        probability_CV = rng.dirichlet(np.full(vocab_size, alpha), size=vocab_size**order)
        if not (np.abs(probability_CV.sum(axis=1) - 1) < 1e-9).all():
            raise DataError(f"data.alpha: {alpha!r} is too large for the rows to be drawn; allowed: a smaller value")
        return cls(order, probability_CV, stationary_law(probability_CV))

    @property
    def vocab_size(self) -> int:
        return self.probability_CV.shape[1]

    @property
    def entropy_rate(self) -> float:
        """H = sum_c pi_c H(P_c), in nats per symbol."""
        return float(self.stationary_C @ entr(self.probability_CV).sum(axis=1))

    def conditional_entropy(self, n_visible: int) -> float:
        """Nats of the next symbol given the `n_visible` before it, from the marginals of the stationary law."""
        if n_visible >= self.order:
            return self.entropy_rate
        return self._block_entropy(n_visible + 1) - self._block_entropy(n_visible)

    def _block_entropy(self, length: int) -> float:
        return float(entr(self.stationary_C.reshape(self.vocab_size**length, -1).sum(axis=1)).sum())

    def window_entropy(self, n_predictions: int) -> float:
        """E: the mean entropy of a window's predictions, in nats; the n-th of them sees n symbols.

        The first symbol is given, not predicted. The first k - 1 predictions see less than they need, so E
        exceeds the entropy rate.
        """
        short = [self.conditional_entropy(n) for n in range(1, min(self.order, n_predictions + 1))]
        return (sum(short) + (n_predictions - len(short)) * self.entropy_rate) / n_predictions

    def sample(self, rng: np.random.Generator, n_windows: int, length: int) -> NDArray[np.int64]:
        """Independent windows (B, T) = (`n_windows`, `length`), each started from the stationary law."""
        cumulative_CV = np.cumsum(self.probability_CV, axis=1)
        cumulative_CV[:, -1] = 1.0  # rounding must leave no gap at the end
        cumulative_C = np.cumsum(self.stationary_C)
        cumulative_C[-1] = 1.0
        n_contexts, vocab_size = self.probability_CV.shape

        context_B = np.searchsorted(cumulative_C, rng.random(n_windows), side="right")
        place_k = vocab_size ** np.arange(self.order - 1, -1, -1)
        tokens_BT = np.empty((n_windows, max(length, self.order)), dtype=np.int64)
        tokens_BT[:, : self.order] = context_B[:, None] // place_k % vocab_size
        for t in range(self.order, length):
            tokens_BT[:, t] = _invert(cumulative_CV, context_B, rng.random(n_windows))
            context_B = (context_B * vocab_size + tokens_BT[:, t]) % n_contexts
        return tokens_BT[:, :length]


def stationary_law(probability_CV: NDArray[np.float64]) -> NDArray[np.float64]:
    """A law of the contexts (C,) that a step leaves as it is, to `TOLERANCE`; the one reached from all alike.

    Power iteration on the lazy chain (1 + P)/2, which has the laws of P and no period.

    Raises:
        DataError: the chain mixes too slowly.
    """
    n_contexts, vocab_size = probability_CV.shape
    # Context (first symbol, rest) followed by x becomes context (rest, x).
    step_FRV = probability_CV.reshape(vocab_size, n_contexts // vocab_size, vocab_size)
    law_C = np.full(n_contexts, 1 / n_contexts)
    for _ in range(MAX_ITERATIONS):
        next_C = np.einsum("fr,frv->rv", law_C.reshape(vocab_size, -1), step_FRV).reshape(-1)
        if np.abs(next_C - law_C).sum() < TOLERANCE:
            return next_C / next_C.sum()
        law_C = (law_C + next_C) / 2
    raise DataError(
        f"data.alpha: the chain that was drawn forgets its start too slowly, its law is not found in {MAX_ITERATIONS} "
        "steps; allowed: a larger value, or another data.seed"
    )


def _invert(
    cumulative_CV: NDArray[np.float64], context_B: NDArray[np.int64], uniform_B: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The first symbol of each row whose cumulative probability exceeds the uniform, by bisection."""
    low_B = np.zeros(len(context_B), dtype=np.int64)
    high_B = np.full(len(context_B), cumulative_CV.shape[1] - 1)
    for _ in range((cumulative_CV.shape[1] - 1).bit_length()):
        middle_B = (low_B + high_B) // 2
        above_B = cumulative_CV[context_B, middle_B] <= uniform_B
        low_B = np.where(above_B, middle_B + 1, low_B)
        high_B = np.where(above_B, high_B, middle_B)
    return low_B

"""The Zipf source: a table to be memorised, whose entropy is known exactly and whose scaling exponents are.

A text is key value key value …. Keys are drawn with p_c ∝ c^-(1 + alpha), c = 1 … K, and each has one value for good,
drawn uniformly when the table is made. A learner that holds the n most frequent keys misses the mass of the others,
∝ n^-alpha, and after D pairs the mass of the keys not seen yet is ∝ D^(-alpha / (1 + alpha)) (Hutter 2021, arXiv
2102.04074; Michaud et al. 2023, arXiv 2303.13506, section 2), as long as K is much larger than n.

A key is written as the digits of c - 1, most significant first, each place with symbols of its own. One digit gives
every key an embedding, and so a memory that grows with K and not with the model; several digits leave the table to the
rest of the model. Since c is a rank, the law of a digit given those before it is smooth, so that keys are soon
predicted as well as they can be, and what a small model lacks is the table.

Shape letters: K keys, M digits of a key, V values, B windows, P pairs of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from conf.vocab import zipf_base


@dataclass(frozen=True, eq=False)
class ZipfTable:
    """Keys with the law `probability_K`, written in `digits` places, and their `value_K` out of `n_values`.

    A key is followed by its value, or with probability `noise` by a value drawn uniformly.
    """

    probability_K: NDArray[np.float64]
    value_K: NDArray[np.int64]
    digits: int
    n_values: int
    noise: float

    @classmethod
    def draw(cls, *, keys: int, key_digits: int, values: int, exponent: float, noise: float, seed: int) -> ZipfTable:
        """Draw the table; `exponent` is alpha."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
        weight_K = np.arange(1, keys + 1, dtype=np.float64) ** -(1 + exponent)
        return cls(weight_K / weight_K.sum(), rng.integers(values, size=keys), key_digits, values, noise)

    @property
    def base(self) -> int:
        return zipf_base(len(self.value_K), self.digits)

    @property
    def vocab_size(self) -> int:
        """Symbols: `base` for each place, then the values."""
        return self.digits * self.base + self.n_values

    @property
    def value_entropy(self) -> float:
        """Nats of a value given its key: 1 - noise + noise/V on one value, noise/V on each of the others."""
        law_V = np.full(self.n_values, self.noise / self.n_values)
        law_V[0] += 1 - self.noise
        return float(entr(law_V).sum())

    @property
    def key_entropy(self) -> float:
        """Nats of a whole key."""
        return float(entr(self.probability_K).sum())

    @property
    def first_digit_entropy(self) -> float:
        first = np.arange(len(self.probability_K)) // self.base ** (self.digits - 1)
        return float(entr(np.bincount(first, weights=self.probability_K)).sum())

    def window_entropy(self, n_pairs: int) -> float:
        """E: the mean entropy of the predictions of a window of whole pairs, in nats, for one who knows the table.

        The first digit of a window is given, not predicted. Pairs are independent, so all else is predicted as well
        at the start of a window as later.
        """
        whole = n_pairs * (self.key_entropy + self.value_entropy)
        return (whole - self.first_digit_entropy) / (n_pairs * (self.digits + 1) - 1)

    def sample(
        self, rng: np.random.Generator, n_windows: int, n_pairs: int, *, even: bool = False
    ) -> NDArray[np.int64]:
        """Windows (B, P (M + 1)) of `n_pairs` pairs.

        Args:
            even: draw one key from each of B P equally likely parts of the law, in random order, and not all of them
                independently. Each pair has the same law, and a mean over the windows much less noise.
        """
        n_draws = n_windows * n_pairs
        uniform = rng.random(n_draws)
        if even:
            uniform = (rng.permutation(n_draws) + uniform) / n_draws
        below_K = np.cumsum(self.probability_K)[:-1]  # the last key takes the rest, whatever the rounding
        key_BP = np.searchsorted(below_K, uniform, side="right").reshape(n_windows, n_pairs)
        value_BP = self.value_K[key_BP]
        if self.noise:
            noisy_BP = rng.random(key_BP.shape) < self.noise
            value_BP = np.where(noisy_BP, rng.integers(self.n_values, size=key_BP.shape), value_BP)
        tokens_BPM1 = np.empty((n_windows, n_pairs, self.digits + 1), dtype=np.int64)
        for place in range(self.digits):
            digit_BP = key_BP // self.base ** (self.digits - 1 - place) % self.base
            tokens_BPM1[:, :, place] = place * self.base + digit_BP
        tokens_BPM1[:, :, -1] = self.digits * self.base + value_BP
        return tokens_BPM1.reshape(n_windows, -1)

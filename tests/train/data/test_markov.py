"""The Markov source draws from the law that it claims, and its entropy is that law's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma

from conf.schema import DataConfig
from train.data.corpus import open_corpus
from train.data.markov import MarkovChain, stationary_law
from train.data.sources import DataError


def chain(vocab_size: int = 8, order: int = 2, alpha: float = 0.3, seed: int = 0) -> MarkovChain:
    return MarkovChain.draw(vocab_size=vocab_size, order=order, alpha=alpha, seed=seed)


def windows(source: MarkovChain, n: int, length: int) -> NDArray[np.int64]:
    return source.sample(np.random.default_rng(1), n, length)


def nats_per_prediction(source: MarkovChain, tokens_BT: NDArray[np.int64]) -> NDArray[np.float64]:
    """-ln p of each predicted token given all that is visible, computed from the joint law of k-grams (B, T - 1)."""
    v, k = source.vocab_size, source.order
    joint = (source.stationary_C[:, None] * source.probability_CV).reshape((v,) * (k + 1))

    def log_p(block: NDArray[np.int64]) -> NDArray[np.float64]:
        marginal = joint.sum(axis=tuple(range(block.shape[1], k + 1)))
        return np.asarray(np.log(marginal[tuple(block.T)]))

    nats = []
    for t in range(1, tokens_BT.shape[1]):
        past = tokens_BT[:, max(0, t - k) : t]
        nats.append(log_p(past) - log_p(np.concatenate([past, tokens_BT[:, [t]]], axis=1)))
    return np.stack(nats, axis=1)


@pytest.mark.parametrize(("vocab_size", "order"), [(8, 1), (5, 2), (3, 3), (2, 1)])
def test_symbols_follow_their_context_as_often_as_the_table_says(vocab_size: int, order: int) -> None:
    source = chain(vocab_size, order, alpha=1.0)
    tokens = windows(source, 20_000, order + 4)
    place = vocab_size ** np.arange(order - 1, -1, -1)
    context, following = tokens[:, 3 : 3 + order] @ place, tokens[:, 3 + order]
    counts = np.zeros_like(source.probability_CV)
    np.add.at(counts, (context, following), 1)
    seen = counts.sum(axis=1, keepdims=True)
    p = source.probability_CV
    z = (counts - seen * p) / np.sqrt(seen * p * (1 - p) + 1)
    assert np.abs(z).max() < 5
    # The context read the other way round is another context.
    if order > 1:
        swapped = np.zeros_like(counts)
        np.add.at(swapped, (tokens[:, 3 : 3 + order] @ place[::-1], following), 1)
        total = swapped.sum(axis=1, keepdims=True)
        assert np.abs((swapped - total * p) / np.sqrt(total * p * (1 - p) + 1)).max() > 10


def test_every_position_has_the_stationary_law() -> None:
    source = chain(6, 2, alpha=0.2)
    law = source.stationary_C.reshape(6, 6).sum(axis=1)
    tokens = windows(source, 40_000, 12)
    tolerance = 5 * np.sqrt(law * (1 - law) / 40_000) + 1e-4
    for t in range(12):
        assert (np.abs(np.bincount(tokens[:, t], minlength=6) / 40_000 - law) < tolerance).all()
    assert (np.abs(np.full(6, 1 / 6) - law) > tolerance).any()  # a uniform start would show


def test_the_stationary_law_is_one() -> None:
    source = chain(7, 2)
    joint = (source.stationary_C[:, None] * source.probability_CV).reshape(7, 7, 7)
    assert joint.sum(axis=0).reshape(-1) == pytest.approx(source.stationary_C, abs=1e-11)
    uniform = (source.probability_CV / 49).reshape(7, 7, 7).sum(axis=0).reshape(-1)
    assert uniform != pytest.approx(np.full(49, 1 / 49), abs=1e-3)


@pytest.mark.parametrize(("vocab_size", "order", "length"), [(8, 1, 9), (6, 2, 5), (4, 3, 4), (4, 3, 2)])
def test_window_entropy_is_the_mean_surprise(vocab_size: int, order: int, length: int) -> None:
    source = chain(vocab_size, order)
    surprise = nats_per_prediction(source, windows(source, 20_000, length)).mean(axis=1)
    error = surprise.std() / np.sqrt(len(surprise))
    assert surprise.mean() == pytest.approx(source.window_entropy(length - 1), abs=4 * error)
    if order > 1:  # leaving out the cut-off positions is visible
        assert abs(surprise.mean() - source.entropy_rate) > 8 * error


def test_another_order_has_another_entropy() -> None:
    source = chain(6, 2)
    blind = MarkovChain(1, source.stationary_C.reshape(6, 6), source.stationary_C.reshape(6, 6).sum(axis=1))
    blind = MarkovChain(1, blind.probability_CV / blind.stationary_C[:, None], blind.stationary_C)
    assert blind.entropy_rate == pytest.approx(source.conditional_entropy(1), rel=1e-9)
    assert blind.entropy_rate > source.entropy_rate + 0.1


@pytest.mark.parametrize(("vocab_size", "alpha"), [(16, 0.3), (32, 0.1), (64, 0.1)])
def test_mean_row_entropy_is_the_digamma_formula(vocab_size: int, alpha: float) -> None:
    """Shared by the sheet: 1.838, 1.735, 2.356 nats."""
    rows = [chain(vocab_size, 1, alpha, seed).probability_CV for seed in range(60)]
    entropy = np.concatenate([-(r * np.log(np.maximum(r, 1e-300))).sum(axis=1) for r in rows])
    expected = digamma(vocab_size * alpha + 1) - digamma(alpha + 1)
    error = entropy.std() / np.sqrt(len(entropy))
    assert entropy.mean() == pytest.approx(expected, abs=4 * error)
    assert abs(entropy.mean() - (digamma(vocab_size * alpha) - digamma(alpha))) > 8 * error  # without the ones


def test_the_excess_of_a_window_is_what_its_first_prediction_lacks() -> None:
    source = chain(16, 2, 0.3)
    excess = source.window_entropy(64) - source.entropy_rate
    assert excess == pytest.approx(0.013, abs=0.002)
    assert excess == pytest.approx((source.conditional_entropy(1) - source.entropy_rate) / 64, rel=1e-9)
    assert chain(16, 1, 0.3).window_entropy(64) == chain(16, 1, 0.3).entropy_rate  # nothing is cut off at order 1


def test_the_table_follows_the_seed() -> None:
    assert np.array_equal(chain(seed=3).probability_CV, chain(seed=3).probability_CV)
    assert not np.array_equal(chain(seed=3).probability_CV, chain(seed=4).probability_CV)


def test_a_concentration_beyond_computing_is_refused() -> None:
    with pytest.raises(DataError, match=r"^data\.alpha: 1e\+308 is too large .*allowed: "):
        chain(alpha=1e308)
    assert chain(alpha=1e3).entropy_rate == pytest.approx(np.log(8), abs=1e-3)
    assert chain(alpha=1e-9).entropy_rate == pytest.approx(0, abs=1e-6)


def test_a_chain_that_hardly_mixes_is_refused() -> None:
    def law(leave: float) -> NDArray[np.float64]:
        return stationary_law(np.array([[1 - leave, leave], [3 * leave, 1 - 3 * leave]]))

    assert law(0.01) == pytest.approx([0.75, 0.25], abs=1e-9)
    with pytest.raises(DataError, match=r"^data\.alpha: .* too slowly.*allowed: "):
        law(1e-5)


def test_corpus_of_markov_windows(tmp_path: Path) -> None:
    data = DataConfig(source="markov", vocab_size=8, order=2, context=16, n_tokens=17 * 500 + 5, val_fraction=0.1)
    corpus = open_corpus(data, cache_dir=tmp_path)
    assert (corpus.n_documents, corpus.n_train_windows, corpus.n_val_windows) == (500, 450, 50)
    assert corpus.n_tokens_train + corpus.n_tokens_val == 17 * 500
    source = chain(8, 2, data.alpha, data.seed)
    assert corpus.entropy == source.window_entropy(16) == corpus.summary()["data_entropy"]
    batch = corpus.train_batch(0, 0, 450)
    surprise = nats_per_prediction(source, batch).mean(axis=1)
    assert surprise.mean() == pytest.approx(corpus.entropy, abs=4 * surprise.std() / np.sqrt(450))
    # Validation windows are drawn apart from training windows.
    assert not {w.tobytes() for w in batch} & {w.tobytes() for w in corpus.val_windows(50)}
    assert "data_entropy" not in open_corpus(DataConfig(max_documents=20), cache_dir=tmp_path).summary()

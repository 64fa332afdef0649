"""The Zipf source draws from the law that it claims, its entropy is that law's, and its exponents are the theory's."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from conf.compose import compose
from conf.schema import ConfigError, DataConfig
from conf.vocab import vocab_size, zipf_base
from train.data.corpus import open_corpus
from train.data.zipf import ZipfTable


def table(
    keys: int = 300, digits: int = 3, values: int = 5, exponent: float = 0.5, noise: float = 0.0, seed: int = 0
) -> ZipfTable:
    return ZipfTable.draw(keys=keys, key_digits=digits, values=values, exponent=exponent, noise=noise, seed=seed)


def windows(source: ZipfTable, n: int, n_pairs: int, *, even: bool = False) -> NDArray[np.int64]:
    return source.sample(np.random.default_rng(1), n, n_pairs, even=even)


def read(source: ZipfTable, tokens_BT: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys and values (B, P) of windows, read from their symbols."""
    tokens = tokens_BT.reshape(len(tokens_BT), -1, source.digits + 1)
    key = np.zeros(tokens.shape[:2], dtype=np.int64)
    for place in range(source.digits):
        digit = tokens[:, :, place] - place * source.base
        assert ((digit >= 0) & (digit < source.base)).all()
        key = key * source.base + digit
    value = tokens[:, :, -1] - source.digits * source.base
    assert ((value >= 0) & (value < source.n_values)).all()
    return key, value


def nats_per_prediction(source: ZipfTable, tokens_BT: NDArray[np.int64]) -> NDArray[np.float64]:
    """-ln p of each predicted token, from a table of every pair's probability, symbol by symbol (B, T - 1)."""
    n_keys = len(source.value_K)
    law = np.zeros((source.base**source.digits, source.n_values))
    law[:n_keys] = source.probability_K[:, None] * source.noise / source.n_values
    law[np.arange(n_keys), source.value_K] += source.probability_K * (1 - source.noise)
    joint = law.reshape((source.base,) * source.digits + (source.n_values,))
    offset = np.arange(source.digits + 1) * source.base
    nats = []
    for t in range(1, tokens_BT.shape[1]):
        start, place = t - t % (source.digits + 1), t % (source.digits + 1)
        symbols = tokens_BT[:, start : t + 1] - offset[: place + 1]
        until, before = (joint.sum(axis=tuple(range(n, joint.ndim))) for n in (place + 1, place))
        nats.append(np.log(before[tuple(symbols[:, :-1].T)]) - np.log(until[tuple(symbols.T)]))
    return np.stack(nats, axis=1)


@pytest.mark.parametrize("even", [False, True])
def test_keys_follow_zipf_and_values_the_table(even: bool) -> None:
    source = table(keys=50, digits=2)
    key, value = read(source, windows(source, 20_000, 3, even=even))
    n = key.size
    rank = np.arange(1, 51)
    p = rank**-1.5 / (rank**-1.5).sum()

    def deviations(law: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.bincount(key.ravel(), minlength=50) - n * law) / np.sqrt(n * law * (1 - law)))

    assert np.abs(deviations(p)).max() < 5
    wrong = rank**-1.4 / (rank**-1.4).sum()
    assert np.abs(deviations(wrong)).max() > 10
    assert (value == source.value_K[key]).all()
    assert (value != table(keys=50, digits=2, seed=1).value_K[key]).any()


def test_noise_replaces_its_share_of_the_values() -> None:
    source = table(noise=0.2, values=4)
    key, value = read(source, windows(source, 40_000, 1))
    kept = (value == source.value_K[key]).mean()
    assert kept == pytest.approx(1 - 0.2 * 3 / 4, abs=4 * 0.5 / np.sqrt(40_000))
    assert source.value_entropy == pytest.approx(-(0.85 * np.log(0.85) + 0.15 * np.log(0.05)), rel=1e-12)
    assert table().value_entropy == 0


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize(
    ("digits", "noise", "n_pairs"), [(1, 0.0, 3), (3, 0.0, 1), (3, 0.3, 1), (2, 0.1, 4), (3, 0.0, 2)]
)
def test_window_entropy_is_the_mean_surprise(digits: int, noise: float, n_pairs: int, even: bool) -> None:
    source = table(digits=digits, noise=noise)
    surprise = nats_per_prediction(source, windows(source, 20_000, n_pairs, even=even)).mean(axis=1)
    error = surprise.std() / np.sqrt(len(surprise))
    assert surprise.mean() == pytest.approx(source.window_entropy(n_pairs), abs=4 * error + 1e-12)
    # Counting the first digit, which is given, is visible, and so is another exponent.
    whole = (source.key_entropy + source.value_entropy) / (digits + 1)
    assert abs(surprise.mean() - whole) > 8 * error
    assert abs(surprise.mean() - table(digits=digits, noise=noise, exponent=0.6).window_entropy(n_pairs)) > 5 * error


def test_even_windows_have_the_mean_of_the_law_almost_without_noise() -> None:
    source = table(keys=2**12, digits=4)

    def error(even: bool) -> float:
        means = []
        for seed in range(8):
            drawn = source.sample(np.random.default_rng(seed), 4096, 1, even=even)
            means.append(nats_per_prediction(source, drawn).mean() - source.window_entropy(1))
        return float(np.sqrt(np.mean(np.square(means))))

    assert error(even=True) < error(even=False) / 20


def test_a_learner_of_the_most_frequent_keys_has_the_exponents_of_theory() -> None:
    """Numbers for K = 1e6: 0.50 in keys held and 0.34 in pairs seen for a = 1/2; finite K steepens small a."""
    for a, held_slope, seen_slope in ((0.5, 0.5, 0.34), (1.0, 1.0, 0.5)):
        p = table(keys=10**6, exponent=a).probability_K
        held = np.array([10, 1000])
        missing = 1 - np.cumsum(p)[held - 1]
        assert -np.diff(np.log(missing)) / np.log(100) == pytest.approx(held_slope, abs=0.03)
        seen = np.array([1e3, 1e5])
        unseen = np.array([(p * np.exp(-n * p)).sum() for n in seen])
        assert -np.diff(np.log(unseen)) / np.log(100) == pytest.approx(seen_slope, abs=0.02)


def test_the_first_digits_are_smooth_in_rank_and_the_values_are_not() -> None:
    """What makes keys easy and the table hard: neighbours in rank have nearly one probability, and any two values."""
    source = table(keys=4096, digits=3, values=16)
    p, value = source.probability_K[256:], source.value_K[256:]
    assert np.abs(np.diff(np.log(p))).max() < 0.01
    assert (value[1:] == value[:-1]).mean() == pytest.approx(1 / 16, abs=4 * np.sqrt(1 / 16 / len(value)))


def test_the_table_follows_the_seed() -> None:
    assert np.array_equal(table(seed=3).value_K, table(seed=3).value_K)
    assert not np.array_equal(table(seed=3).value_K, table(seed=4).value_K)


@pytest.mark.parametrize(
    ("keys", "digits", "base"), [(300, 1, 300), (300, 2, 18), (1000, 3, 10), (1001, 3, 11), (2**20, 5, 16), (9, 4, 2)]
)
def test_the_base_is_the_smallest_that_writes_every_key(keys: int, digits: int, base: int) -> None:
    assert zipf_base(keys, digits) == base
    assert base**digits >= keys > (base - 1) ** digits


def test_a_million_tokens_a_second() -> None:
    source = table(keys=2**20, digits=5)
    start = time.process_time()
    n_tokens = sum(source.sample(np.random.default_rng(k), 2**14, 1).size for k in range(20))
    assert n_tokens / (time.process_time() - start) > 1e6


def test_corpus_of_zipf_windows(tmp_path: Path) -> None:
    data = compose(["data=zipf", "data.keys=300", "data.key_digits=3", "data.values=5", "data.context=7",
                    "data.n_tokens=80005", "data.val_fraction=0.1"]).data  # fmt: skip
    corpus = open_corpus(data, cache_dir=tmp_path)
    assert (corpus.n_documents, corpus.n_train_windows, corpus.n_val_windows) == (10_000, 9000, 1000)
    source = table()
    assert corpus.vocab_size == source.vocab_size == vocab_size(data) == 3 * 7 + 5
    assert corpus.entropy == source.window_entropy(2) == corpus.summary()["data_entropy"]
    details = corpus.summary()["data_details"]
    assert details == {"key_entropy": source.key_entropy, "value_entropy": 0.0}
    # Both sides come from one table, training windows independently and validation windows evenly.
    train, val = corpus.train_batch(0, 0, 9000), corpus.val_windows(1000)
    for tokens in (train, val):
        key, value = read(source, tokens)
        assert (value == source.value_K[key]).all()
    train_error, val_error = (nats_per_prediction(source, w).mean() - corpus.entropy for w in (train, val))
    assert abs(val_error) < 0.01
    assert abs(train_error) < 0.03
    other = open_corpus(compose(["data=zipf", "data.context=5", "data.n_tokens=6000"]).data, cache_dir=tmp_path)
    assert other.fingerprint != corpus.fingerprint


@pytest.mark.parametrize(("overrides", "message"), [
    (["data=zipf", "data.context=6"], r"^data\.context: 6 cuts pairs .*such as 5 or 11$"),
    (["data=zipf", "data.context=3"], r"^data\.context: 3 cuts pairs .*such as 5$"),
    (["data=zipf", "data.keys=8", "data.key_digits=4", "data.context=4"], r"^data\.key_digits: 4 .*allowed: <= 3$"),
    (["data=zipf", "data.vocab_size=64"], r"^data\.vocab_size: 64 is not allowed with data\.source=zipf"),
    (["data=zipf", "data.n_tokens=20"], r"^data\.n_tokens: 20 .*>= 24 \(4 windows\)"),
    (["data=zipf", "data.tokenizer=bpe"], r"^data\.tokenizer: 'bpe' does nothing with data\.source=zipf"),
    (["data=zipf", "data.noise=1"], r"^data\.noise: 1\.0 is not allowed; allowed: >= 0 and < 1"),
    (["data=zipf", "data.exponent=0"], r"^data\.exponent: 0\.0 is not allowed"),
    (["data=markov", "data.noise=0.1"], r"^data\.noise: 0\.1 does nothing with data\.source=markov; .*zipf"),
    (["data=markov", "data.keys=10"], r"^data\.keys: 10 does nothing"),
])  # fmt: skip
def test_impossible_settings_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(overrides)


def test_possible_settings_are_not() -> None:
    assert compose(["data=zipf", "data.context=11"]).data.window_tokens == 12
    assert compose(["data=zipf", "data.keys=9", "data.key_digits=4", "data.context=4"]).data.key_digits == 4
    assert isinstance(compose(["data=zipf", "data.keys=2", "data.key_digits=1", "data.context=1"]).data, DataConfig)

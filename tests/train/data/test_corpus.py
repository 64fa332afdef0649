"""Batches are a pure function of (fingerprint, seed, step); the two sides share no document."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.schema import DataConfig, UserError
from conf.vocab import vocab_size
from train.data.corpus import Corpus, open_corpus
from train.data.documents import held_out
from train.data.sources import DataError
from train.data.tokenizers import ByteTokenizer

TEXTS = [f"document {i} " + "".join(random.Random(i).choices("abcdefgh ", k=40 + i)) for i in range(40)]


def write(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{i:03}.txt").write_text(text)
    return f"{folder}/*.txt"


def text_config(path: str, **settings: object) -> DataConfig:
    return DataConfig(**{"source": "text", "path": path, "context": 15, "val_fraction": 0.25, **settings})  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return open_corpus(text_config(write(tmp_path / "text", TEXTS)), cache_dir=tmp_path / "cache")


# --- batches ---------------------------------------------------------------------------------------------


def epoch(corpus: Corpus, seed: int, batch_size: int, first: int = 0) -> list[bytes]:
    """One epoch of windows from `first` on (a place in the stream of windows), batch by batch."""
    rows = np.concatenate(
        [
            corpus.train_batch(seed, step, batch_size)
            for step in range((first + corpus.n_train_windows) // batch_size + 1)
        ]
    )
    return [row.tobytes() for row in rows[first : first + corpus.n_train_windows]]


def test_no_window_comes_twice_in_an_epoch(corpus: Corpus) -> None:
    n = corpus.n_train_windows
    everything = Counter(epoch(corpus, 0, n))  # windows of equal text are counted as often as they are
    assert sum(everything.values()) == n
    for batch_size in (1, 7, n - 1, n + 3):
        assert Counter(epoch(corpus, 0, batch_size)) == everything
        assert Counter(epoch(corpus, 0, batch_size, first=n)) == everything  # after a boundary inside a batch
    assert Counter(epoch(corpus, 0, 7, first=3)) != everything  # windows of two epochs do repeat


def test_batches_larger_than_the_corpus_hold_whole_epochs(corpus: Corpus) -> None:
    n = corpus.n_train_windows
    rows = Counter(row.tobytes() for row in corpus.train_batch(0, 0, 3 * n))
    assert rows == Counter(3 * epoch(corpus, 0, n))


def test_a_batch_follows_from_seed_and_step_alone(tmp_path: Path) -> None:
    data = text_config(write(tmp_path / "text", TEXTS))
    one = open_corpus(data, cache_dir=tmp_path / "one")
    other = open_corpus(data, cache_dir=tmp_path / "other")
    one.train_batch(0, 0, 8)  # what was asked before changes nothing
    assert np.array_equal(one.train_batch(3, 5, 8), other.train_batch(3, 5, 8))
    assert not np.array_equal(one.train_batch(3, 5, 8), one.train_batch(4, 5, 8))
    assert not np.array_equal(one.train_batch(3, 5, 8), one.train_batch(3, 6, 8))


def test_the_next_epoch_has_another_order(corpus: Corpus) -> None:
    n = corpus.n_train_windows
    first, second = corpus.train_batch(0, 0, n), corpus.train_batch(0, 1, n)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, corpus.train_batch(0, 0, n))


def test_windows_are_disjoint_runs_of_the_stream(corpus: Corpus, tmp_path: Path) -> None:
    (file,) = (tmp_path / "cache").glob("*/train.bin")
    stream = np.fromfile(file, dtype="<u2").astype(np.int64)
    n = len(stream) // 16
    assert (corpus.n_tokens_train, corpus.n_train_windows) == (len(stream), n)
    batch = corpus.train_batch(0, 0, n)
    assert batch.shape == (n, 16)
    assert batch.dtype == np.int64

    def windows(start: int) -> set[bytes]:
        return {row.tobytes() for row in stream[start : start + n * 16 - 16].reshape(-1, 16)}

    assert windows(0) < {row.tobytes() for row in batch}
    assert not windows(1) & {row.tobytes() for row in batch}
    assert batch.max() == vocab_size(DataConfig()) - 1  # the document mark


def test_validation_windows_are_spread_and_always_the_same(corpus: Corpus) -> None:
    n = corpus.n_val_windows
    every = [row.tobytes() for row in corpus.val_windows(10**6)]
    assert len(every) == n
    few = [row.tobytes() for row in corpus.val_windows(5)]
    assert few == [row.tobytes() for row in corpus.val_windows(5)]
    places = [every.index(row) for row in few]
    assert places == sorted(set(places))
    assert max(np.diff(places)) <= -(-n // 5)
    assert places != list(range(5))  # not simply the first five


# --- the split -------------------------------------------------------------------------------------------


hashes = st.lists(st.integers(0, 30) | st.integers(0, 2**64 - 1), min_size=2, max_size=60).filter(
    lambda values: len(set(values)) > 1
)


@settings(deadline=None)
@given(values=hashes, share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_the_split_sees_contents_alone(values: list[int], share: float, seed: int) -> None:
    array = np.array(values, dtype=np.uint64)
    chosen = held_out(array, share)
    assert chosen.any()
    assert not chosen.all()
    assert not set(array[chosen]) & set(array[~chosen])  # equal documents stay together
    order = np.random.default_rng(seed).permutation(len(array))
    assert np.array_equal(held_out(array[order], share), chosen[order])


@given(n=st.integers(2, 300), share=st.floats(0.01, 0.99))
def test_of_different_documents_the_share_is_exact(n: int, share: float) -> None:
    chosen = held_out(np.random.default_rng(n).permutation(n).astype(np.uint64), share)
    assert chosen.sum() == min(max(1, round(share * n)), n - 1)


def sides(corpus: Corpus) -> tuple[str, str]:
    tokens = corpus.train_batch(0, 0, corpus.n_train_windows), corpus.val_windows(corpus.n_val_windows)
    return ByteTokenizer().decode(tokens[0].reshape(-1)), ByteTokenizer().decode(tokens[1].reshape(-1))


def test_no_document_is_on_both_sides(tmp_path: Path) -> None:
    """Each document one letter over and over, every document twice."""
    texts = [chr(ord("a") + i) * 64 for i in range(20)] * 2
    data = text_config(write(tmp_path / "text", texts), val_fraction=0.3)
    train, val = sides(open_corpus(data, cache_dir=tmp_path / "cache"))
    assert not set(train) & set(val)
    assert 5 <= len(set(val)) <= 7
    # Without the hash, a cut through the list puts the second copies on the other side.
    assert set("".join(texts[:28])) & set("".join(texts[28:]))


def test_every_document_begins_with_its_mark(tmp_path: Path) -> None:
    data = text_config(write(tmp_path / "text", ["abc", "defg", "hi"]), context=1, val_fraction=0.34)
    corpus = open_corpus(data, cache_dir=tmp_path / "cache")
    assert corpus.n_documents == 3
    assert corpus.n_tokens_train + corpus.n_tokens_val == len("abcdefghi") + 3
    assert corpus.val_windows(1)[0, 0] == ByteTokenizer.mark


# --- the fingerprint -------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def fingerprint(texts: list[str], place: str, **settings: object) -> str:
        data = text_config(write(tmp_path / place, texts), **settings)
        return open_corpus(data, cache_dir=tmp_path / "cache").fingerprint

    first = fingerprint(TEXTS, "here")
    assert fingerprint(TEXTS, "elsewhere") == first
    assert fingerprint(TEXTS, "here", max_documents=40) == first
    changed = [
        fingerprint([*TEXTS[:-1], TEXTS[-1].upper()], "shouted"),
        fingerprint(TEXTS, "here", context=16),
        fingerprint(TEXTS, "here", val_fraction=0.5),
        fingerprint(TEXTS, "here", max_documents=39),
        fingerprint(TEXTS, "here", tokenizer="bpe", vocab_size=270),
    ]
    assert len({first, *changed}) == 6


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    data = text_config(write(tmp_path / "text", TEXTS))
    before = open_corpus(data, cache_dir=tmp_path / "cache")
    write(tmp_path / "text", [text + "!" for text in TEXTS])
    after = open_corpus(data, cache_dir=tmp_path / "cache")
    assert after.n_tokens_train + after.n_tokens_val == before.n_tokens_train + before.n_tokens_val + len(TEXTS)
    assert after.fingerprint != before.fingerprint


def test_a_bpe_learns_from_training_documents_alone(tmp_path: Path) -> None:
    """Each document repeats a pair of its own, and there is room for one merge per training document."""
    pairs = [chr(ord("a") + i) + chr(ord("A") + i) for i in range(10)]
    path = write(tmp_path / "text", [pair * 50 for pair in pairs])
    _, val = sides(open_corpus(text_config(path, val_fraction=0.2), cache_dir=tmp_path / "bytes"))
    open_corpus(text_config(path, val_fraction=0.2, tokenizer="bpe", vocab_size=257 + 8), cache_dir=tmp_path / "bpe")
    (file,) = (tmp_path / "bpe").glob("*/tokenizer.json")
    merged = {"".join(merge) for merge in json.loads(file.read_text())["model"]["merges"]}
    held = {pair for pair in pairs if pair in val}
    assert len(held) == 2
    assert merged == set(pairs) - held


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "settings", "says"),
    [
        (["", " "], {}, r"^data\.path: .* holds 1 document with text; allowed: at least 2"),
        (["", ""], {}, r"^data\.path: .* holds no documents with text; allowed: at least 2"),
        (["same", "same"], {}, r"^data\.path: .* holds 1 document with text; allowed: at least 2 different"),
        (["one block"], {}, r"^data\.path: .* holds 1 document with text; .*blank lines"),
        (
            ["short", "brief"],
            {},
            r"^data\.context: 15 is too long for the training text of 6 tokens; allowed: at most 5",
        ),
        (["x" * 200, "brief", "short"], {"val_fraction": 0.1, "context": 100}, r"^data\.context: 100 is too long"),
        (TEXTS, {"tokenizer": "bpe", "vocab_size": 5000}, r"^data\.vocab_size: 5000 .* allowed: at most \d+$"),
        (
            TEXTS,
            {"tokenizer": "file", "tokenizer_path": "none.json"},
            r"^data\.tokenizer_path: 'none\.json' cannot be read",
        ),
    ],
)
def test_too_little_is_said_in_one_line(
    tmp_path: Path, texts: list[str], settings: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        open_corpus(text_config(write(tmp_path / "text", texts), **settings), cache_dir=tmp_path / "cache")
    assert "\n" not in str(refused.value)


def test_a_longest_context_that_is_allowed_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "text", ["a" * 30, "b" * 40])

    def windows(context: int) -> int:
        corpus = open_corpus(text_config(path, context=context), cache_dir=tmp_path / "cache")
        return corpus.n_train_windows + corpus.n_val_windows

    # the 41 tokens of the second document are for validation, and must hold two windows of T + 1
    assert windows(19) == 1 + 2
    with pytest.raises(DataError, match="at most 19"):
        windows(20)


def test_the_default_corpus_needs_nothing_but_python(tmp_path: Path) -> None:
    corpus = open_corpus(DataConfig(), cache_dir=tmp_path)
    assert corpus.n_tokens_train > 5e6
    assert 0.02 < corpus.n_tokens_val / corpus.n_tokens_train < 0.12
    summary = corpus.summary()
    assert {"python", "n_files", "excluded"} <= set(summary["data_details"])
    assert (
        summary["data_fingerprint"] == corpus.fingerprint == open_corpus(DataConfig(), cache_dir=tmp_path).fingerprint
    )

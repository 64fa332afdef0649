"""Tokenizers lose nothing, and training one twice gives the same one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from conf.schema import ConfigError
from train.data.sources import DataError
from train.data.tokenizers import ByteTokenizer, read_tokenizer, train_bpe

TEXTS = ["to be, or not to be:\n    that is the question", "été\u200b 東京 🜁", "<|document|> <|document|>"] * 3
BPE = train_bpe(TEXTS, 300)
unicode = st.text() | st.lists(st.sampled_from([" ", "\n", "to be", "<|document|>", "🜁", "\0"])).map("".join)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
@settings(max_examples=150, deadline=None)
@given(text=unicode)
def test_decoding_returns_the_text(tokenizer, text: str) -> None:  # type: ignore[no-untyped-def]
    (ids,) = tokenizer.encode([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.mark not in ids  # spelled out in a text it is no boundary
    assert tokenizer.decode([tokenizer.mark, *ids, tokenizer.mark]) == text


def test_a_lossy_tokenizer_is_seen_to_be_one(tmp_path: Path) -> None:
    Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?")).save(str(tmp_path / "t.json"))
    words = read_tokenizer(tmp_path / "t.json")
    assert words.decode(words.encode(["b"])[0]) != "b"


def test_training_twice_gives_the_same_tokenizer(tmp_path: Path) -> None:
    def trained(texts: list[str], vocab_size: int) -> str:
        train_bpe(texts, vocab_size).save(tmp_path)
        return (tmp_path / "tokenizer.json").read_text()

    assert trained(TEXTS, 300) == trained(TEXTS, 300)
    assert trained(TEXTS, 300) != trained(TEXTS, 299)


def test_a_saved_tokenizer_reads_back(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    again = read_tokenizer(tmp_path / "tokenizer.json")
    assert (again.vocab_size, again.mark) == (BPE.vocab_size, BPE.mark) == (300, 299)
    for text in TEXTS:
        assert again.encode([text])[0].tolist() == BPE.encode([text])[0].tolist()
    assert again.encode(TEXTS)[0].tolist() != ByteTokenizer().encode(TEXTS)[0].tolist()


def test_merges_shorten_the_text() -> None:
    assert len(BPE.encode(["to be"])[0]) < len(ByteTokenizer().encode(["to be"])[0])


def test_too_little_text_for_the_vocabulary_says_how_far_it_went() -> None:
    with pytest.raises(DataError, match=r"^data\.vocab_size: 1000 tokens .* allowed: at most (\d+)$") as refused:
        train_bpe(["abab"], 1000)
    reached = int(str(refused.value).split()[-1])
    assert train_bpe(["abab"], reached).vocab_size == reached


def test_a_file_that_the_library_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"model": {"type": "Alien", "vocab": {"a": 0}}}')
    with pytest.raises(ConfigError, match=r"^data\.tokenizer_path: .*allowed: a tokenizer\.json$"):
        read_tokenizer(tmp_path / "t.json")


def test_text_that_a_tokenizer_has_no_token_for_is_one_line(tmp_path: Path) -> None:
    Tokenizer(models.WordLevel({"a": 0}, unk_token="?")).save(str(tmp_path / "t.json"))
    words = read_tokenizer(tmp_path / "t.json")
    assert words.encode(["a"])[0].tolist() == [0]
    with pytest.raises(DataError, match=r"^data\.tokenizer_path: "):
        words.encode(["b"])

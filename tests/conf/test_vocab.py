"""The vocabulary is known without the tokenizer library, and as that library has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from conf.schema import ConfigError, DataConfig
from conf.vocab import DOCUMENT_MARK, document_mark_id, tokenizer_ids, vocab_size, zipf_base
from train.data.tokenizers import ByteTokenizer, read_tokenizer, train_bpe

WORDS = {"a": 0, "b": 1, "ab": 2}
MODELS = {
    "bpe": models.BPE(WORDS, [("a", "b")]),
    "words": models.WordLevel(WORDS, unk_token="a"),
    "unigram": models.Unigram([("a", -1.0), ("b", -2.0)], 0, False),
}


def write(path: Path, model: str, *added: str) -> DataConfig:
    tokenizer = Tokenizer(MODELS[model])
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(path))
    return DataConfig(tokenizer="file", tokenizer_path=str(path))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("added", [(), ("</s>",), ("<pad>",), ("<pad>", "<|endoftext|>"), ("<|document|>",)])
def test_the_size_of_a_file_is_that_of_the_real_tokenizer(tmp_path: Path, model: str, added: tuple[str, ...]) -> None:
    data = write(tmp_path / "tokenizer.json", model, *added)
    real = read_tokenizer(tmp_path / "tokenizer.json")
    assert vocab_size(data) == real.vocab_size
    assert real.mark < real.vocab_size
    # The mark costs one more id exactly where the file brings none.
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).get_vocab_size()
    assert real.vocab_size == plain + (0 if {"</s>", "<|endoftext|>", "<|document|>"} & set(added) else 1)


def test_a_gap_in_the_ids_is_part_of_the_size(tmp_path: Path) -> None:
    data = write(tmp_path / "tokenizer.json", "words")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"]["far"] = 10
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert vocab_size(data) == read_tokenizer(tmp_path / "tokenizer.json").vocab_size == 12


def test_the_other_tokenizers_have_the_size_that_is_said() -> None:
    assert vocab_size(DataConfig()) == ByteTokenizer.vocab_size == ByteTokenizer.mark + 1
    bpe = train_bpe(["to be or not to be"] * 3, 260)
    assert vocab_size(DataConfig(tokenizer="bpe", vocab_size=260)) == bpe.vocab_size == bpe.mark + 1
    assert vocab_size(DataConfig(source="markov", vocab_size=7)) == 7


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"vocab": {}}}', '{"model": {"vocab": {"a": "b"}}}'])
def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"^data\.tokenizer_path: .*holds no vocabulary.*allowed: a tokenizer\.json$"):
        vocab_size(DataConfig(tokenizer="file", tokenizer_path=str(path)))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.tokenizer_path: .*cannot be read.*allowed: a tokenizer\.json$"):
        vocab_size(DataConfig(tokenizer="file", tokenizer_path=str(tmp_path / "none.json")))


@pytest.mark.parametrize(
    ("ids", "mark"),
    [
        ({"a": 0, "b": 1}, 2),  # a new one, behind the last
        ({"a": 0, "b": 9}, 10),  # whatever the gaps
        ({"a": 0, "</s>": 1}, 1),
        ({"</s>": 0, "<|endoftext|>": 1}, 1),  # in the order of preference, and not of ids
        ({"<|endoftext|>": 3, DOCUMENT_MARK: 5, "</s>": 0}, 5),
    ],
)
def test_the_mark_is_the_first_known_one(ids: dict[str, int], mark: int) -> None:
    assert document_mark_id(ids) == mark


def test_every_form_of_a_vocabulary_gives_the_same_ids(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    forms = ({"a": 0, "b": 1}, [["a", -1.0], ["b", -2.0]])
    for form in forms:
        path.write_text(json.dumps({"model": {"vocab": form}, "added_tokens": [{"content": "</s>", "id": 7}]}))
        assert tokenizer_ids(path) == {"a": 0, "b": 1, "</s>": 7}
    path.write_text(json.dumps({"model": {"vocab": forms[0]}}))
    assert tokenizer_ids(path) == forms[0]


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 2**24), st.integers(1, 24))
def test_the_base_of_zipf_keys_is_the_least_that_tells_them_apart(keys: int, digits: int) -> None:
    base = zipf_base(keys, digits)
    assert base**digits >= keys
    assert base == 2 or (base - 1) ** digits < keys


@pytest.mark.parametrize(("keys", "digits", "values"), [(2**20, 5, 16), (1000, 3, 2), (7, 1, 3)])
def test_zipf_has_symbols_of_its_own_for_each_place_and_for_values(keys: int, digits: int, values: int) -> None:
    data = DataConfig(source="zipf", keys=keys, key_digits=digits, values=values)
    assert vocab_size(data) == digits * zipf_base(keys, digits) + values
    assert (
        vocab_size(DataConfig(source="zipf", keys=keys, key_digits=digits, values=values + 1)) == vocab_size(data) + 1
    )

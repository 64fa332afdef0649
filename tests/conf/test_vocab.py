"""The vocabulary is known without the tokenizer library, and as that library has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from conf.schema import ConfigError, DataConfig
from conf.vocab import vocab_size
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

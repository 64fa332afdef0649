"""The number of tokens that a `DataConfig` leads to, known before any text is read. No torch, no tokenizer library."""

from __future__ import annotations

import json
from pathlib import Path

from conf.schema import BYTES_VOCAB, ConfigError, DataConfig

DOCUMENT_MARK = "<|document|>"

# Tokens of a tokenizer file that may stand before each document, in order of preference.
KNOWN_MARKS = (DOCUMENT_MARK, "<|endoftext|>", "</s>")


def vocab_size(data: DataConfig) -> int:
    """Size of the embedding (V): ids run from 0 to V - 1, the document mark included where there is one.

    Raises:
        ConfigError: `data.tokenizer_path` is missing or no tokenizer.json.
    """
    if data.source == "zipf":
        return data.key_digits * zipf_base(data.keys, data.key_digits) + data.values
    if data.source == "markov" or data.tokenizer == "bpe":
        assert data.vocab_size is not None  # the schema demands it for both
        return data.vocab_size
    if data.tokenizer == "bytes":
        return BYTES_VOCAB
    assert data.tokenizer_path is not None
    ids = tokenizer_ids(Path(data.tokenizer_path))
    return max(max(ids.values()), document_mark_id(ids)) + 1


def zipf_base(keys: int, digits: int) -> int:
    """The smallest base in which so many digits tell the keys apart."""
    base = max(2, int(keys ** (1 / digits)) - 1)  # the root is rounded
    while base**digits < keys:
        base += 1
    return base


def document_mark_id(ids: dict[str, int]) -> int:
    """The id of the first known mark in a vocabulary, or else a new last id."""
    return next((ids[mark] for mark in KNOWN_MARKS if mark in ids), max(ids.values()) + 1)


def tokenizer_ids(path: Path) -> dict[str, int]:
    """Every token of a `tokenizer.json` with its id, added tokens included.

    Raises:
        ConfigError: the file is missing, or it is no tokenizer.json with a vocabulary.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocab = content["model"]["vocab"]
        ids = dict(vocab) if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
        ids |= {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    except OSError as error:
        raise ConfigError(
            f"data.tokenizer_path: {str(path)!r} cannot be read ({error.strerror}); allowed: a tokenizer.json"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        ids = {}
    if not ids or not all(isinstance(i, int) for i in ids.values()):
        raise ConfigError(f"data.tokenizer_path: {str(path)!r} holds no vocabulary; allowed: a tokenizer.json")
    return ids

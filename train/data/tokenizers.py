"""How text becomes tokens: bytes, a byte-level BPE trained here, or a tokenizer file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from conf.schema import BYTES_VOCAB, ConfigError
from conf.vocab import DOCUMENT_MARK, document_mark_id, tokenizer_ids
from train.data.sources import DataError


class Tokenizer(Protocol):
    """Ids run from 0 to `vocab_size` - 1; `mark` is the id that stands before each document."""

    vocab_size: int
    mark: int

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """The ids of each text. A mark spelled out in the text is text like any other."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a run of ids, without document marks."""
        ...

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, where there is something to write."""
        ...


class ByteTokenizer:
    """UTF-8 bytes, and the document mark 256."""

    vocab_size = BYTES_VOCAB
    mark = BYTES_VOCAB - 1

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(int(i) for i in ids if i != self.mark).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """A byte needs no table."""


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library. Without a known mark of its own it gets a new last id."""

    def __init__(self, tokenizer: HFTokenizer) -> None:
        ids = tokenizer.get_vocab(with_added_tokens=True)
        self.mark = document_mark_id(ids)
        self.vocab_size = max(max(ids.values()), self.mark) + 1
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True  # a mark inside a document would fake a boundary
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except Exception as error:  # such as a word list without a token for unknown words
            raise DataError(f"data.tokenizer_path: the tokenizer cannot encode this text ({error})") from error
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode([int(i) for i in ids if i != self.mark], skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        self._tokenizer.save(str(folder / "tokenizer.json"))


def read_tokenizer(path: Path) -> LibraryTokenizer:
    """Read a tokenizer.json.

    Raises:
        ConfigError: the file is missing or no tokenizer.json.
    """
    tokenizer_ids(path)  # names what is wrong with a file that the library only fails on
    try:
        return LibraryTokenizer(HFTokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing narrower
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"data.tokenizer_path: {str(path)!r} is not understood ({reason}); allowed: a tokenizer.json"
        ) from None


def train_bpe(texts: Iterable[str], vocab_size: int) -> LibraryTokenizer:
    """Train a byte-level BPE (Radford et al. 2019, section 2.2) whose document mark is the last id.

    The same texts give the same merges.

    Raises:
        DataError: the texts are too few for so many tokens.
    """
    tokenizer = HFTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([DOCUMENT_MARK])
    reached = tokenizer.get_vocab_size()
    if reached != vocab_size:
        raise DataError(
            f"data.vocab_size: {vocab_size} tokens are more than the training text yields; allowed: at most {reached}"
        )
    return LibraryTokenizer(tokenizer)

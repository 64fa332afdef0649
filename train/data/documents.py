"""Documents -> two streams of tokens: read once, split by document, tokenise, write.

The text waits on disk between the passes (the share of a document is known only once all have been seen, and a BPE
is trained on training documents alone), so a corpus needs its own size in free space while it is built, and little
memory: 16 bytes per document and one batch of text.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from conf.schema import DataConfig
from train.data.sources import DataError, Source
from train.data.token_cache import TokenWriter
from train.data.tokenizers import ByteTokenizer, Tokenizer, read_tokenizer, train_bpe

BATCH_CHARACTERS = 2**22  # tokenised at a time


class Spool:
    """Documents in a file, in the order in which they were added, and a 64-bit hash of each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w+b")
        self._sizes = array("Q")
        self._hashes = array("Q")
        self.n_characters = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._path.unlink()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, text: str) -> None:
        content = text.encode()
        self._file.write(content)
        self._sizes.append(len(content))
        self.n_characters += len(text)
        self._hashes.append(int.from_bytes(hashlib.sha256(content).digest()[:8], "little"))

    def hashes(self) -> NDArray[np.uint64]:
        return np.array(self._hashes, dtype=np.uint64)

    def read(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """The documents where `chosen` is true, in order."""
        self._file.seek(0)
        for size, wanted in zip(self._sizes, chosen.tolist(), strict=True):
            content = self._file.read(size)
            if wanted:
                yield content.decode()


def held_out(hashes: NDArray[np.uint64], val_fraction: float) -> NDArray[np.bool_]:
    """Which documents are for validation: those with the smallest hashes, a share of `val_fraction` or just above.

    The rule sees contents alone, so the order of the documents does not matter, and equal documents stay on the same
    side. Both sides get at least one of the two or more different documents that `hashes` must hold.
    """
    distinct, counts = np.unique(hashes, return_counts=True)
    wanted = round(val_fraction * len(hashes))
    n_distinct = int(np.searchsorted(np.cumsum(counts), wanted)) + 1  # the first so many reach the share
    last = min(n_distinct, len(distinct) - 1) - 1
    return np.asarray(hashes <= distinct[last])


def tokenize(source: Source, data: DataConfig, folder: Path, *, progress: bool) -> tuple[int, Tokenizer]:
    """Write `train.bin`, `val.bin` and the tokenizer of a source into `folder`; return the documents and tokenizer.

    Raises:
        DataError: fewer than two different documents, or too few for the BPE; or whatever the source cannot read.
    """
    tokenizer: Tokenizer = ByteTokenizer()
    if data.tokenizer == "file":
        tokenizer = read_tokenizer(Path(data.tokenizer_path or ""))
    with (
        Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar,
        Spool(folder / "documents") as spool,
    ):
        reading = bar.add_task("reading documents", total=data.max_documents)
        with TemporaryDirectory(dir=folder) as scratch, closing(source.documents(Path(scratch))) as documents:
            for text in islice(filter(None, documents), data.max_documents):
                spool.add(text)
                bar.advance(reading)
        bar.update(reading, total=len(spool))

        n_distinct = len(np.unique(spool.hashes()))
        if n_distinct < 2:
            raise DataError(
                f"{source.name} holds {n_distinct or 'no'} document{'s' if n_distinct != 1 else ''} with text; "
                "allowed: at least 2 different ones (a lone .txt file is cut at blank lines), to hold one out"
            )
        for_val = held_out(spool.hashes(), data.val_fraction)

        if data.tokenizer == "bpe":
            assert data.vocab_size is not None  # the schema demands it
            training = bar.add_task("training the tokenizer", total=None)
            tokenizer = train_bpe(spool.read(~for_val), data.vocab_size)
            bar.update(training, total=1, completed=1)
        tokenizer.save(folder)

        tokenizing = bar.add_task("tokenising", total=spool.n_characters)
        for name, chosen in (("train.bin", ~for_val), ("val.bin", for_val)):
            with TokenWriter(folder / name, tokenizer.vocab_size) as writer:
                for texts, n_characters in _batches(spool.read(chosen)):
                    marked = [piece for ids in tokenizer.encode(texts) for piece in ((tokenizer.mark,), ids)]
                    writer.write(np.concatenate(marked))
                    bar.advance(tokenizing, n_characters)
        return len(spool), tokenizer


def _batches(texts: Iterable[str]) -> Iterator[tuple[list[str], int]]:
    """Runs of documents of about `BATCH_CHARACTERS`, with their characters counted."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size

"""A corpus as windows of tokens, and (seed, step) -> batch.

The token stream of each side is cut into disjoint windows of T + 1 tokens: T inputs, and T targets shifted by one.
A training batch is a pure function of (fingerprint, seed, step), so resuming needs nothing but the step. An epoch
visits every window once, and the next one visits them in another order.

Shape letters: B windows of a batch, T1 = T + 1 tokens of a window, N windows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf.schema import DataConfig
from conf.vocab import tokenizer_ids
from train.data.documents import tokenize
from train.data.markov import MarkovChain
from train.data.permutation import permute
from train.data.sources import DataError, open_source
from train.data.token_cache import CachedTokens, TokenWriter, load_or_build
from train.data.zipf import ZipfTable
from train.timetable.shift import Shift

DRAWN_WINDOWS = 2**14  # drawn at a time
MIN_VAL_WINDOWS = 2  # one has no standard error


class Corpus:
    """Training and validation windows of one tokenised corpus.

    Attributes:
        fingerprint: hash of what the windows are made of: the tokens of both sides, V and T. The same text, tokenizer
            and split give the same fingerprint anywhere, wherever the files lie.
        vocab_size: V; ids run from 0 to V - 1.
        n_documents: documents of both sides.
        n_tokens_train, n_tokens_val: tokens of each side, document marks included.
        n_train_windows, n_val_windows: windows of T + 1 tokens of each side.
        entropy: E in nats per predicted token, where the source knows it (markov, zipf), or else None.
    """

    def __init__(self, tokens: CachedTokens, data: DataConfig) -> None:
        """Cut the windows; raises `DataError` if a side has too few."""
        self.vocab_size: int = tokens.facts["vocab_size"]
        self.n_documents: int = tokens.facts["n_documents"]
        self.n_tokens_train, self.n_tokens_val = len(tokens.train), len(tokens.val)
        self.entropy: float | None = tokens.facts.get("entropy")
        content = json.dumps([*tokens.sha256, self.vocab_size, data.context])
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        self._source, self._details = data.source, tokens.facts["details"]
        self._train_NT1 = _windows(tokens.train, data, "training", at_least=1)
        self._val_NT1 = _windows(tokens.val, data, "validation", at_least=MIN_VAL_WINDOWS)
        self.n_train_windows, self.n_val_windows = len(self._train_NT1), len(self._val_NT1)

    def train_batch(
        self, seed: int, step: int, batch_size: int, shift: Shift | None = None, *, seen: int = 0
    ) -> NDArray[np.int64]:
        """The windows (B, T + 1) of optimiser step `step`, counted from 0; no window twice within an epoch.

        Args:
            seen: windows that came before step 0, in the runs that this one grew out of.
        """
        position_B = seen + step * batch_size + np.arange(batch_size)
        epoch_B, place_B = np.divmod(position_B, self.n_train_windows)
        index_B = np.empty_like(place_B)
        for epoch in np.unique(epoch_B):
            here = epoch_B == epoch
            index_B[here] = permute(place_B[here], self.n_train_windows, f"{self.fingerprint}/{seed}/{epoch}")
        windows_BT1 = self._train_NT1[index_B].astype(np.int64)
        return self.vocab_size - 1 - windows_BT1 if shift is not None and shift.holds(step) else windows_BT1

    def val_windows(self, n: int) -> NDArray[np.int64]:
        """`n` validation windows (n, T + 1), evenly spread and the same every time; all of them if they are fewer."""
        n = min(n, self.n_val_windows)
        return self._val_NT1[np.arange(n) * self.n_val_windows // n].astype(np.int64)

    def summary(self) -> dict[str, Any]:
        """What the run's record says of its data."""
        return {
            "data_source": self._source,
            "data_fingerprint": self.fingerprint,
            **({"data_entropy": self.entropy} if self.entropy is not None else {}),
            "n_tokens_train": self.n_tokens_train,
            "n_tokens_val": self.n_tokens_val,
            "n_documents": self.n_documents,
            "vocab_size": self.vocab_size,
            "data_details": self._details,
        }


def _windows(stream: NDArray[Any], data: DataConfig, side: str, *, at_least: int) -> NDArray[Any]:
    length = data.window_tokens
    if len(stream) < at_least * length:
        more = " or a larger data.val_fraction" if side == "validation" else ""
        raise DataError(
            f"data.context: {data.context} is too long for the {side} text of {len(stream)} tokens; "
            f"allowed: at most {len(stream) // at_least - 1}, or a longer corpus{more}"
        )
    return stream[: len(stream) // length * length].reshape(-1, length)


def open_corpus(data: DataConfig, *, cache_dir: Path, progress: bool = False) -> Corpus:
    """Open the corpus that the settings describe, and tokenise it into `cache_dir` if it is not there yet.

    Files are recognised by path, size and time of change, so that a second start reads none of them. A data set of
    the Hub is recognised by its name: it is read once, and again only after its folder was deleted.

    Raises:
        DataError: the corpus is missing, cannot be read, or is too small.
        ConfigError: the tokenizer file is missing or is none.
    """
    if data.source == "markov":
        return Corpus(_markov_tokens(data, cache_dir), data)
    if data.source == "zipf":
        return Corpus(_zipf_tokens(data, cache_dir), data)
    return Corpus(_text_tokens(data, cache_dir, progress), data)


def _text_tokens(data: DataConfig, cache_dir: Path, progress: bool) -> CachedTokens:
    source = open_source(data)
    request: dict[str, Any] = {
        "source": data.source,
        "stamp": source.stamp(),
        "max_documents": data.max_documents,
        "val_fraction": data.val_fraction,
        "tokenizer": [data.tokenizer, data.vocab_size],
    }
    if data.tokenizer == "file":
        path = Path(data.tokenizer_path or "")
        tokenizer_ids(path)  # a file that is none is a mistake even where the tokens lie in the cache
        request["tokenizer"] = ["file", hashlib.sha256(path.read_bytes()).hexdigest()]

    def build(folder: Path) -> dict[str, Any]:
        n_documents, tokenizer = tokenize(source, data, folder, progress=progress)
        return {"vocab_size": tokenizer.vocab_size, "n_documents": n_documents, "details": source.details()}

    return load_or_build(cache_dir, request, build)


# --- sources that are drawn ------------------------------------------------------------------------------

Sampler = Callable[[np.random.Generator, int], NDArray[np.int64]]
"""(generator, B) -> windows (B, T + 1)."""


class DrawnSource(NamedTuple):
    """A source that is drawn and not read: V, E of a window, more for the record, and its windows for both sides."""

    vocab_size: int
    entropy: float
    details: dict[str, float]
    train: Sampler
    val: Sampler


def _markov_tokens(data: DataConfig, cache_dir: Path) -> CachedTokens:
    vocab_size = data.vocab_size
    assert vocab_size is not None  # the schema demands it

    def make() -> DrawnSource:
        chain = MarkovChain.draw(vocab_size=vocab_size, order=data.order, alpha=data.alpha, seed=data.seed)
        sample = partial(chain.sample, length=data.window_tokens)
        details = {"entropy_rate": chain.entropy_rate}
        return DrawnSource(vocab_size, chain.window_entropy(data.context), details, sample, sample)

    return _drawn_tokens(data, {"chain": [vocab_size, data.order, data.alpha, data.seed]}, make, cache_dir)


def _zipf_tokens(data: DataConfig, cache_dir: Path) -> CachedTokens:
    names = ("keys", "key_digits", "values", "exponent", "noise", "seed")
    law = {name: getattr(data, name) for name in names}
    n_pairs = data.window_tokens // (data.key_digits + 1)

    def make() -> DrawnSource:
        table = ZipfTable.draw(**law)
        details = {"key_entropy": table.key_entropy, "value_entropy": table.value_entropy}
        train, val = (partial(table.sample, n_pairs=n_pairs, even=even) for even in (False, True))
        return DrawnSource(table.vocab_size, table.window_entropy(n_pairs), details, train, val)

    return _drawn_tokens(data, {"table": law}, make, cache_dir)


def _drawn_tokens(
    data: DataConfig, law: dict[str, Any], make: Callable[[], DrawnSource], cache_dir: Path
) -> CachedTokens:
    """Every window is a document of its own, drawn afresh; there are no document marks.

    Args:
        law: JSON that the source follows from.
        make: makes the source, if its tokens are not there yet.
    """
    n_windows = min(data.n_tokens // data.window_tokens, data.max_documents or data.n_tokens)
    n_val = min(max(MIN_VAL_WINDOWS, round(data.val_fraction * n_windows)), n_windows - 1)
    request = {"source": data.source, **law, "windows": [n_windows, n_val, data.context]}

    def build(folder: Path) -> dict[str, Any]:
        source = make()
        sides = (("train.bin", n_windows - n_val, source.train), ("val.bin", n_val, source.val))
        for stream, (name, n, sample) in enumerate(sides, start=1):
            rng = np.random.default_rng(np.random.SeedSequence([data.seed, stream]))
            with TokenWriter(folder / name, source.vocab_size) as writer:
                for start in range(0, n, DRAWN_WINDOWS):
                    writer.write(sample(rng, min(DRAWN_WINDOWS, n - start)))
        return {
            "vocab_size": source.vocab_size,
            "n_documents": n_windows,
            "entropy": source.entropy,
            "details": source.details,
        }

    return load_or_build(cache_dir, request, build)

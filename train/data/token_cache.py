"""Tokenised corpora on disk: a folder per request, complete or not there, checked whenever it is opened.

`cache_dir/<key>/` holds `train.bin` and `val.bin` (token ids, little-endian, uint16 where they fit and else uint32),
`tokenizer.json` where there is one, and `meta.json`: what is known of the corpus, and size and hashes of each file.
Opening compares the SHA-256 of files up to `FULL_CHECK` bytes. A larger file, which would take seconds, is
compared by its size and by the hash of its first and last MiB.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.sources import DataError
from train.record.files import write_json

FORMAT = 1  # part of every key: raise it when the same request would be built differently
FULL_CHECK = 2**28
END = 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CachedTokens:
    """Two memory-mapped streams of token ids, their SHA-256, and the facts that the builder gave."""

    train: NDArray[Any]
    val: NDArray[Any]
    sha256: tuple[str, str]
    facts: dict[str, Any]


def load_or_build(cache_dir: Path, request: Mapping[str, Any], build: Callable[[Path], dict[str, Any]]) -> CachedTokens:
    """Open what the cache holds for `request`, or build it.

    Several processes may ask at once: one builds, the others wait and open what it built. A damaged folder is named
    in the log and built again. A build that fails or is killed leaves nothing that could be taken for a result.

    Args:
        cache_dir: folder of all caches; made if missing.
        request: JSON that the content follows from.
        build: writes `train.bin` and `val.bin` into a folder and returns facts (JSON), among them `vocab_size`.

    Raises:
        DataError: the folder cannot be written, or whatever `build` raises.
    """
    text = json.dumps({"format": FORMAT, **request}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = cache_dir / key
    cached = _open(folder)
    if cached is not None:
        return cached
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _lock(cache_dir / f"{key}.lock"):
            cached = _open(folder, report=True)
            return cached if cached is not None else _build(folder, build)
    except OSError as error:
        raise DataError(f"runtime.cache_dir: the corpus cannot be kept in {str(cache_dir)!r} ({error})") from error


def _build(folder: Path, build: Callable[[Path], dict[str, Any]]) -> CachedTokens:
    temporary = folder.with_name(f"{folder.name}.building")
    for leftover in (folder, temporary):
        if leftover.exists():
            shutil.rmtree(leftover)
    temporary.mkdir()
    try:
        _seal(temporary, build(temporary))
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    cached = _open(folder, report=True)
    if cached is None:
        raise OSError(f"{folder} does not read back as written")
    return cached


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for the lock, which the system drops with the process that holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s is held by a run that builds the corpus; waiting", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class TokenWriter:
    """Appends token ids to a file, in the smallest type that holds the vocabulary; on disk when closed."""

    def __init__(self, path: Path, vocab_size: int) -> None:
        self._dtype = _dtype(vocab_size)
        self._file = path.open("wb")

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def write(self, ids: NDArray[Any]) -> None:
        self._file.write(ids.astype(self._dtype).tobytes())


def _dtype(vocab_size: int) -> np.dtype[Any]:
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


# --- meta.json and the checks ----------------------------------------------------------------------------


class _DamagedError(Exception):
    """A cache folder that is not what was written."""


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256, "ends_sha256": _ends_sha256(path)}
    content = {"facts": facts, "files": files}
    write_json(folder / "meta.json", {**content, "sha256": _content_sha256(content)})


def _open(folder: Path, *, report: bool = False) -> CachedTokens | None:
    """The cache in `folder` if it is whole, or else None; `report` says in the log what is wrong with it."""
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        content = {"facts": meta["facts"], "files": meta["files"]}
        if meta["sha256"] != _content_sha256(content):
            raise _DamagedError("meta.json was changed")
        for name, expected in meta["files"].items():
            _check_file(folder / name, expected)
        dtype = _dtype(meta["facts"]["vocab_size"])
        streams = [np.memmap(folder / name, dtype=dtype, mode="r") for name in ("train.bin", "val.bin")]
    except (_DamagedError, OSError, ValueError, KeyError, TypeError) as error:
        if report:
            log.warning("%s is damaged (%s) and is built again", folder, " ".join(str(error).split()))
        return None
    sha256 = (meta["files"]["train.bin"]["sha256"], meta["files"]["val.bin"]["sha256"])
    return CachedTokens(streams[0], streams[1], sha256, meta["facts"])


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise _DamagedError(f"{path.name} has {size} bytes, not {expected['bytes']}")
    if size > FULL_CHECK:
        same = _ends_sha256(path) == expected["ends_sha256"]
    else:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == expected["sha256"]
    if not same:
        raise _DamagedError(f"{path.name} has other bytes than were written")


def _ends_sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(END))
        file.seek(max(0, path.stat().st_size - END))
        digest.update(file.read(END))
    return digest.hexdigest()


def _content_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

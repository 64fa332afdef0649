"""The cache is complete or not there: damage is seen, builders do not meet, failures leave nothing behind."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data import token_cache
from train.data.sources import DataError
from train.data.token_cache import TokenWriter, load_or_build


class Builder:
    """Writes the same ten tokens each time, and counts how often it was asked to."""

    def __init__(self, vocab_size: int = 300) -> None:
        self.calls = 0
        self.vocab_size = vocab_size

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.calls += 1
        for name in ("train.bin", "val.bin"):
            with TokenWriter(folder / name, self.vocab_size) as writer:
                writer.write(np.arange(4))
                writer.write(np.arange(4, 10))
        return {"vocab_size": self.vocab_size, "entropy": 0.1 + 0.2}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_meta(path: Path) -> None:
    meta = json.loads(path.read_text())
    meta["facts"]["vocab_size"] = 299
    path.write_text(json.dumps(meta))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda folder: (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-2]),
    "longer": lambda folder: (folder / "val.bin").write_bytes((folder / "val.bin").read_bytes() + b"\0\0"),
    "flipped": lambda folder: flip(folder / "val.bin"),
    "missing": lambda folder: (folder / "train.bin").unlink(),
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "half a meta": lambda folder: (folder / "meta.json").write_text((folder / "meta.json").read_text()[:40]),
    "another meta": lambda folder: (folder / "meta.json").write_text("[]"),
    "edited meta": lambda folder: edit_meta(folder / "meta.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_seen_and_mended(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    facts = load_or_build(tmp_path, {"a": 1}, build).facts
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    DAMAGE[kind](folder)
    with caplog.at_level(logging.WARNING):
        again = load_or_build(tmp_path, {"a": 1}, build)
    assert build.calls == 2
    assert len(caplog.messages) == 1
    assert "is damaged" in caplog.messages[0]
    assert "\n" not in caplog.messages[0]
    assert again.train.tolist() == again.val.tolist() == list(range(10))
    assert again.facts == facts


def test_a_whole_cache_is_not_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    first = load_or_build(tmp_path, {"a": 1}, build)
    second = load_or_build(tmp_path, {"a": 1}, build)
    assert build.calls == 1
    assert first.sha256 == second.sha256
    assert caplog.messages == []
    load_or_build(tmp_path, {"a": 2}, build)
    assert build.calls == 2


def test_of_a_large_file_the_ends_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "FULL_CHECK", 10)
    monkeypatch.setattr(token_cache, "END", 4)
    build = Builder()
    load_or_build(tmp_path, {}, build)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    content = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(content[:-1] + b"\7")
    load_or_build(tmp_path, {}, build)
    assert build.calls == 2
    flip(folder / "train.bin")  # the middle, which is not looked at
    load_or_build(tmp_path, {}, build)
    assert build.calls == 2


def test_ids_take_the_smallest_type_that_holds_them(tmp_path: Path) -> None:
    small = load_or_build(tmp_path, {"v": 1}, Builder(2**16))
    large = load_or_build(tmp_path, {"v": 2}, Builder(2**16 + 1))
    assert (small.train.dtype, large.train.dtype) == (np.dtype("<u2"), np.dtype("<u4"))
    assert small.train.tolist() == large.train.tolist()


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> dict[str, Any]:
        (folder / "train.bin").write_bytes(b"half")
        raise DataError("no text")

    with pytest.raises(DataError, match=r"^no text$"):
        load_or_build(tmp_path, {}, broken)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert load_or_build(tmp_path, {}, Builder()).train.tolist() == list(range(10))


def test_what_a_killed_builder_left_is_cleared(tmp_path: Path) -> None:
    build = Builder()
    load_or_build(tmp_path, {}, build)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder.rename(tmp_path / f"{folder.name}.building")
    assert load_or_build(tmp_path, {}, build).train.tolist() == list(range(10))
    assert build.calls == 2
    assert not list(tmp_path.glob("*.building"))


def test_a_cache_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^runtime\.cache_dir: the corpus cannot be kept in .*file") as refused:
        load_or_build(tmp_path / "file", {}, Builder())
    assert "\n" not in str(refused.value)


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from train.data.token_cache import TokenWriter, load_or_build

def build(folder):
    print("built", flush=True)
    time.sleep(1)
    for name in ("train.bin", "val.bin"):
        with TokenWriter(folder / name, 9) as writer:
            writer.write(__import__("numpy").arange(9))
    return {"vocab_size": 9}

while time.time() < float(sys.argv[2]):
    time.sleep(0.001)
print(load_or_build(Path(sys.argv[1]), {"part": sys.argv[3]}, build).train.sum())
"""


@pytest.mark.parametrize(("parts", "builds"), [("aaa", 1), ("abc", 3)])
def test_of_several_runs_that_start_at_once_one_builds(tmp_path: Path, parts: str, builds: int) -> None:
    """The control: runs that ask for different corpora each build their own."""
    start = str(time.time() + 1.5)
    runs = [
        subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, tmp_path, start, part], stdout=subprocess.PIPE, text=True)
        for part in parts
    ]
    printed = [run.communicate(timeout=60)[0].split() for run in runs]
    assert [lines[-1] for lines in printed] == ["36", "36", "36"]
    assert sum(lines.count("built") for lines in printed) == builds

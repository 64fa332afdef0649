"""Files that are whole or not there: what an error leaves, who may read them, and what JSON may hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.record import files
from train.record.files import sync_folder, write_bytes, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(value=VALUES)
def test_a_value_reads_back_and_ends_its_last_line(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda _: None)  # which takes a while, and is not what is asked here
        write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert path.read_bytes().endswith(b"\n")


def break_fsync(patch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(files.os, "fsync", full)


def break_replace(patch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    patch.setattr(files.os, "replace", interrupt)


@pytest.mark.parametrize("breaking", [break_fsync, break_replace])
@pytest.mark.parametrize("before", [b"old", None])
def test_an_error_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaking: Any, before: bytes | None
) -> None:
    path = tmp_path / "record"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patch:
        breaking(patch)
        with pytest.raises((OSError, KeyboardInterrupt)):
            write_bytes(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ([] if before is None else ["record"])
    assert before is None or path.read_bytes() == before
    write_bytes(path, b"new")  # the control: unbroken it is replaced
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}, {"a": object()}, {1, 2}])
def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"state": "running"})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, value)
    assert json.loads(path.read_text()) == {"state": "running"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_bytes(path, b"old and long")
    with path.open("rb") as reader:
        assert reader.read(3) == b"old"
        write_bytes(path, b"new")
        assert reader.read() == b" and long"
    assert path.read_bytes() == b"new"


def test_others_of_the_group_may_read(tmp_path: Path) -> None:
    write_bytes(tmp_path / "record", b"")
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o644


def test_a_folder_is_synced_and_let_go(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before

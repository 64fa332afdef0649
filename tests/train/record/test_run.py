"""The record of a run: what is written reads back, what is damaged is told in one line, and one process writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.config import Config, resolve
from conf.identity import run_id
from conf.schema import RuntimeConfig
from train.record import run as module
from train.record.run import (
    RECORD_VERSION,
    RecordError,
    died,
    diverged_by,
    divergence,
    is_alive,
    locked,
    open_lock,
    read_run,
    run_dir,
    write_run,
)

ID = "0123456789abcdef"
ENDS: dict[str, dict[str, Any]] = {
    "running": {},
    "finished": {"val_loss": 2.5, "val_loss_se": 0.1, "seconds": 7.0},
    "diverged": {"diverged_at_step": 7, "seconds": 7.0},
    "failed": {"error": "ValueError: odd"},
}
WHOLE = [{"run_id": ID, "state": state, **ends} for state, ends in ENDS.items()]


@pytest.mark.parametrize("record", WHOLE, ids=str)
def test_a_record_reads_back_with_its_version(tmp_path: Path, record: dict[str, Any]) -> None:
    assert read_run(tmp_path) is None
    write_run(tmp_path, record)
    assert read_run(tmp_path) == {"record_version": RECORD_VERSION, **record}


@pytest.mark.parametrize(("record", "key"), [(record, key) for record in WHOLE for key in record], ids=str)
def test_a_record_that_lacks_anything_is_refused_by_name(tmp_path: Path, record: dict[str, Any], key: str) -> None:
    write_run(tmp_path, {name: value for name, value in record.items() if name != key})
    words = "no run has the state None" if key == "state" else f"lacks {key}"
    with pytest.raises(RecordError, match=rf"run\.json: {words}$"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a run record"),
        (b"{", "not a run record"),
        (b"\xff\xfe", "not a run record"),
        (b"[]", "not a run record of version 1"),
        (b"3", "not a run record of version 1"),
        (b"{}", "not a run record of version 1"),
        (b'{"record_version": 2, "state": "running"}', "not a run record of version 1"),
        (b'{"record_version": "1", "state": "running"}', "not a run record of version 1"),
        (b'{"record_version": 1, "state": "stopped"}', "no run has the state 'stopped'"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: {words}")
    assert "\n" not in str(caught.value)


def test_a_folder_in_its_place_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RecordError, match=r"run\.json: cannot be read \(Is a directory\)"):
        read_run(tmp_path)


def test_a_loss_that_is_no_number_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    write_run(tmp_path, WHOLE[0])
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Out of range float"):
            write_run(tmp_path, WHOLE[1] | {"val_loss": value})
    assert (read_run(tmp_path) or {})["state"] == "running"


def test_a_record_of_a_later_writer_may_say_its_version(tmp_path: Path) -> None:
    write_run(tmp_path, WHOLE[0] | {"record_version": RECORD_VERSION + 1})
    assert json.loads((tmp_path / "run.json").read_text())["record_version"] == RECORD_VERSION + 1
    with pytest.raises(RecordError):
        read_run(tmp_path)


def test_a_run_lives_in_its_study_under_its_id() -> None:
    config = resolve(Config(study="paper/figure", runtime=RuntimeConfig(runs_dir="some/runs")), cuda=False)
    assert run_dir(config) == Path("some/runs/paper/figure") / run_id(config)


# --- divergence -------------------------------------------------------------------------------------------


def test_a_run_has_diverged_by_a_step_from_that_step_on() -> None:
    diverged = WHOLE[2]
    assert [diverged_by(diverged, step) for step in (0, 6, 7, 8)] == [False, False, True, True]
    for record in (None, *(record for record in WHOLE if record is not diverged)):
        assert not diverged_by(record, 10**6)


@pytest.mark.parametrize(
    ("because", "words", "dead"),
    [
        (None, "at step 7", False),
        ("dead: block0", "at step 7, dead: block0", True),
        ("not finite: readout", "at step 7, not finite: readout", False),
        ("exploded: deadly", "at step 7, exploded: deadly", False),
    ],
)
def test_why_a_run_diverged(because: str | None, words: str, dead: bool) -> None:
    record = WHOLE[2] | {"diverged_because": because}
    assert (divergence(record), died(record)) == (words, dead)
    if because is None:  # as in records from before there were causes
        assert (divergence(WHOLE[2]), died(WHOLE[2])) == (words, dead)


# --- locks ------------------------------------------------------------------------------------------------


def test_a_folder_has_one_holder_and_is_free_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(module.time, "sleep", asked.append)
    folder = tmp_path / "study" / ID
    assert not is_alive(folder)
    assert not folder.exists()  # whoever asks leaves nothing
    with locked(folder):
        assert is_alive(folder)
        with open_lock(folder) as free:
            assert not free
        with pytest.raises(RecordError, match="another process is running this run; wait for it or stop it"):
            locked(folder).__enter__()
    assert len(asked) == 2  # `is_alive` of somebody else may hold it for a moment
    assert not is_alive(folder)
    with locked(folder):
        pass
    assert len(asked) == 2


def test_a_lock_goes_with_whatever_ends_its_holder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert not is_alive(tmp_path)


def test_a_holder_that_lets_go_in_time_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = open_lock(tmp_path)
    assert other.__enter__()
    monkeypatch.setattr(module.time, "sleep", lambda _: other.__exit__(None, None, None))
    with locked(tmp_path):
        assert is_alive(tmp_path)


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RecordError, match=r"^runtime\.runs_dir: .* cannot be written \(Not a directory\)$"),
        locked(tmp_path / "file" / ID),
    ):
        pass

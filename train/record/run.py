"""The record of a run: its folder, its states, and who may write. No torch.

run_dir(config)                       runs/scratch/0f3c…, for a resolved config
read_run(folder)                      its `run.json` as one flat dict; None where no run has begun
write_run(folder, {"state": …})       replaces it in one step
with locked(folder): …                nobody else writes the folder; the lock goes with the process
is_alive(folder)                      whether a process holds it now

A run's folder holds `config.yaml`, `run.json`, `metrics.jsonl`, at the end `metrics.parquet`, `checkpoint/`, and
`kept/` if others are to start from it. The run itself is the only writer; sweeps and analysis read.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from conf.config import Config
from conf.identity import run_id
from conf.schema import UserError
from train.record.files import write_json

State = Literal["running", "finished", "diverged", "failed"]


RECORD_VERSION = 1


# What a record of each state has beside its identity; the rest may be missing from a record of another version.
_STATE_KEYS: dict[State, tuple[str, ...]] = {
    "running": (),
    "finished": ("val_loss", "val_loss_se", "seconds"),
    "diverged": ("diverged_at_step", "seconds"),
    "failed": ("error",),
}


# A state that a run cannot leave: running it again does nothing.
FINAL: tuple[State, ...] = ("finished", "diverged")


class RecordError(UserError):
    """A run folder that cannot be read as a record, or that belongs to something else."""


def run_dir(config: Config) -> Path:
    """Where the run of a resolved config lives: `runs_dir/study/run_id`."""
    return Path(config.runtime.runs_dir) / config.study / run_id(config)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; raise `RecordError` if another one holds it.

    It is asked for a few times, since `is_alive` holds it for a moment.
    """
    for last in (False, False, True):
        with open_lock(folder) as taken:
            if taken:
                yield
                return
        if last:
            raise RecordError(f"{folder}: another process is running this run; wait for it or stop it")
        time.sleep(0.05)


@contextmanager
def open_lock(folder: Path) -> Iterator[bool]:
    """Try to take the folder's lock, which the system drops with the process; yields whether it was free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RecordError(f"runtime.runs_dir: {folder} cannot be written ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_alive(folder: Path) -> bool:
    """Whether a process holds the run folder right now."""
    if not (folder / ".lock").exists():
        return False
    with open_lock(folder) as free:
        return not free


def read_run(folder: Path) -> dict[str, Any] | None:
    """The run's `run.json`, or None where no run has begun.

    Raises:
        RecordError: the file is there but is no record of this version.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not a run record ({error})") from None
    if not isinstance(record, dict) or record.get("record_version") != RECORD_VERSION:
        raise RecordError(f"{path}: not a run record of version {RECORD_VERSION}")
    if record.get("state") not in _STATE_KEYS:
        raise RecordError(f"{path}: no run has the state {record.get('state')!r}")
    for key in ("run_id", *_STATE_KEYS[record["state"]]):
        if key not in record:
            raise RecordError(f"{path}: lacks {key}")
    return record


def write_run(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace `run.json`. Non-finite numbers are an error: a diverged loss is a state, not a number."""
    write_json(folder / "run.json", {"record_version": RECORD_VERSION, **record})


def diverged_by(record: Mapping[str, Any] | None, step: int) -> bool:
    """Whether a run diverged at or before a step, so that it has no checkpoint of it."""
    return record is not None and record["state"] == "diverged" and bool(record["diverged_at_step"] <= step)


def divergence(record: Mapping[str, Any]) -> str:
    """When and why a run diverged: `at step 7, dead: …`, or `not finite: …` or `exploded: …`.

    Records that were written before there were causes have none.
    """
    because = record.get("diverged_because")
    return f"at step {record['diverged_at_step']}" + (f", {because}" if because else "")


def died(record: Mapping[str, Any]) -> bool:
    """Whether a run diverged since its model was dead (`train.measure.dead`)."""
    return (record.get("diverged_because") or "").startswith("dead: ")

"""The record of a run: its identity, its folder, its states, and how it is written and read. No torch.

A run's folder holds `config.yaml`, `run.json` (one flat object), `metrics.jsonl`, at the end `metrics.parquet`,
`checkpoint/`, and `kept/` if others are to start from it. The run itself is the only writer; sweeps and analysis read
with the functions below.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from conf.schema import NOT_IDENTITY, Config, UserError, walk

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


# --- identity --------------------------------------------------------------------------------------------


def identity(config: Config) -> dict[str, Any]:
    """What a run id is the hash of: every setting but those of `conf.schema.NOT_IDENTITY`."""
    return {
        path: value
        for path, _, value in walk(config)
        if not any(path == key or path.startswith(f"{key}.") for key in NOT_IDENTITY)
    }


def run_id(config: Config) -> str:
    """16 hexadecimal digits that name what a resolved config (`conf.schema.resolve`) measures."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_dir(config: Config) -> Path:
    """Where the run of a resolved config lives: `runs_dir/study/run_id`."""
    return Path(config.runtime.runs_dir) / config.study / run_id(config)


# --- files -----------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` in one step: a reader sees the old file or the new one, never half of it."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step, on disk before the name changes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # noqa: PTH101  # mkstemp's 0600 would hide records from a group's other users
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


# --- run.json --------------------------------------------------------------------------------------------


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


# --- checkpoints -----------------------------------------------------------------------------------------


CHECKPOINT, KEPT = "checkpoint", "kept"


def step_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:09d}"


def checkpoint_at(folder: Path, step: int) -> Path | None:
    """A complete checkpoint of a run folder at this very step that stays there, if there is one."""
    kept, last = (folder / name / step_name(step) for name in (KEPT, CHECKPOINT))
    if kept.is_dir():
        return kept
    if not last.is_dir():
        return None
    ended = (read_run(folder) or {}).get("state") in FINAL  # any other run deletes it when it goes on
    return last if ended else None


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
    """Whether a run diverged since its model was dead (`train.dead`)."""
    return (record.get("diverged_because") or "").startswith("dead: ")


def base_folder(base: str, step: int, *, beside: Sequence[Path], below: Path) -> Path | None:
    """Where the run lies that another one starts from at `step`: in one of the folders `beside`, or anywhere `below`.

    Of several the first that has the checkpoint, or else the first; None if there is none.
    """

    def found() -> Iterator[Path]:
        yield from (folder / base for folder in beside if (folder / base / "run.json").exists())
        yield from (run for run in find_runs([below]) if run.name == base)

    first = None
    for folder in found():
        if checkpoint_at(folder, step) is not None:
            return folder
        first = first or folder
    return first


# --- metrics ---------------------------------------------------------------------------------------------


METRICS = "metrics.jsonl"
FLIGHT = "flight.jsonl"


class MetricsWriter:
    """Appends rows to `metrics.jsonl`; after `append` a row outlives the process, after `sync` a power cut."""

    def __init__(self, folder: Path, *, after_step: int, name: str = METRICS) -> None:
        """Keep the rows up to `after_step`, which a resumed run has already measured, and drop later ones."""
        self.path = folder / name
        kept = [row for row in read_metrics(folder, name) if row["step"] <= after_step]
        write_bytes(self.path, b"".join(metrics_line(row) for row in kept))
        self._file = self.path.open("ab")

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row, as `metrics_line` renders it."""
        self._file.write(metrics_line(row))
        self._file.flush()

    def sync(self) -> None:
        """Wait until the rows are on disk, so that no checkpoint is ahead of them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def metrics_line(row: Mapping[str, Any]) -> bytes:
    """One row of a file of metrics. Non-finite values are named under `non_finite` instead, since JSON has no NaN."""
    broken = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    clean = {name: value for name, value in row.items() if name not in broken}
    return (json.dumps(clean | ({"non_finite": broken} if broken else {}), allow_nan=False) + "\n").encode()


def read_metrics(folder: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` in order, none if there is no such file; a last line cut off by a kill is left out.

    Raises:
        RecordError: a line before the last one is damaged.
    """
    path = folder / name
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is empty or cut off
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            raise RecordError(f"{path}: line {number} is damaged") from None
    return rows


def write_parquet(folder: Path) -> None:
    """Write `metrics.parquet`, the same rows as `metrics.jsonl`; a missing value is null."""
    import polars as pl

    rows = read_metrics(folder)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    frame = pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, strict=False)
    frame.write_parquet(folder / "metrics.parquet")


# --- studies ---------------------------------------------------------------------------------------------


Profile = Literal["smoke", "cpu", "gpu"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which runs make up a study at a profile; written by the sweeps, read by the analysis."""

    study: str
    profile: str
    run_ids: tuple[str, ...]

    @staticmethod
    def path(runs_dir: Path, study: str, profile: str) -> Path:
        return runs_dir / study / f"{profile}.json"

    def write(self, runs_dir: Path) -> None:
        path = self.path(runs_dir, self.study, self.profile)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, runs_dir: Path, study: str, profile: str) -> Manifest:
        """Raises `RecordError` if the study was never planned at this profile."""
        path = cls.path(runs_dir, study, profile)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(found["study"], found["profile"], tuple(found["run_ids"]))
        except FileNotFoundError:
            raise RecordError(
                f"{path}: no such study has been run; `python -m sweeps run {study} --profile {profile}` first"
            ) from None
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise RecordError(f"{path}: not a study manifest ({error!r})") from None


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Every run folder at or below `folders`, sorted by path; one that is linked to from another study counts once."""
    found: dict[str, Path] = {}
    for folder in folders:
        for root, below, files in os.walk(folder, followlinks=True):
            if "run.json" in files:
                below.clear()  # no run lies within another
                found.setdefault(os.path.realpath(root), Path(root))
    return sorted(found.values())

"""Which runs make up a study, and where runs lie. No torch.

Manifest("gstack/timing", "cpu", ids).write(runs_dir)     runs/gstack/timing/cpu.json; the sweeps write it
Manifest.read(runs_dir, "gstack/timing", "cpu").run_ids   the same ids; the analysis reads them
find_runs([Path("runs")])                                 every run folder below, a linked one once
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from train.record.files import write_json
from train.record.run import RecordError

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
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content["run_ids"], list):
                raise TypeError("run_ids is no list")
            return cls(content["study"], content["profile"], tuple(content["run_ids"]))
        except FileNotFoundError:
            raise RecordError(
                f"{path}: no such study has been run; `python -m sweeps run {study} --profile {profile}` first"
            ) from None
        except (ValueError, KeyError, TypeError) as error:  # a text that is not UTF-8 is a ValueError too
            raise RecordError(f"{path}: not a study manifest ({error!r})") from None


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Every run folder at or below `folders`, sorted by path; one that is linked to from another study counts once."""
    folder_of: dict[str, Path] = {}
    for folder in folders:
        for root, below, files in os.walk(folder, followlinks=True):
            if "run.json" in files:
                below.clear()  # no run lies within another
                folder_of.setdefault(os.path.realpath(root), Path(root))
    return sorted(folder_of.values())

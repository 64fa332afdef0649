"""Runs that another study has already: the same settings are the same run, so its folder is linked and not made again.

    ended_elsewhere(plan, runs_dir)     {"0123456789abcdef": runs_dir/other/study/0123456789abcdef}
    adopt(plan, runs_dir)               1: it is linked, and a new plan finds it finished

A run id is a hash of all settings that can change what is measured, and the study is none of them. The record stays
where it was written, and tells of the study that it was written for.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sweeps.plan.plan import Plan
from train.record.manifest import find_runs
from train.record.run import FINAL, RecordError, read_run


def ended_elsewhere(plan: Plan, runs_dir: Path) -> dict[str, Path]:
    """The runs that have not begun here and have ended under the same id elsewhere below `runs_dir`, and where."""
    wanted = {run.run_id for run in plan.runs if run.state == "planned"}
    return {folder.name: folder for folder in find_runs([runs_dir]) if folder.name in wanted and _has_ended(folder)}


def adopt(plan: Plan, runs_dir: Path) -> int:
    """Link every run that has not begun here to one of the same id that has ended elsewhere under `runs_dir`.

    Links whose target is gone are removed. Returns how many runs were linked.
    """
    missing = [run for run in plan.runs if run.state == "planned"]
    for run in missing:
        if run.folder.is_symlink():  # and yet nothing has begun: the other study's folder is gone
            run.folder.unlink()
    ended = ended_elsewhere(plan, runs_dir)
    linked = 0
    for run in missing:
        if run.run_id in ended and not any(run.folder.glob("*")):
            if run.folder.exists():
                run.folder.rmdir()
            run.folder.parent.mkdir(parents=True, exist_ok=True)
            target = os.path.relpath(ended[run.run_id].resolve(), run.folder.parent.resolve())
            with suppress(FileExistsError):  # another sweep was quicker
                run.folder.symlink_to(target, target_is_directory=True)  # relative: `runs` may be moved as a whole
            linked += 1
    return linked


def _has_ended(folder: Path) -> bool:
    try:
        record = read_run(folder)
    except RecordError:
        return False
    return record is not None and record["state"] in FINAL

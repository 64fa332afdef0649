"""Where a run's checkpoints lie. No torch; `train.checkpoint` reads and writes what is in them.

step_name(200)                     'step-000000200'
checkpoint_at(folder, 200)         runs/…/kept/step-000000200, or the last one of a run that has ended; None without one
"""

from __future__ import annotations

from pathlib import Path

from train.record.run import FINAL, read_run

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

"""The record of a run: its identity, its folder, its states, and how it is written and read. No torch.

A run's folder holds `config.yaml`, `run.json` (one flat object), `metrics.jsonl`, at the end `metrics.parquet`,
`checkpoint/`, and `kept/` if others are to start from it. The run itself is the only writer; sweeps and analysis read
with the functions below.
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

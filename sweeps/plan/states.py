"""Study and profile -> the runs that it takes, what each costs, and how far each has come. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from train.record.run import FINAL, is_alive

RunState = Literal[
    "planned", "running", "interrupted", "finished", "diverged", "failed", "lacks checkpoint", "base diverged"
]


# States that `run` starts from; the others are complete, can never begin, or are in another process's hands.
STARTABLE: tuple[RunState, ...] = ("planned", "interrupted", "failed", "lacks checkpoint")


def state_of(folder: Path, record: Mapping[str, Any] | None) -> RunState:
    """What has become of the run whose folder holds `record` (`train.record.run.read_run`)."""
    if record is not None and record["state"] in FINAL:
        final: RunState = record["state"]
        return final
    if is_alive(folder):
        return "running"
    if record is None:
        return "planned"
    return "interrupted" if record["state"] == "running" else "failed"

"""How far a run has come: `state_of(folder, read_run(folder))` is "planned", "running", "finished", ….

A plan adds two states that depend on other runs: "lacks checkpoint" of a run that has ended without the checkpoint
that another one starts from, and "base diverged" of a run that can never begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from train.record.run import FINAL, is_alive

RunState = Literal[
    "planned", "running", "interrupted", "finished", "diverged", "failed", "lacks checkpoint", "base diverged"
]

# States that a run is started from; the others are complete, can never begin, or belong to another process.
STARTABLE: tuple[RunState, ...] = ("planned", "interrupted", "failed", "lacks checkpoint")


def state_of(folder: Path, record: Mapping[str, Any] | None) -> RunState:
    """The state of the run whose folder holds `record`, or holds no record when None."""
    if record is not None and record["state"] in FINAL:
        final: RunState = record["state"]
        return final
    if is_alive(folder):
        return "running"
    if record is None:
        return "planned"
    return "interrupted" if record["state"] == "running" else "failed"

"""What every engine shares: what it is, what it leaves behind, and which run comes next.

    ENGINES["local"].launch(plan, TRAINER, console).ended       [Ended(run, "finished", None), …]
    next_to_start(waiting, running)                             the first run whose base is not still to come
    left_out_by(run, ended)                                     Ended(run, "base diverged", None), or None: it can start

An engine carries out the missing runs of a plan. What becomes of a run is read from its own record, never from the
engine, and one run's death costs only itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from sweeps.plan.capacity import Capacity
from sweeps.plan.plan import Plan, PlannedRun
from sweeps.plan.states import RunState, state_of
from train.record.checkpoints import checkpoint_at
from train.record.run import FINAL, RecordError, diverged_by, read_run

LOG = "log.txt"

_ROOT = Path(__file__).resolve().parents[2]


class Trainer(NamedTuple):
    """What a run is: the module that an engine may import beforehand, and "module:function" taking overrides."""

    preload: str
    entry: str


TRAINER = Trainer("train.run", "train.__main__:main")


@dataclass(frozen=True)
class Ended:
    """How one run ended, or why it was not started. `problem` is one line, and None for a result (finished, diverged,
    or out of reach since its base diverged)."""

    run: PlannedRun
    state: RunState
    problem: str | None


@dataclass
class Launch:
    """The runs in the order of their end, and the signal that cut the launch short, if one did."""

    ended: list[Ended] = field(default_factory=list)
    stopped_by: int | None = None


class Engine(NamedTuple):
    """What it offers for so many runs on a device, `jobs` at a time if that is not None; and how it carries out a plan.

    `capacity` raises `UserError` if there cannot be so many at a time. `launch` returns when every run of the plan that
    could be started has ended, or after a signal asked it to stop and the runs saved their checkpoints.
    """

    capacity: Callable[[int, str, int | None], Capacity]
    launch: Callable[[Plan, Trainer, Console], Launch]


# --- the order of runs -----------------------------------------------------------------------------------


def next_to_start(waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> PlannedRun | None:
    """The first of the waiting runs whose base is not still to come."""
    to_come = {run.run_id for run in waiting} | {run.run_id for run in running}
    return next((run for run in waiting if run.base not in to_come), None)


def left_out_by(run: PlannedRun, ended: Sequence[Ended]) -> Ended | None:
    """What becomes of a run whose base is not to come and has no checkpoint for it; None if it can start."""
    if run.base is None:
        return None
    folder, step = run.folder.parent / run.base, run.config.grow.step or 0
    try:
        if checkpoint_at(folder, step) is not None:
            return None
        record = read_run(folder)
        state = state_of(folder, record)
    except RecordError:
        record, state = None, "failed"
    lost = any(end.run.run_id == run.base and end.state == "base diverged" for end in ended)
    if lost or diverged_by(record, step):
        return Ended(run, "base diverged", None)
    why = "has not ended"
    if state == "running":
        why = "is run by another process"
    elif state in FINAL:
        why = f"keeps no checkpoint of step {step}"
    return Ended(run, run.state, f"its base {run.base[:8]} {why}")


# --- processes -------------------------------------------------------------------------------------------


def last_log_line(folder: Path) -> str | None:
    """The last line that the run printed, or None if it has printed nothing."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return None
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def child_environment() -> dict[str, str]:
    """What a process with torch needs: how its threads wait, and where this package is found from any folder."""
    return {
        # Threads that spin while they wait slow tiny models down several times where other processes want the cores.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
    }

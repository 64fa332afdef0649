"""What a launch shows: on a terminal live bars, elsewhere one line for each run that has ended.

with Board(runs, console) as board:
    board.started(run)
    board.refresh()                             reads the running runs' metrics
    board.ended(run, "finished", None)          [1/12] 0123abcd finished  37K params, 749K tokens  loss 2.3 ± 0.1
last_step(run.folder)                           120
summary(record)                                 "loss 2.3100 ± 0.0102"
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from conf.command_line import human, in_words
from sweeps.plan.plan import PlannedRun
from sweeps.plan.states import RunState
from train.record.run import FINAL, divergence, read_run

_TAIL_BYTES = 1 << 16  # longer than any row of metrics


class Board:
    """Progress of a launch; a context manager around it."""

    def __init__(self, runs: Sequence[PlannedRun], console: Console) -> None:
        self._runs, self._console = runs, console
        self._began = time.monotonic()
        self._share = {run.run_id: 0.0 for run in runs}  # of each run's work, done in this launch
        self._first_step: dict[str, int] = {}
        self._n_ended = 0
        self._running: dict[str, tuple[PlannedRun, TaskID]] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._total = self._bars.add_task("[bold]all", total=len(runs), unit="runs", note="")

    def __enter__(self) -> Board:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def started(self, run: PlannedRun) -> None:
        self._first_step[run.run_id] = last_step(run.folder)
        task = self._bars.add_task(run.run_id[:8], total=run.cost.n_steps, unit="steps", note=label(run))
        self._running[run.run_id] = run, task

    def ended(self, run: PlannedRun, state: RunState, problem: str | None) -> None:
        _, task = self._running.pop(run.run_id)
        self._bars.remove_task(task)
        if state in FINAL:
            self._share[run.run_id] = 1.0
        self._n_ended += 1
        result = problem or (summary(read_run(run.folder) or {}) if state in FINAL else "")
        self.say(f"[{self._n_ended}/{len(self._runs)}] {run.run_id[:8]} {state}  {label(run)}  {result}".rstrip())

    def refresh(self) -> None:
        """Look at the running runs' metrics and update the bars."""
        if not self._console.is_terminal:
            return
        for run, task in self._running.values():
            step, first = last_step(run.folder), self._first_step[run.run_id]
            self._bars.update(task, completed=step)
            self._share[run.run_id] = (step - first) / max(1, run.cost.n_steps - first)
        self._bars.update(self._total, completed=self._n_ended, note=self._eta())

    def _eta(self) -> str:
        """Time left, if the rest goes as the part that is done, in the plan's estimated seconds."""
        work = sum(run.seconds for run in self._runs)
        done = sum(run.seconds * self._share[run.run_id] for run in self._runs)
        if done <= 0:
            return ""
        return f"{in_words((work - done) * (time.monotonic() - self._began) / done)} left"


def last_step(folder: Path) -> int:
    """The step of the last whole row of `metrics.jsonl`, read from its end; 0 before the first."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return 0
    try:
        return int(json.loads(lines[-2])["step"])
    except (IndexError, ValueError):  # no whole row yet
        return 0


# --- runs in words ---------------------------------------------------------------------------------------


def label(run: PlannedRun) -> str:
    """What a reader knows a run by: its size and its tokens."""
    return f"{human(run.cost.n_params)} params, {human(run.cost.n_tokens)} tokens"


def summary(record: dict[str, object]) -> str:
    """The result of a run in a final state."""
    if record["state"] == "diverged":
        return divergence(record)
    return f"loss {record['val_loss']:.4f} ± {record['val_loss_se']:.4f}"

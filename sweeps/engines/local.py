"""The local engine: a process per run on this machine, a few at a time, from a fork server.

    local(plan, TRAINER, console)       Launch(ended=[Ended(run, "finished", None), …], stopped_by=None)

The fork server has the trainer imported already, so that a run begins in milliseconds and not after the seconds that
importing torch takes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from rich.console import Console

from conf.compose import GROUPS
from sweeps.engines import preload
from sweeps.engines.base import (
    LOG,
    Ended,
    Launch,
    Trainer,
    child_environment,
    last_log_line,
    left_out_by,
    next_to_start,
)
from sweeps.engines.board import Board
from sweeps.engines.worker import work
from sweeps.plan.plan import Plan, PlannedRun
from sweeps.plan.states import state_of
from train.record.run import FINAL, RecordError, read_run

_POLL_SECONDS = 0.25
_MOST_COMPOSED = 8
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def local(plan: Plan, trainer: Trainer, console: Console) -> Launch:
    """Run what is missing, as many processes at a time and threads each as the plan's capacity says.

    SIGINT, SIGTERM or SIGHUP asks every run to save its checkpoint, waits, and starts no other; a second one kills.
    """
    with (
        _environment(_server_environment(plan, trainer)),
        _signals() as signals,
        Board(plan.missing, console) as board,
    ):
        processes = _Processes(plan, trainer, board)
        heard = 0
        while processes.running or (processes.waiting and not signals):
            while not signals and processes.start_next():
                pass
            processes.collect(stopping=bool(signals))
            if len(signals) > heard:
                heard = len(signals)
                processes.stop(kill=heard > 1)
            board.refresh()
    return Launch(processes.ended, signals[0] if signals else None)


class _Processes:
    """The runs of a launch: waiting, running in a process each, and ended."""

    def __init__(self, plan: Plan, trainer: Trainer, board: Board) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload.__name__])
        self._capacity, self._trainer, self._board = plan.capacity, trainer, board
        behind = plan.seconds_behind
        self.waiting = sorted(plan.missing, key=lambda run: behind[run.run_id], reverse=True)
        self.running: dict[int, tuple[PlannedRun, ForkServerProcess]] = {}  # by the process's sentinel
        self.ended: list[Ended] = []

    def start_next(self) -> bool:
        """Start the next run, or leave it out if it cannot begin.

        False if there is no room, or the base of every waiting run is still to come.
        """
        if len(self.running) >= self._capacity.jobs:
            return False
        run = next_to_start(self.waiting, [run for run, _ in self.running.values()])
        if run is None:
            return False
        self.waiting.remove(run)
        if (left_out := left_out_by(run, self.ended)) is not None:
            self.ended.append(left_out)
            self._board.say(f"{run.run_id[:8]} not started: {left_out.problem or left_out.state}")
        else:
            process = self._start(run)
            self.running[process.sentinel] = run, process
            self._board.started(run)
        return True

    def _start(self, run: PlannedRun) -> ForkServerProcess:
        run.folder.mkdir(parents=True, exist_ok=True)
        argv = [*run.overrides, f"runtime.threads={self._capacity.threads}"]
        process = self._context.Process(target=work, args=(self._trainer.entry, argv, str(run.folder / LOG)))
        process.start()
        return process

    def collect(self, *, stopping: bool) -> None:
        """Wait a moment for processes to end, and look what became of their runs."""
        for sentinel in wait(list(self.running), timeout=_POLL_SECONDS):
            run, process = self.running.pop(sentinel)  # type: ignore[arg-type]  # a sentinel is an int here
            process.join()
            end = _ended(run, process.exitcode, stopping=stopping)
            process.close()
            self.ended.append(end)
            self._board.ended(run, end.state, end.problem)

    def stop(self, *, kill: bool) -> None:
        """Have every process save its run's checkpoint and end, or end at once."""
        self._board.say("stopping: the runs save their checkpoints; once more kills them")
        for _, process in self.running.values():
            process.kill() if kill else process.terminate()


def _ended(run: PlannedRun, status: int | None, *, stopping: bool) -> Ended:
    """Read the run's own record; its exit status only tells why there is no result."""
    try:
        record = read_run(run.folder)
    except RecordError as error:
        return Ended(run, "failed", str(error))
    state = state_of(run.folder, record)
    made_up = run.state != "lacks checkpoint" or status == 0
    if (state in FINAL and made_up) or state == "running":  # the latter belongs to another process
        return Ended(run, state, None)
    if stopping:
        return Ended(run, "interrupted", "stopped")
    if status is not None and status < 0:
        cause = f"killed by {signal.Signals(-status).name}"
    else:
        cause = f"exit status {status}"
    last = last_log_line(run.folder)
    return Ended(run, "failed", f"{cause}: {last}" if last else cause)


def _server_environment(plan: Plan, trainer: Trainer) -> dict[str, str]:
    """What OpenMP reads when torch is loaded, what to import, and what to compose: a run of each choice of YAML files,
    as far as there are few."""
    by_choice = {tuple(word for word in run.overrides if word.partition("=")[0] in GROUPS): run for run in plan.missing}
    composed = [run.overrides for run in islice(by_choice.values(), _MOST_COMPOSED)]
    threads = dict.fromkeys(_THREAD_VARIABLES, str(plan.capacity.threads))
    return threads | child_environment() | {preload.MODULE: trainer.preload, preload.SETTINGS: json.dumps(composed)}


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, which the fork server inherits, and put the old ones back at the end."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that asked to stop, in order, while the block runs."""
    heard: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda signum, _: heard.append(signum)) for number in numbers}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

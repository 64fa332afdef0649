"""Engines: they carry out the missing runs of a plan, and one run's death costs only itself.

The local engine starts one process per run, a few at a time, from a fork server that has the trainer imported already:
a run begins in milliseconds, and not after the seconds that importing torch takes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from sweeps import preload
from sweeps.plan import Plan, PlannedRun, RunState, state_of
from sweeps.progress import Board
from sweeps.worker import work
from train.record import FINAL, RecordError, checkpoint_at, diverged_by, read_run

LOG = "log.txt"
_ROOT = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.25
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Trainer(NamedTuple):
    """What a run is: the module that the fork server imports, and "module:function" taking overrides."""

    preload: str
    entry: str


TRAINER = Trainer("train.run", "train.__main__:main")


@dataclass(frozen=True)
class Outcome:
    """How one run ended, or why it was not started. `problem` is one line, and None for a result (finished, diverged,
    or out of reach since its base diverged)."""

    run: PlannedRun
    state: RunState
    problem: str | None


@dataclass
class Launched:
    """The outcomes in the order of their end, and the signal that cut the launch short, if one did."""

    outcomes: list[Outcome] = field(default_factory=list)
    stopped_by: int | None = None


Engine = Callable[[Plan, Trainer, Console], Launched]


# --- the local engine ------------------------------------------------------------------------------------


def local(plan: Plan, trainer: Trainer, console: Console) -> Launched:
    """Run what is missing on this machine: `plan.jobs` processes at a time, `plan.threads` threads each.

    SIGINT, SIGTERM or SIGHUP asks every run to save its checkpoint, waits, and starts no other; a second one kills.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload.__name__])
    waiting = sorted(plan.missing, key=lambda run: _seconds_behind(run, plan.missing), reverse=True)
    running: Running = {}
    done = Launched()
    with (
        _environment(_server_environment(plan.threads, trainer)),
        _signals() as signals,
        Board(plan.missing, console) as board,
    ):
        heard = 0
        while running or (waiting and not signals):
            while len(running) < plan.jobs and not signals and (run := _next(waiting, running)) is not None:
                waiting.remove(run)
                if (left_out := _left_out(run, done.outcomes)) is not None:
                    done.outcomes.append(left_out)
                    board.say(f"{run.run_id[:8]} not started: {left_out.problem or left_out.state}")
                    continue
                process = _start(context, run, plan.threads, trainer)
                running[process.sentinel] = run, process
                board.started(run)
            for sentinel in wait(list(running), timeout=_POLL_SECONDS):
                run, process = running.pop(sentinel)  # type: ignore[arg-type]  # a sentinel is an int here
                process.join()
                outcome = _outcome(run, process.exitcode, stopping=bool(signals))
                process.close()
                done.outcomes.append(outcome)
                board.ended(run, outcome.state, outcome.problem)
            if len(signals) > heard:
                heard = len(signals)
                board.say("stopping: the runs save their checkpoints; once more kills them")
                for _, process in running.values():
                    process.terminate() if heard == 1 else process.kill()
            board.refresh()
    done.stopped_by = signals[0] if signals else None
    return done


ENGINES: dict[str, Engine] = {"local": local}


Running = dict[int, tuple[PlannedRun, ForkServerProcess]]


def _next(waiting: Sequence[PlannedRun], running: Running) -> PlannedRun | None:
    """The first of the waiting runs whose base is not still to come."""
    to_come = {run.run_id for run in waiting} | {run.run_id for run, _ in running.values()}
    return next((run for run in waiting if run.base not in to_come), None)


def _left_out(run: PlannedRun, outcomes: Sequence[Outcome]) -> Outcome | None:
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
    lost = any(outcome.run.run_id == run.base and outcome.state == "base diverged" for outcome in outcomes)
    if lost or diverged_by(record, step):
        return Outcome(run, "base diverged", None)
    why = "has not ended"
    if state == "running":
        why = "is in another process's hands"
    elif state in FINAL:
        why = f"keeps no checkpoint of step {step}"
    return Outcome(run, run.state, f"its base {run.base[:8]} {why}")


def _seconds_behind(run: PlannedRun, runs: Sequence[PlannedRun]) -> float:
    """Seconds of a run and of the longest chain of runs that wait for it, one after the other."""
    children = (child for child in runs if child.base == run.run_id)
    return run.seconds + max((_seconds_behind(child, runs) for child in children), default=0.0)


def _start(
    context: multiprocessing.context.ForkServerContext, run: PlannedRun, threads: int, trainer: Trainer
) -> ForkServerProcess:
    run.folder.mkdir(parents=True, exist_ok=True)
    argv = [*run.overrides, f"runtime.threads={threads}"]
    process = context.Process(target=work, args=(trainer.entry, argv, str(run.folder / LOG)))
    process.start()
    return process


def _outcome(run: PlannedRun, status: int | None, *, stopping: bool) -> Outcome:
    """Read the run's own record; its exit status only tells why there is no result."""
    try:
        record = read_run(run.folder)
    except RecordError as error:
        return Outcome(run, "failed", str(error))
    state = state_of(run.folder, record)
    made_up = run.state != "lacks checkpoint" or status == 0
    if (state in FINAL and made_up) or state == "running":  # the latter in another process's hands
        return Outcome(run, state, None)
    if stopping:
        return Outcome(run, "interrupted", "stopped")
    if status is not None and status < 0:
        cause = f"killed by {signal.Signals(-status).name}"
    else:
        cause = f"exit status {status}"
    last = last_log_line(run.folder)
    return Outcome(run, "failed", f"{cause}: {last}" if last else cause)


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


def _server_environment(threads: int, trainer: Trainer) -> dict[str, str]:
    """What OpenMP reads when torch is loaded, and what to import."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads)) | child_environment() | {preload.VARIABLE: trainer.preload}


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

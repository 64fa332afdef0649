"""Engines: they carry out the missing runs of a plan, and one run's death costs only itself.

The local engine starts one process per run, a few at a time, from a fork server that has the trainer imported already:
a run begins in milliseconds, and not after the seconds that importing torch takes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from rich.console import Console

from sweeps.engines import preload
from sweeps.engines.base import (
    LOG,
    Launched,
    Outcome,
    Trainer,
    child_environment,
    last_log_line,
    left_out_by,
    next_to_start,
    seconds_behind,
)
from sweeps.engines.board import Board
from sweeps.engines.worker import work
from sweeps.plan.plan import Plan, PlannedRun
from sweeps.plan.states import state_of
from train.record.run import FINAL, RecordError, read_run

_POLL_SECONDS = 0.25


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def local(plan: Plan, trainer: Trainer, console: Console) -> Launched:
    """Run what is missing on this machine: `plan.jobs` processes at a time, `plan.threads` threads each.

    SIGINT, SIGTERM or SIGHUP asks every run to save its checkpoint, waits, and starts no other; a second one kills.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload.__name__])
    waiting = sorted(plan.missing, key=lambda run: seconds_behind(run, plan.missing), reverse=True)
    running: Running = {}
    done = Launched()
    with (
        _environment(_server_environment(plan.threads, trainer)),
        _signals() as signals,
        Board(plan.missing, console) as board,
    ):
        heard = 0
        while running or (waiting and not signals):
            while (
                len(running) < plan.jobs
                and not signals
                and (run := next_to_start(waiting, [run for run, _ in running.values()])) is not None
            ):
                waiting.remove(run)
                if (left_out := left_out_by(run, done.outcomes)) is not None:
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


Running = dict[int, tuple[PlannedRun, ForkServerProcess]]


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

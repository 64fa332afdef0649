"""The local engine, with a trainer that comes to every end a run can come to."""

from __future__ import annotations

import io
import multiprocessing.forkserver
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.__main__ import main
from sweeps.engines import machine
from sweeps.engines.base import Trainer, last_log_line
from sweeps.engines.board import Board, last_step
from sweeps.engines.local import local
from sweeps.engines.machine import this_machine
from sweeps.plan.plan import make_plan
from tests.sweeps.fake_train import DIVERGE, EXIT, FINISH, KILL, RAISE, TRAINER, WAIT, study
from train.record.manifest import Manifest
from train.record.run import read_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _fresh_fork_server():
    """Each test gets a server with its own preload and environment."""
    multiprocessing.forkserver._forkserver._stop()
    yield
    multiprocessing.forkserver._forkserver._stop()


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)


def launch(runs_dir, *seeds, jobs=None, trainer=TRAINER):
    plan = make_plan(study(*seeds), "smoke", runs_dir=runs_dir, capacity=partial(this_machine, jobs=jobs))
    return local(plan, trainer, Console(quiet=True))


def by_seed(launch):
    return {outcome.run.config.seed: outcome for outcome in launch.ended}


def sweeps(runs_dir, *arguments, seeds=(FINISH,)):
    ends = study(*seeds)
    command, *rest = arguments
    argv = [command, ends.name, "--profile", "smoke", "--runs-dir", str(runs_dir), *rest]
    return main(argv, studies={ends.name: ends}, trainer=TRAINER)


def test_a_death_costs_only_itself_and_the_next_launch_starts_what_is_missing(tmp_path):
    first = by_seed(launch(tmp_path, FINISH, RAISE, EXIT, KILL, DIVERGE))
    assert {seed: outcome.state for seed, outcome in first.items()} == {
        FINISH: "finished",
        RAISE: "failed",
        EXIT: "failed",
        KILL: "failed",
        DIVERGE: "diverged",
    }
    assert first[FINISH].problem is None
    assert first[DIVERGE].problem is None
    assert first[RAISE].problem == "exit status 1: was [too] strong"
    assert first[EXIT].problem == "exit status 3: half way"
    assert first[KILL].problem == "killed by SIGKILL: half way"
    assert "Traceback" in (first[RAISE].run.folder / "log.txt").read_text()

    (tmp_path / "mended").touch()
    second = by_seed(launch(tmp_path, FINISH, RAISE, EXIT, KILL, DIVERGE))
    assert {seed: outcome.state for seed, outcome in second.items()} == dict.fromkeys((RAISE, EXIT, KILL), "finished")
    assert launch(tmp_path, FINISH, RAISE, EXIT, KILL, DIVERGE).ended == []


def most_at_once(launch):
    records = [read_run(outcome.run.folder) for outcome in launch.ended]
    return max(sum(r["began"] <= record["began"] < r["ended_at"] for r in records) for record in records)


def test_jobs_run_side_by_side_and_never_more(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 6)
    seeds = range(100, 103)
    two = launch(tmp_path / "two", *seeds, jobs=2)
    assert most_at_once(two) == 2
    assert {read_run(outcome.run.folder)["threads"] for outcome in two.ended} == {3}
    assert {read_run(outcome.run.folder)["environment"] for outcome in two.ended} == {"3"}
    assert most_at_once(launch(tmp_path / "one", *seeds, jobs=1)) == 1


def test_runs_find_their_modules_imported(tmp_path):
    (outcome,) = launch(tmp_path, FINISH).ended
    assert read_run(outcome.run.folder)["preloaded"]


@pytest.mark.parametrize("preload", ["no.such.module", "tests.sweeps.broken_module"])
def test_a_preload_that_fails_leaves_the_runs_to_report(tmp_path, preload):
    (outcome,) = launch(tmp_path / "runs", FINISH, trainer=Trainer(preload, TRAINER.entry)).ended
    assert outcome.state == "finished"
    assert not read_run(outcome.run.folder)["preloaded"]
    (outcome,) = launch(tmp_path / "none", FINISH, trainer=Trainer(preload, f"{preload}:main")).ended
    assert outcome.state == "failed"
    assert re.fullmatch("exit status 1: .*(No module named|too early).*", outcome.problem)


def test_the_environment_is_put_back(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    launch(tmp_path, FINISH)
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_run_says_in_its_status_and_lines_what_happened(tmp_path, capsys):
    assert sweeps(tmp_path, "run", seeds=(FINISH, DIVERGE)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("finished" in line and "loss 2.5000 ± 0.0100" in line for line in lines) == 1
    assert sum("diverged" in line and "at step 2" in line for line in lines) == 1
    assert len(Manifest.read(tmp_path, "fake/ends", "smoke").run_ids) == 2

    assert sweeps(tmp_path, "run", seeds=(FINISH, RAISE)) == 1
    assert "exit status 1: was [too] strong" in capsys.readouterr().out
    assert sweeps(tmp_path, "status", seeds=(FINISH, RAISE)) == 0
    status = capsys.readouterr().out
    assert "interrupted" in status
    assert "was [too] strong" in status


def start_sweep(runs_dir):
    command = [sys.executable, "-m", "tests.sweeps.fake_train", "run", "fake/ends", "--profile", "smoke"]
    sweep = subprocess.Popen(
        [*command, "--jobs", "1", "--runs-dir", str(runs_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    waits = next(run for run in make_plan(study(FINISH, WAIT), "smoke", runs_dir=runs_dir).runs if run.config.seed)
    wait_until(lambda: last_step(waits.folder) == 4)
    return sweep, waits.folder


def wait_until(holds):
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_lets_the_runs_save_and_the_same_command_goes_on(tmp_path, number, status):
    sweep, folder = start_sweep(tmp_path)
    sweep.send_signal(number)
    said, _ = sweep.communicate(timeout=20)
    assert sweep.returncode == status
    assert "the same command goes on" in said
    assert (folder / "saved").exists()
    assert read_run(folder)["state"] == "running"
    (tmp_path / "mended").touch()
    assert sweeps(tmp_path, "run", seeds=(FINISH, WAIT)) == 0


def test_a_killed_launcher_takes_its_runs_along(tmp_path):
    sweep, folder = start_sweep(tmp_path)
    assert not (folder / "saved").exists()
    sweep.kill()
    sweep.communicate(timeout=20)
    wait_until((folder / "saved").exists)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_steps_and_time_left_and_a_pipe_only_the_ends(tmp_path, terminal):
    run, other = make_plan(study(FINISH, WAIT), "smoke", runs_dir=tmp_path).runs
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=120, markup=False, highlight=False)
    with Board([run, other], screen) as board:
        board.started(run)
        run.folder.mkdir(parents=True)
        (run.folder / "metrics.jsonl").write_text('{"step": 3}\n')
        board.refresh()
        time.sleep(0.2)
        board.ended(run, "failed", "the [wind]")
    shown = screen.file.getvalue()
    assert ("3/4 steps" in shown) == terminal
    assert ("s left" in shown) == terminal
    assert "[1/2]" in shown
    assert "the [wind]" in shown


def test_the_tail_of_the_metrics_is_the_last_whole_row(tmp_path):
    assert last_step(tmp_path) == 0
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2')
    assert last_step(tmp_path) == 1
    metrics.write_text("".join(f'{{"step": {step}, "x": "{"-" * 100}"}}\n' for step in range(2000)))
    assert last_step(tmp_path) == 1999


def test_the_last_line_of_a_log(tmp_path):
    assert last_log_line(tmp_path) is None
    (tmp_path / "log.txt").write_text("one\n  two  \n\n")
    assert last_log_line(tmp_path) == "two"

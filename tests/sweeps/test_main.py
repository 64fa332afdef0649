"""The command line: mistakes are one line and status 2; nothing here needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import __main__ as command_line
from sweeps.__main__ import main
from sweeps.studies.registry import STUDIES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "demo/lader"], "did you mean demo/ladder?"),
        (["plan", "x"], "allowed: demo/ladder"),
        (["plan", "demo/ladder", "--profile", "cpux"], "did you mean cpu? allowed: smoke, cpu, gpu"),
        (["run", "demo/ladder", "--profile", "smoke", "--engine", "locl"], "did you mean local?"),
        (["run", "demo/ladder", "--profile", "smoke", "--jobs", "0"], "--jobs: 0"),
        (["run", "demo/ladder", "--profile", "smoke", "--jobs", "1000000"], "--jobs: 1000000"),
        (["run", "demo/ladder", "--jobs", "many"], "--jobs"),
        (["run", "demo/ladder", "--profile", "smoke", "--set", "runtime.cache_dirr=1"], "runtime.cache_dirr"),
        (["run", "demo/ladder", "--profile", "smoke", "--set", "runtime.threads=2"], "use --jobs"),
        (["run", "demo/ladder", "--profile", "smoke", "--set", "runtime.device=auto"], "allowed: cpu, cuda"),
        (["run", "demo/ladder", "--profile", "smoke", "--set", "train.duration=400steps"], "another study"),
        (["run", "demo/ladder", "--profile", "smoke", "--set", "model=gpt_10k"], "another study"),
        (["status", "demo/ladder"], "no profile was run"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_and_writes_nothing(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_runs_dir_that_is_a_file_is_a_mistake(tmp_path, capsys):
    (tmp_path / "runs").write_text("kept")
    assert main(["run", "demo/ladder", "--profile", "smoke", "--runs-dir", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "runs").read_text() == "kept"


def test_list_and_plan_tell_the_claim_and_the_runs(tmp_path, capsys):
    assert main(["list", "--runs-dir", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "within 2 %" in listed
    assert all(profile in listed for profile in ("smoke", "cpu", "gpu"))
    assert main(["plan", "demo/ladder", "--profile", "smoke", "--runs-dir", str(tmp_path)]) == 0
    planned = capsys.readouterr().out
    n_runs = len(STUDIES["demo/ladder"].cells("smoke"))
    assert planned.count(" planned ") == n_runs
    assert f"{n_runs} runs: 0 done, {n_runs} to start" in planned
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("run_status", "figures"), [(0, 1), (1, 0)])
def test_reproduce_draws_only_what_was_run_and_passes_the_status_on(run_status, figures, tmp_path, monkeypatch):
    called = []

    def figure(command, *, check):
        called.append(command)
        assert not check
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(command_line, "_run", lambda *_: run_status)
    monkeypatch.setattr(command_line.subprocess, "run", figure)
    status = main(["reproduce", "demo/ladder", "--profile", "smoke", "--runs-dir", str(tmp_path)])
    assert (status, len(called)) == (5 if figures else run_status, figures)
    assert all(
        command[1:] == ["-m", "analysis", "figure", "demo/ladder", "--profile", "smoke", "--runs-dir", str(tmp_path)]
        for command in called
    )


def modules_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_planning_imports_no_torch_and_no_analysis():
    loaded = modules_after("import sweeps.__main__, sweeps.engines.worker, sweeps.engines.preload")
    assert "sweeps.engines.local" in loaded
    assert {"torch", "analysis"}.isdisjoint(loaded)
    assert "torch" in modules_after("import torch")

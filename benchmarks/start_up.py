"""How much of a tiny run is starting up: a new process per run against the fork server of the local engine.

    python benchmarks/start_up.py [--runs 4]

Prints the seconds per run of both, and their ratio, measured in turn on this machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = ["data=markov", "model=gpt_10k", "train.duration=5steps", "eval.sequences=8", "runtime.device=cpu"]


def seconds_of(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def fresh(folder: Path, runs: int) -> float:
    """Seconds per run when each is a process of its own, one after the other."""
    command = [sys.executable, "-m", "train", *SETTINGS, "runtime.threads=1"]
    seconds_of([*command, "seed=999"], folder)  # builds the cache, and warms the disk's
    return sum(seconds_of([*command, f"seed={seed}"], folder) for seed in range(runs)) / runs


def forked(folder: Path, runs: int) -> float:
    """Seconds per run in a study of as many runs, one at a time, the launcher's own start included."""
    code = (
        "import sys; from sweeps.__main__ import main; from sweeps.study import Study;"
        f"cells = [dict(s.split('=') for s in {SETTINGS!r}) | {{'seed': seed}} for seed in range({runs})];"
        "study = Study(name='bench/start_up', claim='', cells=lambda profile: cells);"
        "sys.exit(main(['run', 'bench/start_up', '--profile', 'cpu', '--jobs', '1'], studies={study.name: study}))"
    )
    return seconds_of([sys.executable, "-c", code], folder) / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        apart, together = fresh(Path(folder), runs), forked(Path(folder), runs)
    print(f"fresh processes {apart:.2f} s per run, fork server {together:.2f} s per run, ratio {apart / together:.1f}")


if __name__ == "__main__":
    main()

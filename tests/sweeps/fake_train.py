"""A trainer without a model: it writes a record as the real one does, and comes to the end that `seed` names.

`python -m tests.sweeps.fake_train <arguments of python -m sweeps>` runs the sweeps with it, for tests of signals.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from conf.compose import compose
from conf.config import resolve
from conf.identity import run_id
from sweeps.__main__ import main as sweeps_main
from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.engines.base import Trainer
from train.record.manifest import Profile
from train.record.metrics_file import MetricsWriter
from train.record.run import locked, run_dir, write_run

FINISH, RAISE, EXIT, KILL, DIVERGE, WAIT = range(6)
TRAINER = Trainer("tests.sweeps.fake_train", "tests.sweeps.fake_train:main")
IMPORTED_BY = os.getpid()
SECONDS = 0.2


def study(*seeds: int) -> Study:
    """Runs that come to these ends."""

    def cells(profile: Profile) -> list[GridPoint]:
        del profile
        return product({"train.duration": ["4steps"], "seed": list(seeds)})

    return Study(name="fake/ends", claim="Runs end as they were told.", cells=cells)


def main(overrides: list[str]) -> int:
    """A run of SECONDS; while the file `mended` stands in the runs' folder, every run finishes."""
    config = resolve(compose(overrides), cuda=False)
    folder = run_dir(config)
    seed = FINISH if (Path(config.runtime.runs_dir) / "mended").exists() else config.seed
    with locked(folder):
        record = {
            "run_id": run_id(config),
            "threads": config.runtime.threads,
            "environment": os.environ["OMP_NUM_THREADS"],
            "preloaded": os.getpid() != IMPORTED_BY,
            "began": time.time(),
        }
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda signum, _: stopped.append(signum))
        write_run(folder, record | {"state": "running"})
        writer = MetricsWriter(folder, after_step=0)
        for step in range(1, 5):
            time.sleep(SECONDS / 4)
            writer.append({"step": step})
        writer.close()
        print("half way")
        if seed == RAISE:
            raise RuntimeError("the wind\nwas [too] strong")
        if seed == EXIT:
            sys.exit(3)
        if seed == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        while seed == WAIT and not stopped:
            time.sleep(0.02)
        if stopped:
            (folder / "saved").touch()
            return 143
        end = {"state": "diverged", "diverged_at_step": 2} if seed == DIVERGE else {"state": "finished"}
        result = {"val_loss": 2.5, "val_loss_se": 0.01, "seconds": SECONDS, "ended_at": time.time()}
        write_run(folder, record | end | result)
    return 0


if __name__ == "__main__":
    ends = study(FINISH, WAIT)
    sys.exit(sweeps_main(sys.argv[1:], studies={ends.name: ends}, trainer=TRAINER))

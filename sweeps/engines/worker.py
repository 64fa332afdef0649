"""What a forked child does: its output to the run's log, then the trainer. Imports nothing but the standard library."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path


def work(entry: str, argv: list[str], log: str) -> None:
    """Call `entry` ("module:function") with `argv` and leave the process with the status that it returns.

    What it raises becomes a traceback in `log` and status 1. If the launcher is killed, the run gets SIGTERM, so that
    it saves a checkpoint instead of going on unseen.
    """
    with Path(log).open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a kill loses no whole line
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    threading.Thread(target=_follow_launcher, daemon=True).start()
    module, _, function = entry.partition(":")
    sys.exit(getattr(importlib.import_module(module), function)(argv))


def _follow_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)

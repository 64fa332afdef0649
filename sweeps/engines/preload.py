"""Imported by the fork server before it forks anything: brings in what every run would import again.

It only imports. Nothing may compute here, since OpenMP's threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import os

import sweeps.engines.worker  # noqa: F401  # imported for the children

# Which module; `sweeps.engines.local` sets it in the fork server's environment.
VARIABLE = "WINDTUNNEL_PRELOAD"

# A session of its own: Ctrl-C in the terminal reaches the launcher alone, which asks each run once to stop.
if VARIABLE in os.environ:
    os.setsid()
    # A module that cannot be imported must not take the server down: the run imports it again and says why.
    with contextlib.suppress(Exception):
        importlib.import_module(os.environ[VARIABLE])

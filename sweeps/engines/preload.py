"""Imported by the fork server before it forks anything: does once what every run would do again.

The server imports the trainer, and composes a run of each choice of YAML files, after which a run of that choice
composes in milliseconds. No tensor may be computed here, since OpenMP's threads do not survive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os

import sweeps.engines.worker  # noqa: F401  # imported for the children
from conf.compose import compose

# Which module to import, and the settings to compose (JSON: a list of lists of overrides); `sweeps.engines.local` sets
# them in the fork server's environment.
MODULE = "WINDTUNNEL_PRELOAD"
SETTINGS = "WINDTUNNEL_COMPOSE"

# A session of its own: Ctrl-C in the terminal reaches the launcher alone, which asks each run once to stop.
if MODULE in os.environ:
    os.setsid()
    # What fails here must not take the server down: the run does it again and says why.
    with contextlib.suppress(Exception):
        importlib.import_module(os.environ[MODULE])
    for overrides in json.loads(os.environ.get(SETTINGS, "[]")):
        with contextlib.suppress(Exception):
            compose(overrides)

"""`ENGINES["local"]`: every engine by the name that `--engine` takes."""

from __future__ import annotations

from sweeps.engines.base import Engine
from sweeps.engines.local import local
from sweeps.engines.machine import this_machine

ENGINES = {"local": Engine(capacity=this_machine, launch=local)}

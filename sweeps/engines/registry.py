"""Engines: they carry out the missing runs of a plan, and one run's death costs only itself.

The local engine starts one process per run, a few at a time, from a fork server that has the trainer imported already:
a run begins in milliseconds, and not after the seconds that importing torch takes.
"""

from __future__ import annotations

from sweeps.engines.base import Engine
from sweeps.engines.local import local

ENGINES: dict[str, Engine] = {"local": local}

"""Every study there is. A new one is a module under `sweeps/studies/` and its name in these two lists."""

from __future__ import annotations

from sweeps.studies import demo, laws, lr_annealing
from sweeps.study import Study

MODULES = (demo, laws, lr_annealing)

STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}

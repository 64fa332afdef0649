"""Warm-up over 1, 5 and 25 % of the steps (figure 5).

The paper's 1e3, 5e3 and 2.5e4 of 1e5 steps. 5 % is the recipe's.

A warm-up over 1 % is the only one whose runs diverge or end far up at the highest rate of `cpu`, in some seeds at the
larger size.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep
from train.record.manifest import Profile


def cells(profile: Profile) -> list[GridPoint]:
    """Every length at the two smallest sizes."""
    return lr_sweep(profile, product({"schedule.warmup": ("1%", "5%", "25%")}), most_sizes=2, more_seeds=True)


STUDY = Study(claim="A longer warm-up makes training less sensitive to the learning rate.", cells=cells)

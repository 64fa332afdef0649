"""Warm-up over 1, 5 and 25 % of the steps (figure 5).

The paper's 1e3, 5e3 and 2.5e4 of 1e5 steps. 5 % is the recipe's.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.grid import Cell
from sweeps.studies.small_proxies.recipe import lr_sweep
from sweeps.study import Study
from train.record import Profile

ARMS: list[Cell] = [{"schedule.warmup": share} for share in ("1%", "5%", "25%")]


def warmup(profile: Profile) -> list[Cell]:
    """Every length at the two smallest sizes."""
    return lr_sweep(profile, ARMS, most_sizes=2, more_seeds=True)


STUDIES = (
    Study(
        name="small_proxies/warmup",
        claim="A longer warm-up makes training less sensitive to the learning rate.",
        cells=warmup,
    ),
)

"""Warm-up over 1, 5 and 25 % of the steps (figure 5).

The paper's 1e3, 5e3 and 2.5e4 of 1e5 steps. 5 % is the recipe's.

What the `cpu` profile found (25K and 147K parameters, five seeds): no difference is resolved. A warm-up over 1 % is the
only one whose runs diverge or end far up at 0.3, which happens in some seeds at the larger size; 25 % is below 5 % by
0.016 in sensitivity (-0.001 to 0.034).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep
from train.record.manifest import Profile

ARMS: list[Settings] = [{"schedule.warmup": share} for share in ("1%", "5%", "25%")]


def warmup(profile: Profile) -> list[Settings]:
    """Every length at the two smallest sizes."""
    return lr_sweep(profile, ARMS, most_sizes=2, more_seeds=True)


STUDIES = (
    Study(
        name="small_proxies/warmup",
        claim="A longer warm-up makes training less sensitive to the learning rate.",
        cells=warmup,
    ),
)

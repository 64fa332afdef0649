"""Noise on the weights that grow (Du et al. 2024, arXiv 2405.15319, figure 41).

W <- (1 - a) W + a eps for every matrix and table that comes from the base, eps drawn as a fresh init. In the paper a =
0.2 improves duplicated width, whose copies it sets apart, and a little stacked depth; more than 0.2 hurts. There 40B
tokens after a base of 10B; here complete schedules that end at 0.6 of the full budget. Our copies of channels differ
from the start, in the shares that they split their outputs by, so that noise is not needed to set them apart.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    BUDGET,
    alone,
    at_step,
    base,
    cooled,
    depth_of,
    each_seed,
    full_budget,
    narrowed,
    scratch,
    trunk_for,
)
from train.record.manifest import Profile

NOISES = (0.0, 0.2, 0.4)


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Scratch, and stacked depth and duplicated width with noise, each cooled at the same FLOPs."""
    full = full_budget(profile)
    budget = round(BUDGET * full)
    deep: GridPoint = {"model.depth": depth_of(profile)}
    every = scratch(profile, seed, (BUDGET,))
    for small in (base(profile, seed), base(profile, seed, narrowed(profile, 2) | deep)):
        for amount in NOISES:
            arm = grown(small, at_step(profile), narrowed(profile, 1) | deep | {"grow.noise": amount})
            # Without noise it branches off the trunk of the other studies, which goes on to the full budget.
            every.append(alone(arm, budget) if amount else cooled(trunk_for(arm, full), budget))
    return every


STUDY = Study(claim="A fifth of noise improves duplicated width, and twice as much is worse.", cells=each_seed(cells))

"""How far to grow: the loss against the growth factor g (Du et al. 2024, arXiv 2405.15319, figure 10).

The paper grows to 24 blocks from 12, 6, 3 and 1, and to 32 from 8, 4, 2 and 1. Here a target of L blocks grows from
L/2, L/4 and one; all bases make the same number of steps, which a deeper one pays more for. g = 1 is the target from
scratch.

How 2 and 8 compare is within the noise at `cpu`, and a base of one block does not lose to scratch there.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    SCALES,
    SCRATCH,
    at_step,
    base,
    cooled,
    depth_of,
    each_seed,
    full_budget,
    narrowed,
    scratch,
    stacked,
    trunk_for,
)
from train.record.manifest import Profile


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Scratch, and the target stacked from bases of several depths, at every level."""
    levels, full, depth, step = SCRATCH[profile], full_budget(profile), depth_of(profile), at_step(profile)
    every = [*scratch(profile, seed, levels), *stacked(profile, seed, levels, narrowed(profile, 1))]
    for few in sorted({depth // 2, 1} - {depth // 4}, reverse=True):
        small = base(profile, seed, {"model.depth": few, "train.duration": f"{step}steps"})
        arm = grown(small, step, {"model.depth": depth, "train.duration": f"{SCALES[profile].steps}steps"})
        every += [cooled(trunk_for(arm, full), round(level * full)) for level in levels]
    return every


STUDY = Study(
    claim="The best growth factor lies between 2 and 4, and a base of one block is too small.", cells=each_seed(cells)
)

"""How far to grow: the loss against the growth factor g (Du et al. 2024, arXiv 2405.15319, figure 10).

The paper grows to 24 blocks from 12, 6, 3 and 1, and to 32 from 8, 4, 2 and 1. Here a target of L blocks grows from
L/2, L/4 and one; all bases make the same number of steps, which a deeper one pays more for. g = 1 is the target from
scratch.

What the `cpu` profile found (a target of 99K parameters without embeddings, three seeds): the loss is lowest at g = 4
at each of three budgets, which is 0.034 nats (0.016 to 0.053) below scratch at the largest; how 2 and 8 compare is
within the noise. A base of one block does not lose to scratch here (0.032 below, from 0.084 below to 0.021 above).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, base, cooled, full_budget, trunk_for
from sweeps.studies.gstack.spike import GROWN_AT
from sweeps.studies.gstack.timing import scratch, size_of, stacked
from train.record.manifest import Profile

LEVELS: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.6, 1.0),
    "cpu": (0.35, 0.6, 1.0),
    "gpu": (0.35, 0.6, 1.0),
}
"""Budgets, of the full one."""


def factor(profile: Profile) -> list[Cell]:
    """Scratch, and the target stacked from bases of several depths, at every level."""
    scale = SCALES[profile]
    full = full_budget(profile)
    size, at = size_of(profile, 1), round(GROWN_AT * scale.steps)
    cells: list[Cell] = []
    for seed in scale.seeds:
        cells += scratch(profile, seed, LEVELS[profile], size)
        cells += stacked(profile, seed, GROWN_AT, LEVELS[profile], size)
        for depth in sorted({scale.depth // 2, 1} - {scale.base_depth}, reverse=True):
            small = base(profile, seed, {"model.depth": depth, "train.duration": f"{at}steps"})
            arm = grown(small, at, {"model.depth": scale.depth, "train.duration": f"{scale.steps}steps"})
            trunk = trunk_for(arm, full)
            cells += [cooled(trunk, round(level * full)) for level in LEVELS[profile]]
    return cells


STUDIES = (
    Study(
        name="gstack/factor",
        claim="The best growth factor lies between 2 and 4, and a base of one block is too small.",
        cells=factor,
    ),
)

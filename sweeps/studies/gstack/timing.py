"""When to grow: the loss against the steps d of the base, at several budgets (Du et al. 2024, arXiv 2405.15319, figure
8).

In the paper the base sees d = 0, 1, 5, 10, 20 and 50B tokens and its 6 blocks are stacked to 24, at 410M, 1.1B and 3B
parameters; a curve joins the targets that have spent equal FLOPs in the middle of their schedules. Here d is a share of
the full budget's steps, every point ends a decay of its own, and the targets differ in width. A curve leaves out a base
that would take more than half of its FLOPs.

No valley is seen at `cpu`: the longer the base, the lower the loss. With at most 6 tokens for each parameter the small
model is the better use of compute for most of the way, where the paper's have 90. That a stack of an untrained base is
as good as scratch was left open by three seeds; thirteen were added.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    GROWN_AT,
    SCALES,
    WARMUP,
    alone,
    base,
    depth_of,
    narrowed,
    scratch,
    stacked,
    target,
)
from train.record.manifest import Profile

SHARES: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.1, 0.2, 0.3),
    "cpu": (0.05, 0.1, 0.2, 0.4, 0.8),
    "gpu": (0.05, 0.1, 0.2, 0.4, 0.8),
}
"""d > 0, of the steps that the target takes from scratch at the full budget."""
LEVELS: dict[Profile, tuple[float, ...]] = {"smoke": (0.6,), "cpu": (0.2, 0.35, 0.6), "gpu": (0.2, 0.35, 0.6)}
"""Budgets, of the full one."""
UNTRAINED_SEEDS: dict[Profile, int] = {"smoke": 2, "cpu": 16, "gpu": 3}
"""Of d = 0 and of scratch beside it, at the largest budget."""
NARROWER: dict[Profile, tuple[int, ...]] = {"smoke": (1,), "cpu": (1, 2), "gpu": (1, 2)}
"""By how much the width of the target of all studies of stacking is divided."""


def cells(profile: Profile) -> list[Cell]:
    """The cells of `trained`, and those of d = 0 for the target of all studies; at the largest budget of more seeds,
    beside as many from scratch, since that these are equal takes more of them than that two differ."""
    every, seeds = trained(profile), SCALES[profile].seeds
    for seed in range(seeds):
        every += _stacked(profile, seed, 0.0, narrowed(profile, 1))
    for seed in range(seeds, UNTRAINED_SEEDS[profile]):
        whole = target(profile, seed)
        budget = round(max(LEVELS[profile]) * cost_of(whole).flops)
        start = base(profile, seed, {"train.duration": f"{WARMUP[profile] + 1}steps"})
        every += [alone(arm, budget) for arm in (whole, grown(start, 0, {"model.depth": depth_of(profile)}))]
    return every


def trained(profile: Profile) -> list[Cell]:
    """Sizes times seeds: scratch, and stacks of the base after every d > 0, at every level."""
    every: list[Cell] = []
    for narrower in NARROWER[profile]:
        size = narrowed(profile, narrower)
        for seed in range(SCALES[profile].seeds):
            every += scratch(profile, seed, LEVELS[profile], size)
            for share in SHARES[profile]:
                every += _stacked(profile, seed, share, size)
    return every


def _stacked(profile: Profile, seed: int, share: float, size: GridPoint) -> list[Cell]:
    """The base that the other studies stack has their trunk, as long as the full budget."""
    levels = LEVELS[profile]
    return stacked(profile, seed, levels, size, at=share, reach=1.0 if share == GROWN_AT else max(levels))


STUDY = Study(claim="There is a best time to stack, and stacking an untrained base gains nothing.", cells=cells)

"""When to grow: the loss against the steps d of the base, at several budgets (Du et al. 2024, arXiv 2405.15319, figure
8).

In the paper the base sees d = 0, 1, 5, 10, 20 and 50B tokens and its 6 blocks are stacked to 24, at 410M, 1.1B and 3B
parameters; a curve joins the targets that have spent equal FLOPs in the middle of their schedules. Here d is a share of
the full budget's steps, every point ends a decay of its own, and the targets differ in width. A curve leaves out a base
that would take more than half of its FLOPs.

What the `cpu` profile found (targets of 99K and 25K parameters without embeddings, three seeds): no valley. The longer
the base, the lower the loss, up to bases that take a third to a half of all FLOPs; only at the largest budget the curve
flattens there. With at most 6 tokens for each parameter the smaller model is the better use of compute for most of the
way, where the paper's have 90. A stack of an untrained base is as good as scratch (ln L higher by 0.008, -0.002 to
0.019, over sixteen seeds; thirteen of them were added after three had left it open).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, alone, base, cooled, target, trunk_for
from sweeps.studies.gstack.spike import GROWN_AT
from train.record.manifest import Profile

SHARES: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.1, 0.2, 0.3),
    "cpu": (0.05, 0.1, 0.2, 0.4, 0.8),
    "gpu": (0.05, 0.1, 0.2, 0.4, 0.8),
}
"""d > 0, of the steps that the target takes from scratch at the full budget."""
LEVELS: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.6,),
    "cpu": (0.2, 0.35, 0.6),
    "gpu": (0.2, 0.35, 0.6),
}
"""Budgets, of the full one."""
UNTRAINED_SEEDS: dict[Profile, int] = {"smoke": 2, "cpu": 16, "gpu": 3}
"""Of d = 0 and of scratch beside it, at the largest budget."""
LARGEST_BASE = 0.5  # of a budget's FLOPs
NARROWER: dict[Profile, tuple[int, ...]] = {"smoke": (1,), "cpu": (1, 2), "gpu": (1, 2)}
"""By how much the width of the target of all studies of stacking is divided."""


def timing(profile: Profile) -> list[Cell]:
    """The cells of `trained`, and those of d = 0 for the target of all studies; at the largest budget of more seeds,
    beside as many from scratch, since that these are equal takes more of them than that two differ."""
    scale, cells = SCALES[profile], trained(profile)
    whole = size_of(profile, 1)
    for seed in scale.seeds:
        cells += stacked(profile, seed, 0.0, LEVELS[profile], whole)
    for seed in range(len(scale.seeds), UNTRAINED_SEEDS[profile]):
        scratch = target(profile, seed)
        budget = round(max(LEVELS[profile]) * cost_of(scratch).flops)
        start = base(profile, seed, {"train.duration": f"{scale.warmup + 1}steps"})
        cells += [alone(arm, budget) for arm in (scratch, grown(start, 0, {"model.depth": scale.depth}))]
    return cells


def trained(profile: Profile) -> list[Cell]:
    """Sizes times seeds: scratch, and stacks of the base after every d > 0, at every level."""
    cells: list[Cell] = []
    for narrower in NARROWER[profile]:
        size = size_of(profile, narrower)
        for seed in SCALES[profile].seeds:
            cells += scratch(profile, seed, LEVELS[profile], size)
            for share in SHARES[profile]:
                cells += stacked(profile, seed, share, LEVELS[profile], size)
    return cells


def size_of(profile: Profile, narrower: int) -> Settings:
    """Settings of a target, and of its base, of a fraction of the width, with heads as wide as those of all."""
    scale = SCALES[profile]
    return {"model.width": scale.width // narrower, "model.heads": scale.heads // narrower}


def scratch(profile: Profile, seed: int, levels: Sequence[float], size: Settings) -> list[Cell]:
    """The target from scratch, its trunk as long as the full budget or a level beyond, cooled at each level."""
    whole = target(profile, seed) | size
    full = cost_of(whole).flops
    trunk = trunk_for(whole, round(max(1.0, *levels) * full))
    return [cooled(trunk, round(level * full)) for level in levels]


def stacked(profile: Profile, seed: int, share: float, levels: Sequence[float], size: Settings) -> list[Cell]:
    """The stack of the base after a share of the target's steps, cooled at each level that this base leaves room for.

    Its trunk is as long as `LEVELS` ask for; that of the base which the other studies stack, as long as the full
    budget, so that they share it.
    """
    scale = SCALES[profile]
    full = cost_of(target(profile, seed) | size).flops
    arm = grown(base(profile, seed, size), round(share * scale.steps), {"model.depth": scale.depth})
    trunk = trunk_for(arm, full if share == GROWN_AT else round(max(LEVELS[profile]) * full))
    spent = cost_of(arm).spent(0).flops
    return [cooled(trunk, round(level * full)) for level in levels if spent <= LARGEST_BASE * level * full]


STUDIES = (
    Study(
        name="gstack/timing",
        claim="There is a best time to stack, and stacking an untrained base gains nothing.",
        cells=timing,
    ),
)

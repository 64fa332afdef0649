"""The jump of the loss at growth, and its recovery (Du et al. 2024, arXiv 2405.15319, figure 44).

Stacking does not keep the function, so the loss jumps; zero keeps it. In the paper the optimiser and its schedule begin
anew at growth. Here both operators also go on with the base's moments, with its schedule, which has no second warm-up,
or with both, for as long as the jump lasts, since what a fresh optimiser does to the loss by itself is not the
operator's doing. The long runs are those of the other studies of stacking.
"""

from __future__ import annotations

from itertools import product

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    WARMUP,
    at_step,
    base,
    cooled,
    depth_of,
    each_seed,
    full_budget,
    target,
    trunk_for,
)
from train.record.manifest import Profile

CLOSE = 3  # warm-ups: how long the arms with other moments and schedules go on


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Scratch, stack and zero to the end; then both operators for a short while with either optimiser and schedule."""
    flops, warmup, small = full_budget(profile), WARMUP[profile], base(profile, seed)
    close: GridPoint = {"train.duration": f"{CLOSE * warmup}steps", "eval.every": f"{max(1, warmup // 4)}steps"}
    stack, zero = (
        grown(small, at_step(profile), {"model.depth": depth_of(profile), "grow.depth": depth})
        for depth in ("stack", "zero")
    )
    trunks = [trunk_for(arm, flops) for arm in (target(profile, seed), stack, zero)]
    return [
        *trunks,
        *(cooled(trunk, flops) for trunk in trunks),
        *(
            arm | close | {"grow.optimizer": optimizer, "grow.schedule": schedule}
            for arm, optimizer, schedule in product((stack, zero), ("reset", "carry"), ("restart", "continue"))
        ),
    ]


STUDY = Study(
    claim="At growth the loss jumps for stack and not for zero; the stack makes up for it at once.",
    cells=each_seed(cells),
)

"""The jump of the loss at growth, and its recovery (Du et al. 2024, arXiv 2405.15319, figure 44).

Stacking does not keep the function, so the loss jumps; zero keeps it. In the paper the optimiser and its schedule begin
anew at growth. Here both operators also go on with the base's moments, with its schedule, which has no second warm-up,
or with both, for as long as the jump lasts, since what a fresh optimiser does to the loss by itself is not the
operator's doing. The long runs are those of the other studies of stacking.

What the `cpu` profile found (a target of 99K parameters without embeddings, three seeds): at growth the loss of the
stack jumps by 0.33 nats (0.19 to 0.48), that of zero by nothing; the stack is back below the base's last loss after 3 %
of the full budget (1 to 5), and at its end the two differ by less than can be told (0.006, -0.019 to 0.031). Fresh
moments at the full rate make a spike of 0.05 nats where the function is kept, and a new warm-up prevents it.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from itertools import product

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, base, cooled, full_budget, target, trunk_for
from train.record.manifest import Profile

GROWN_AT = 0.2  # of the target's steps
CLOSE = 3  # warm-ups: how long the arms with other moments and schedules go on


def spike(profile: Profile) -> list[Cell]:
    """Scratch, stack and zero to the end; then both operators for a short while with either optimiser and schedule."""
    scale = SCALES[profile]
    steps, flops = scale.steps, full_budget(profile)
    close: Settings = {
        "train.duration": f"{CLOSE * scale.warmup}steps",
        "eval.every": f"{max(1, scale.warmup // 4)}steps",
    }
    cells: list[Cell] = []
    for seed in scale.seeds:

        def deeper(depth: str, settings: Settings | None = None, seed: int = seed) -> Cell:
            by: Settings = {"model.depth": scale.depth, "grow.depth": depth}
            return grown(base(profile, seed), round(GROWN_AT * steps), by | (settings or {}))

        trunks = [trunk_for(arm, flops) for arm in (target(profile, seed), deeper("stack"), deeper("zero"))]
        cells += [*trunks, *(cooled(trunk, flops) for trunk in trunks)]
        for depth, optimizer, schedule in product(("stack", "zero"), ("reset", "carry"), ("restart", "continue")):
            anew: Settings = {"grow.optimizer": optimizer, "grow.schedule": schedule}
            cells.append(deeper(depth, close | anew))
    return cells


STUDIES = (
    Study(
        name="gstack/spike",
        claim="At growth the loss jumps for stack and not for zero; the stack makes up for it at once.",
        cells=spike,
    ),
)

"""Noise on the weights that grow (Du et al. 2024, arXiv 2405.15319, figure 41).

W <- (1 - a) W + a eps for every matrix and table that comes from the base, eps drawn as a fresh init. In the paper a =
0.2 improves duplicated width, whose copies it sets apart, and a little stacked depth; more than 0.2 hurts. There 40B
tokens after a base of 10B; here complete schedules that end at 0.6 of the full budget. Our copies of channels differ
from the start, in the shares that they split their outputs by, so that noise is not needed to set them apart.

What the `cpu` profile found (a target of 99K parameters without embeddings, three seeds): nothing that the noise
between seeds would not hide, neither for width (0.2 against 0: -0.005, -0.020 to 0.010) nor for depth (-0.009, -0.022
to 0.004).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.study import Study
from sweeps.studies.gstack.operators import BUDGET
from sweeps.studies.gstack.recipe import SCALES, alone, base, cooled, full_budget, trunk_for
from sweeps.studies.gstack.spike import GROWN_AT
from sweeps.studies.gstack.timing import scratch, size_of
from train.record.manifest import Profile

NOISES = (0.0, 0.2, 0.4)


def noise(profile: Profile) -> list[Cell]:
    """Scratch, and stacked depth and duplicated width with noise, each cooled at the same FLOPs."""
    scale = SCALES[profile]
    full = full_budget(profile)
    budget = round(BUDGET * full)
    whole = size_of(profile, 1) | {"model.depth": scale.depth}
    narrow = size_of(profile, 2) | {"model.depth": scale.depth}
    cells: list[Cell] = []
    for seed in scale.seeds:
        cells += scratch(profile, seed, (BUDGET,), whole)
        for small in (base(profile, seed), base(profile, seed, narrow)):
            for amount in NOISES:
                arm = grown(small, round(GROWN_AT * scale.steps), whole | {"grow.noise": amount})
                # Without noise it branches off the trunk of the other studies, which goes on to the full budget.
                cells.append(alone(arm, budget) if amount else cooled(trunk_for(arm, full), budget))
    return cells


STUDIES = (
    Study(
        name="gstack/noise",
        claim="A fifth of noise improves duplicated width, and twice as much is worse.",
        cells=noise,
    ),
)

"""One trunk at a constant rate with a decay for each budget, against a run from scratch for each (Hägele et al. 2024,
arXiv 2405.18392, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").

The paper's schedule is constant and then decays over the last fifth of the steps, so that runs of several lengths share
all but their decay. A branch that takes the trunk's weights, moments, data and schedule is the run from scratch; one
that takes the weights and begins with fresh moments is not, and shows that the comparison can tell. Six lengths, evenly
spaced, as one would choose for a law; with lengths that double, the longest is half of all the work, and sharing saves
less. The target and its trunk are those of the studies of stacking.

What the `cpu` profile found (99K parameters without embeddings, three seeds): the branch is the run from scratch, to
the last bit, at all six lengths, for 57 % less compute. A branch with fresh moments ends 0.014 nats (0.003 to 0.024)
higher. The decay gains 0.032 nats (0.009 to 0.055) over the trunk at as many tokens.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, alone, cooled, full_budget, target, trunk_for
from train.record.manifest import Profile

N_BUDGETS: dict[Profile, int] = {"smoke": 2, "cpu": 6, "gpu": 6}


def cooldowns(profile: Profile) -> list[Cell]:
    """The trunk; for each budget a branch, the same with fresh moments, and the run from scratch."""
    full = full_budget(profile)
    cells: list[Cell] = []
    for seed in SCALES[profile].seeds:
        trunk = trunk_for(target(profile, seed), full)
        cells.append(trunk)
        for k in range(1, N_BUDGETS[profile] + 1):
            budget = full * k // N_BUDGETS[profile]
            branch = cooled(trunk, budget)
            cells += [branch, branch | {"grow.optimizer": "reset"}, alone(target(profile, seed), budget)]
    return cells


STUDIES = (
    Study(
        name="growth/cooldowns",
        claim="Cooling one trunk down at several lengths gives the losses of as many runs from scratch.",
        cells=cooldowns,
    ),
)

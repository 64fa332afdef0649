"""One trunk at a constant rate with a decay for each budget, against a run from scratch for each (Hägele et al. 2024,
arXiv 2405.18392, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").

The paper's schedule is constant and then decays over the last fifth of the steps, so that runs of several lengths share
all but their decay. A branch that takes the trunk's weights, moments, data and schedule is the run from scratch; one
that takes the weights and begins with fresh moments is not, and shows that the comparison can tell. Six lengths, evenly
spaced, as one would choose for a law; with lengths that double, the longest is half of all the work, and sharing saves
less. The target and its trunk are those of the studies of stacking.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import alone, cooled, each_seed, full_budget, target, trunk_for
from train.record.manifest import Profile

N_BUDGETS: dict[Profile, int] = {"smoke": 2, "cpu": 6, "gpu": 6}


def cells(profile: Profile, seed: int) -> list[Cell]:
    """The trunk; for each budget a branch, the same with fresh moments, and the run from scratch."""
    full, n = full_budget(profile), N_BUDGETS[profile]
    whole = target(profile, seed)
    trunk = trunk_for(whole, full)
    every = [trunk]
    for budget in (full * k // n for k in range(1, n + 1)):
        branch = cooled(trunk, budget)
        every += [branch, branch | {"grow.optimizer": "reset"}, alone(whole, budget)]
    return every


STUDY = Study(
    claim="Cooling one trunk down at several lengths gives the losses of as many runs from scratch.",
    cells=each_seed(cells),
)

"""Adam's epsilon from far below the gradients' RMS to above it (figures 12 and 13).

In the paper the gradients of 4.8B parameters at a rate of 0.3 fall to the default of 1e-8. Those of small models do
not, so epsilon is raised to meet them: what matters is the ratio of the two.

At the higher rate of `cpu`, beyond the best one, the largest epsilon is even better than the default: what shrinks the
updates acts as a lower rate. Between 1e-15 and 1e-8 nothing can change, since gradients are far above both.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import models, runs, seeds
from train.record.manifest import Profile

SHAPES: dict[Profile, list[tuple[int, int]]] = {
    "smoke": [(16, 1)],
    "cpu": [(32, 2), (64, 3)],
    "gpu": [(128, 3), (256, 6)],
}
LRS: dict[Profile, tuple[float, ...]] = {"smoke": (1e-2,), "cpu": (1e-2, 1e-1), "gpu": (1e-2, 3e-1)}
EPSILONS: dict[Profile, tuple[float, ...]] = {
    "smoke": (1e-15, 1e-8, 1e-3, 1e-1),
    "cpu": (1e-15, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    "gpu": (1e-15, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
}


def cells(profile: Profile) -> list[GridPoint]:
    """Every epsilon at every size, rate and seed; those at 1e-8 are runs of the recipe."""
    grid = product({"optim.lr": LRS[profile], "optim.eps": EPSILONS[profile]})
    return runs(profile, [{}], models(profile, *SHAPES[profile]), grid, seeds(profile))


STUDY = Study(claim="Where gradients fall to Adam's epsilon, updates shrink and training stops.", cells=cells)

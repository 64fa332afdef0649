"""The RMS of single tensors' gradients over sizes and learning rates (figures 11 and E.12).

The arm with QK-norm of `small_proxies/qk_norm`, whose probes have what it takes, and a smaller size.

That the line through four sizes of `cpu` reaches 1e-8 where the paper saw it, at 4.8B parameters, lies four decades
beyond the last size: an extrapolation that should not be leant on.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, models, runs, seeds
from train.record.manifest import Profile

# (width, depth) below the recipe's.
SMALLER: dict[Profile, list[tuple[int, int]]] = {"smoke": [], "cpu": [(16, 1)], "gpu": [(64, 3)]}


def cells(profile: Profile) -> list[GridPoint]:
    """The recipe's three smallest sizes, over learning rates and seeds, and those below."""
    smaller = runs(profile, [{}], models(profile, *SMALLER[profile]), SCALES[profile].rates(), seeds(profile))
    return [*smaller, *lr_sweep(profile, [{}], most_sizes=3)]


STUDY = Study(claim="Gradients shrink with size and learning rate, towards Adam's epsilon of 1e-8.", cells=cells)

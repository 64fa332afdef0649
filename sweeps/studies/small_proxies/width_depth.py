"""Width alone, depth alone, and both: three ways to grow from one smallest model (figure 7).

The paper grows in width at 6 blocks and in depth at width 512. Here all three ways begin at the smallest model of the
recipe, so that they share its runs, and end within half a decade of each other.

That depth loses at `cpu`, where the paper's deep models win: a stream of 32 is narrow for a vocabulary of 257, and 250
steps are few for 8 blocks. Two sizes of each kind say nothing about how well a trend extrapolates.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, models, runs, seeds
from train.record.manifest import Profile

# (width, depth) of the smallest model; then it grows in width, in depth, and in both.
SHAPES: dict[Profile, list[tuple[int, int]]] = {
    "smoke": [(16, 1), (32, 1), (16, 4), (32, 2)],
    "cpu": [(32, 2), (64, 2), (32, 8), (64, 3)],
    "gpu": [(128, 3), (256, 3), (384, 3), (128, 12), (128, 24), (192, 6), (256, 6)],
}


def cells(profile: Profile) -> list[GridPoint]:
    """Every shape over learning rates and seeds."""
    return runs(profile, [{}], models(profile, *SHAPES[profile]), SCALES[profile].rates(), seeds(profile))


STUDY = Study(claim="Sensitivity to the learning rate grows faster with depth than with width.", cells=cells)

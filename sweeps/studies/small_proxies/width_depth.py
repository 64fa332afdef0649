"""Width alone, depth alone, and both: three ways to grow from one smallest model (figure 7).

The paper grows in width at 6 blocks and in depth at width 512. Here all three ways begin at the smallest model of the
recipe, so that they share its runs, and end within half a decade of each other.

What the `cpu` profile found (25K to 147K parameters, three seeds): sensitivity rises with depth and falls a little with
width, 0.064 nats per decade of parameters apart (0.024 to 0.104). But 8 blocks of width 32 lose 5.5 % to 2 blocks of
width 64 (3.4 to 7.7), where the paper's deep models win: a stream of 32 is narrow for a vocabulary of 257, and 250
steps are few for 8 blocks. Two sizes of each kind say nothing about how well a trend extrapolates.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lrs, recipe, seeds, size
from train.record.manifest import Profile

Shape = tuple[int, int]
"""Width and depth."""

# The smallest model; then it grows in width, in depth, and in both.
SHAPES: dict[Profile, list[Shape]] = {
    "smoke": [(16, 1), (32, 1), (16, 4), (32, 2)],
    "cpu": [(32, 2), (64, 2), (32, 8), (64, 3)],
    "gpu": [(128, 3), (256, 3), (384, 3), (128, 12), (128, 24), (192, 6), (256, 6)],
}


def width_depth(profile: Profile) -> list[Settings]:
    """Every shape over learning rates and seeds."""
    shapes = [size(profile, width, depth) for width, depth in SHAPES[profile]]
    return [recipe(profile) | cell for cell in cross(shapes, lrs(profile), seeds(profile))]


STUDIES = (
    Study(
        name="small_proxies/width_depth",
        claim="Sensitivity to the learning rate grows faster with depth than with width.",
        cells=width_depth,
    ),
)

"""The RMS of single tensors' gradients over sizes and learning rates (figures 11 and E.12).

The arm with QK-norm of `small_proxies/qk_norm`, whose probes have what it takes, and a smaller size.

What the `cpu` profile found (3K to 332K parameters, three seeds): the RMS of block 0's first MLP gradient falls as
N^-0.58 (-0.61 to -0.55), mean over rates, and as the rate to the -0.73 (-0.74 to -0.71), mean over sizes; that of the
key projection as N^-0.38 and lr^-0.50. At a rate of 0.3 it is 5e-6 in the largest model; the line through four sizes
reaches 1e-8 at 10^9.3 parameters (10^8.9 to 10^9.8), in the place where the paper saw it, 4.8B, and four decades beyond
the last size: an extrapolation that should not be leant on.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep, lrs, recipe, seeds, size
from train.record.manifest import Profile

# (width, depth) below the recipe's.
SMALLER: dict[Profile, tuple[tuple[int, int], ...]] = {"smoke": (), "cpu": ((16, 1),), "gpu": ((64, 3),)}


def gradient_rms(profile: Profile) -> list[Settings]:
    """The recipe's three smallest sizes, over learning rates and seeds, and those below."""
    smaller = cross([size(profile, *shape) for shape in SMALLER[profile]], lrs(profile), seeds(profile))
    return [*(recipe(profile) | cell for cell in smaller), *lr_sweep(profile, [{}], most_sizes=3)]


STUDIES = (
    Study(
        name="small_proxies/gradient_rms",
        claim="Gradients shrink with size and learning rate, towards Adam's epsilon of 1e-8.",
        cells=gradient_rms,
    ),
)

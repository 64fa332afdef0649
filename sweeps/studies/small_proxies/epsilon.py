"""Adam's epsilon from far below the gradients' RMS to above it (figures 12 and 13).

In the paper the gradients of 4.8B parameters at a rate of 0.3 fall to the default of 1e-8. Those of small models do
not, so epsilon is raised to meet them: what matters is the ratio of the two.

What the `cpu` profile found (25K and 147K parameters, rates of 1e-2 and 0.1, three seeds): updates follow g / (g + eps)
within 0.03 (0.00 to 0.06) and are halved where epsilon is 0.86 times the gradient's RMS (0.80 to 0.92). At 1e-2 the
loss then rises, by 0.3 nats at the largest epsilon. At 0.1, beyond the best rate, it does not, and the largest epsilon
is even better than the default: what shrinks the updates acts as a lower rate. Between 1e-15 and 1e-8 nothing changes
(ln loss -0.002, -0.005 to 0.001), since gradients are far above both.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import recipe, seeds, size
from train.record.manifest import Profile


@dataclass(frozen=True)
class Part:
    """Sizes as (width, depth), learning rates, and the epsilons."""

    sizes: tuple[tuple[int, int], ...]
    lrs: tuple[float, ...]
    epsilons: tuple[float, ...]


PARTS: dict[Profile, Part] = {
    "smoke": Part(sizes=((16, 1),), lrs=(1e-2,), epsilons=(1e-15, 1e-8, 1e-3, 1e-1)),
    "cpu": Part(
        sizes=((32, 2), (64, 3)),
        lrs=(1e-2, 1e-1),
        epsilons=(1e-15, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    ),
    "gpu": Part(
        sizes=((128, 3), (256, 6)),
        lrs=(1e-2, 3e-1),
        epsilons=(1e-15, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
    ),
}


def epsilon(profile: Profile) -> list[Settings]:
    """Every epsilon at every size, rate and seed; those at 1e-8 are runs of the recipe."""
    part = PARTS[profile]
    grid = cross(
        [size(profile, *shape) for shape in part.sizes],
        product({"optim.lr": part.lrs, "optim.eps": part.epsilons}),
        seeds(profile),
    )
    return [recipe(profile) | cell for cell in grid]


STUDIES = (
    Study(
        name="small_proxies/epsilon",
        claim="Where gradients fall to Adam's epsilon, updates shrink and training stops.",
        cells=epsilon,
    ),
)

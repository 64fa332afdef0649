"""Weight decay that does not follow the learning rate and decay that does (figures 6 and E.10).

The paper's constants are 1e-4, independent, which is the recipe's, and 0.1, coupled. Over its 1e5 steps the first adds
up to 10 at the peak rate; over a short run to almost nothing, and the two forms differ by as little. So the question is
also put to a pair that acts: 2.5 over the run, independent, and as much coupled decay as is equal to that at a rate of
1e-2, near the best. A third independent arm decays as much over its run as the paper's does. Coupled arms have one rate
more, below the others, since their sensitivity is the smaller of those over two windows (section 3.2.2).

The pair was added after the paper's constants had shown nothing in 250 steps.

What the `cpu` profile found (25K and 147K parameters, three seeds): the paper's constants differ by nothing (-0.005,
-0.018 to 0.009); of the pair that acts, the coupled one is more sensitive by 0.052 (0.042 to 0.062), as published.
Independent decay of 0.04 moves the best rate up by a factor of 1.7 (1.2 to 2.5).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, recipe, seeds, sizes
from train.record.manifest import Profile

COUPLED: Settings = {"optim.decay": "coupled", "optim.weight_decay": 0.1}
NEXT_LOWER: dict[Profile, float] = {"smoke": 1e-4, "cpu": 3e-4, "gpu": 1e-4}  # than the recipe's lowest rate
DECAY_OF_A_RUN = 1e-4 * 1e5  # of the paper's, at the peak rate
ACTING = 2.5  # decay of a run, in the pair whose two forms are equal at this rate
EQUAL_AT = 1e-2


def weight_decay(profile: Profile) -> list[Settings]:
    """The paper's two arms and the pair that acts, then the strongest decay, at the two smallest sizes."""
    steps = SCALES[profile].steps
    acting: Settings = {"optim.weight_decay": ACTING / steps}
    acting_coupled: Settings = {"optim.decay": "coupled", "optim.weight_decay": ACTING / steps / EQUAL_AT}
    strongest: Settings = {"optim.weight_decay": DECAY_OF_A_RUN / steps}
    lower = cross(sizes(profile, most=2), [{"optim.lr": NEXT_LOWER[profile]}], seeds(profile))
    return [
        *lr_sweep(profile, [{}, COUPLED, acting, acting_coupled, strongest], most_sizes=2),
        *(recipe(profile) | cell | arm for arm in (COUPLED, acting_coupled) for cell in lower),
    ]


STUDIES = (
    Study(
        name="small_proxies/weight_decay",
        claim="Decay that does not follow the learning rate makes training less sensitive to it.",
        cells=weight_decay,
    ),
)

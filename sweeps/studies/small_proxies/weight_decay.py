"""Weight decay that does not follow the learning rate and decay that does (figures 6 and E.10).

The paper's constants are 1e-4, independent, which is the recipe's, and 0.1, coupled. Over its 1e5 steps the first adds
up to 10 at the peak rate; over a short run to almost nothing, and the two forms differ by as little. So the question is
also put to a pair that acts: 2.5 over the run, independent, and as much coupled decay as is equal to that at a rate of
1e-2, near the best. A third independent arm decays as much over its run as the paper's does. Coupled arms have one rate
more, below the others, since their sensitivity is the smaller of those over two windows (section 3.2.2).

The pair was added after the paper's constants had shown nothing in 250 steps.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, runs, seeds, sizes
from train.record.manifest import Profile

COUPLED: GridPoint = {"optim.decay": "coupled", "optim.weight_decay": 0.1}
NEXT_LOWER: dict[Profile, float] = {"smoke": 1e-4, "cpu": 3e-4, "gpu": 1e-4}  # than the recipe's lowest rate
DECAY_OF_A_RUN = 1e-4 * 1e5  # of the paper's, at the peak rate
ACTING = 2.5  # decay of a run, in the pair whose two forms are equal at this rate
EQUAL_AT = 1e-2


def cells(profile: Profile) -> list[GridPoint]:
    """The paper's two arms and the pair that acts, then the strongest decay, at the two smallest sizes."""
    steps = SCALES[profile].steps
    acting: GridPoint = {"optim.weight_decay": ACTING / steps}
    acting_coupled: GridPoint = {"optim.decay": "coupled", "optim.weight_decay": ACTING / steps / EQUAL_AT}
    strongest: GridPoint = {"optim.weight_decay": DECAY_OF_A_RUN / steps}
    lower: list[GridPoint] = [{"optim.lr": NEXT_LOWER[profile]}]
    return [
        *lr_sweep(profile, [{}, COUPLED, acting, acting_coupled, strongest], most_sizes=2),
        *runs(profile, [COUPLED, acting_coupled], sizes(profile, most=2), lower, seeds(profile)),
    ]


STUDY = Study(claim="Decay that does not follow the learning rate makes training less sensitive to it.", cells=cells)

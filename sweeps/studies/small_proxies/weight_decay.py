"""Weight decay that does not follow the learning rate, decay that does, and more of the first (figures 6 and E.10).

Independent decay of 1e-4 is the recipe's. The coupled arm, 0.1, has one rate more, below the others, since its
sensitivity is the smaller of those over two windows (section 3.2.2). Over the paper's 1e5 steps a decay of 1e-4 adds up
to 10 at the peak rate, but to almost nothing over a short run: the third arm decays as much as that over its run.

A coupled arm that decays as much as the paper's cannot be had in so few steps: at a rate of 0.1 it would take away more
than a weight has in each of them. So the two forms are compared at the paper's constants only, and not at equal decay.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.grid import Cell, cross
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, recipe, seeds, sizes
from sweeps.study import Study
from train.record import Profile

COUPLED: Cell = {"optim.decay": "coupled", "optim.weight_decay": 0.1}
NEXT_LOWER: dict[Profile, float] = {"smoke": 1e-4, "cpu": 3e-4, "gpu": 1e-4}  # than the recipe's lowest rate
DECAY_OF_A_RUN = 1e-4 * 1e5  # of the paper's, at the peak rate


def weight_decay(profile: Profile) -> list[Cell]:
    """The three arms at the two smallest sizes."""
    as_much: Cell = {"optim.weight_decay": DECAY_OF_A_RUN / SCALES[profile].steps}
    lower = cross(sizes(profile, most=2), [{"optim.lr": NEXT_LOWER[profile]}], seeds(profile, more=True))
    return [
        *lr_sweep(profile, [{}, COUPLED, as_much], most_sizes=2, more_seeds=True),
        *(recipe(profile) | cell | COUPLED for cell in lower),
    ]


STUDIES = (
    Study(
        name="small_proxies/weight_decay",
        claim="Decay that does not follow the learning rate makes training less sensitive to it.",
        cells=weight_decay,
    ),
)

"""With and without z-loss and weight decay, and long runs that look for the drift of the logits (figures 3 and 4).

Both z-loss and decay of 1e-4 are the recipe's. The paper's figure 4 is its smallest model at a rate of 0.1; the logits
drift away late in 1e5 steps, so the smallest model also trains longer here, at that rate at `cpu` and at 0.3 at `gpu`.

The mean logit sinks at `cpu`, but as far with z-loss as without (first counted as the paper's drift, until the picture
showed all arms alike): most of the 257 bytes never occur, and nothing holds their logits.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep, runs, seeds, sizes
from train.record.manifest import Profile

ARMS = product({"optim.z_loss": (0.0, 1e-4), "optim.weight_decay": (0.0, 1e-4)})
MOST_SIZES: dict[Profile, int] = {"smoke": 1, "cpu": 2, "gpu": 2}
LOWEST_LR: dict[Profile, float] = {"smoke": 1e-2, "cpu": 1e-2, "gpu": 3e-4}
LONG: dict[Profile, GridPoint] = {
    "smoke": {"train.duration": "50steps", "optim.lr": 0.1},
    "cpu": {"train.duration": "1500steps", "optim.lr": 0.1},
    "gpu": {"train.duration": "10000steps", "optim.lr": 0.3},
}


def cells(profile: Profile) -> list[GridPoint]:
    """The four arms over sizes and rates, then the long runs of the smallest size."""
    long = [arm | LONG[profile] | {"probe.every": "2%"} for arm in ARMS]
    return [
        *lr_sweep(profile, ARMS, most_sizes=MOST_SIZES[profile], lowest=LOWEST_LR[profile]),
        *runs(profile, long, sizes(profile, most=1), seeds(profile)),
    ]


STUDY = Study(
    claim="Output logits drift away in long training at high learning rates; z-loss prevents it.", cells=cells
)

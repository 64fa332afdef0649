"""With and without z-loss and weight decay, and long runs that look for the drift of the logits (figures 3 and 4).

Both z-loss and decay of 1e-4 are the recipe's. The paper's figure 4 is its smallest model at a rate of 0.1; the logits
drift away late in 1e5 steps, so the smallest model also trains longer here, at that rate at `cpu` and at 0.3 at `gpu`.

What the `cpu` profile found (25K and 147K parameters, 250 steps, and 1500 of the smaller one at 0.1; three seeds):
z-loss keeps mean log Z at 5.5 nats, 0.6 lower than without (0.1 to 1.1), and that is all. Losses, and with them the
sensitivity to the rate, are those of a model without it (-0.003 nats, -0.013 to 0.007). The drift of log Z to negative
values does not come in 1500 steps; it creeps up by 0.3 nats (-0.2 to 0.7). The mean logit does sink, to -13, but as far
with z-loss as without (first counted as the paper's drift, until the picture showed all arms alike): most of the 257
bytes never occur, and nothing holds their logits.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product, where
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lr_sweep, recipe, sizes
from train.record.manifest import Profile

ARMS: list[Settings] = [{"optim.z_loss": z, "optim.weight_decay": decay} for z in (0.0, 1e-4) for decay in (0.0, 1e-4)]


@dataclass(frozen=True)
class Part:
    """Which part of the recipe's sweep is run, and what the long runs are."""

    most_sizes: int
    lowest_lr: float
    long_steps: int
    long_lrs: tuple[float, ...]
    long_seeds: tuple[int, ...]


PARTS: dict[Profile, Part] = {
    "smoke": Part(most_sizes=1, lowest_lr=1e-2, long_steps=50, long_lrs=(0.1,), long_seeds=(0, 1)),
    "cpu": Part(most_sizes=2, lowest_lr=1e-2, long_steps=1500, long_lrs=(0.1,), long_seeds=(0, 1, 2)),
    "gpu": Part(most_sizes=2, lowest_lr=3e-4, long_steps=10000, long_lrs=(0.3,), long_seeds=(0, 1, 2)),
}


def z_loss(profile: Profile) -> list[Settings]:
    """The four arms over sizes and rates, then the long runs of the smallest size."""
    part = PARTS[profile]
    sweep = lr_sweep(profile, ARMS, most_sizes=part.most_sizes)
    longer = cross(
        sizes(profile, most=1),
        product({"optim.lr": part.long_lrs, "seed": part.long_seeds, "train.duration": [f"{part.long_steps}steps"]}),
    )
    return [
        *where(sweep, lambda cell: float(cell["optim.lr"] or 0) >= part.lowest_lr),
        *(recipe(profile) | {"probe.every": "2%"} | cell | arm for arm in ARMS for cell in longer),
    ]


STUDIES = (
    Study(
        name="small_proxies/z_loss",
        claim="Output logits drift away in long training at high learning rates; z-loss prevents it.",
        cells=z_loss,
    ),
)

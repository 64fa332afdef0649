"""With and without z-loss and weight decay, and long runs that look for the drift of the logits (figures 3 and 4).

Both z-loss and decay of 1e-4 are the recipe's. The paper's figure 4 is its smallest model at a rate of 0.1; the logits
drift away late in 1e5 steps, so the smallest model also trains longer here, at that rate and a higher one.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.grid import Cell, cross, product, where
from sweeps.studies.small_proxies.recipe import lr_sweep, recipe, sizes
from sweeps.study import Study
from train.record import Profile

ARMS: list[Cell] = [{"optim.z_loss": z, "optim.weight_decay": decay} for z in (0.0, 1e-4) for decay in (0.0, 1e-4)]


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


def z_loss(profile: Profile) -> list[Cell]:
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

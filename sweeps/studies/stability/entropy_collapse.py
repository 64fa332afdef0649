"""The entropy of attention over learning rates, with and without QK-norm, and under sigma-Reparam.

Zhai et al. 2023 (arXiv 2303.06296): where training breaks, attention has collapsed onto few tokens; matrices divided by
their largest singular value, times a learned scale, keep its entropy. There vision, translation and speech, without
QK-norm; here the recipe of `small_proxies` at one size, whose runs with and without QK-norm are the same ones.

What the `cpu` profile found (147K parameters, three seeds): where training stalls without QK-norm, from 3e-2 on,
entropy is a thousandth of its largest value; with QK-norm it is 0.15 of it (0.07 to 0.23) and with σReparam 0.25 (0.06
to 0.44). From the best rate upwards loss and entropy have opposite orders in every seed. σReparam is the least
sensitive of the three: at 0.3 it loses 0.05 to 0.1 nats to its best. Below the best rate entropy is high and so is the
loss: early in training attention is spread.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lrs, recipe, size
from train.record.manifest import Profile

ARMS: list[Settings] = [
    {"model.qk_norm": "none"},
    {"model.qk_norm": "head"},
    {"model.qk_norm": "none", "model.sigma_reparam": True},
]


@dataclass(frozen=True)
class Part:
    """The size, as width and depth, and the seeds."""

    size: tuple[int, int]
    seeds: tuple[int, ...]


PARTS: dict[Profile, Part] = {
    "smoke": Part(size=(16, 1), seeds=(0, 1)),
    "cpu": Part(size=(64, 3), seeds=(0, 1, 2)),
    "gpu": Part(size=(256, 3), seeds=(0, 1, 2)),
}


def entropy_collapse(profile: Profile) -> list[Settings]:
    """Arms times rates times seeds."""
    part = PARTS[profile]
    grid = cross([recipe(profile) | size(profile, *part.size)], lrs(profile), product({"seed": part.seeds}))
    return [cell | arm for arm in ARMS for cell in grid]


STUDIES = (
    Study(
        name="stability/entropy_collapse",
        claim="Attention's entropy collapses where training fails; QK-norm and sigma-Reparam keep it.",
        cells=entropy_collapse,
    ),
)

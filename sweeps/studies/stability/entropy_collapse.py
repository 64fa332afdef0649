"""The entropy of attention over learning rates, with and without QK-norm, and under sigma-Reparam.

Zhai et al. 2023 (arXiv 2303.06296): where training breaks, attention has collapsed onto few tokens; matrices divided by
their largest singular value, times a learned scale, keep its entropy. There vision, translation and speech, without
QK-norm; here the recipe of `small_proxies` at one size, whose runs with and without QK-norm are the same ones.

Below the best rate entropy is high and so is the loss: early in training attention is spread.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, models, runs, seeds
from train.record.manifest import Profile

SHAPE: dict[Profile, tuple[int, int]] = {"smoke": (16, 1), "cpu": (64, 3), "gpu": (256, 3)}
ARMS: list[GridPoint] = [
    {"model.qk_norm": "none"},
    {"model.qk_norm": "head"},
    {"model.qk_norm": "none", "model.sigma_reparam": True},
]


def cells(profile: Profile) -> list[GridPoint]:
    """Arms times rates times seeds."""
    return runs(profile, ARMS, models(profile, SHAPE[profile]), SCALES[profile].rates(), seeds(profile))


STUDY = Study(
    claim="Attention's entropy collapses where training fails; QK-norm and sigma-Reparam keep it.", cells=cells
)

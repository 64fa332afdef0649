"""Spikes of the training loss where Adam's second moment is out of date, over beta2.

Wortsman et al. 2023 (arXiv 2304.13013), with CLIP models: the loss spikes 1 to 8 steps after the RMS of g / sqrt(v) of
a tensor, first of the patch embedding, was large; more so at high beta2; StableAdamW, which slows such a tensor down,
needs no clipping. Small models are seldom surprised, so that here one batch now and then has all its bytes mirrored (b
becomes V - 1 - b); the losses of these batches are left out when spikes are counted. The learning rate is high, and
stays so. Arms: no clipping, the gradients' norm clipped at 1, each tensor's norm clipped at 1.5 times its mean so far
(after AdaGC, Wang et al. 2025, arXiv 2502.11034), and StableAdamW without clipping. Every step is probed where only
clipping differs.

Only two of four seeds have spikes enough at `cpu` to ask what they follow.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import models, runs
from train.record.manifest import Profile

PROBED: GridPoint = {"probe.every": "1steps", "probe.sequences": 1}
ARMS: list[GridPoint] = [
    PROBED | {"optim.clip": None},
    PROBED | {"optim.clip": 1.0},
    {"optim.clip": 1.5, "optim.clip_by": "tensor", "probe.every": None},
    {"optim.clip": None, "optim.name": "stable_adamw", "probe.every": None},
]
SHAPE: dict[Profile, tuple[int, int]] = {"smoke": (16, 1), "cpu": (32, 2), "gpu": (256, 3)}
SEEDS: dict[Profile, int] = {"smoke": 2, "cpu": 4, "gpu": 3}
BETA2S = (0.9, 0.95, 0.99, 0.999, 0.9999)
# The rate, the steps, and how often the bytes of one batch are mirrored.
TRAINED: dict[Profile, GridPoint] = {
    "smoke": {"optim.lr": 3e-2, "train.duration": "40steps", "data.shift_every": "25steps"},
    "cpu": {"optim.lr": 5e-2, "train.duration": "330steps", "data.shift_every": "100steps"},
    "gpu": {"optim.lr": 3e-2, "train.duration": "2200steps", "data.shift_every": "500steps"},
}


def cells(profile: Profile) -> list[GridPoint]:
    """Arms times beta2 times seeds."""
    constant: GridPoint = {"schedule": "constant", "schedule.floor": 0.0, "schedule.floor_is": "relative"}
    shared = TRAINED[profile] | constant | {"data.shift_for": "1steps"}
    beta2s = BETA2S if profile != "smoke" else (0.9, 0.999)
    grid = product({"optim.beta2": beta2s, "seed": range(SEEDS[profile])})
    return runs(profile, ARMS, models(profile, SHAPE[profile]), [shared], grid)


STUDY = Study(
    claim="The loss spikes where the second moment is out of date, more so at high beta2; StableAdamW prevents it.",
    cells=cells,
)

"""Spikes of the training loss where Adam's second moment is out of date, over beta2.

Wortsman et al. 2023 (arXiv 2304.13013), with CLIP models: the loss spikes 1 to 8 steps after the RMS of g / sqrt(v) of
a tensor, first of the patch embedding, was large; more so at high beta2; StableAdamW, which slows such a tensor down,
needs no clipping. Small models are seldom surprised, so that here one batch now and then has all its bytes mirrored (b
becomes V - 1 - b); the losses of these batches are left out when spikes are counted. The learning rate is high, and
stays so. Arms: no clipping, the gradients' norm clipped at 1, each tensor's norm clipped at 1.5 times its mean so far
(after AdaGC, Wang et al. 2025, arXiv 2502.11034), and StableAdamW without clipping. Every step is probed where only
clipping differs.

What the `cpu` profile found (28K parameters, four seeds): the bump of the loss beside a mirrored batch grows with beta2
by 0.036 nats per decade of 1 / (1 - beta2) (0.021 to 0.051), and spikes follow steps with an out-of-date second moment
12.7 times as often as chance would have it, in the two seeds that have spikes enough. StableAdamW costs no loss
(-0.003, -0.008 to 0.002). Whether it, or a low beta2, makes spikes rarer is inconclusive.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import recipe, size
from train.record.manifest import Profile

PROBED: Settings = {"probe.every": "1steps", "probe.sequences": 1}
ARMS: list[Settings] = [
    PROBED | {"optim.clip": None},
    PROBED | {"optim.clip": 1.0},
    {"optim.clip": 1.5, "optim.clip_by": "tensor", "probe.every": None},
    {"optim.clip": None, "optim.name": "stable_adamw", "probe.every": None},
]


@dataclass(frozen=True)
class Part:
    """The size, as width and depth; the steps, and how often and for how many of them the bytes are mirrored."""

    size: tuple[int, int]
    lr: float
    steps: int
    shift_every: int
    shift_for: int
    beta2s: tuple[float, ...]
    seeds: tuple[int, ...]


PARTS: dict[Profile, Part] = {
    "smoke": Part(size=(16, 1), lr=3e-2, steps=40, shift_every=25, shift_for=1, beta2s=(0.9, 0.999), seeds=(0, 1)),
    "cpu": Part(
        size=(32, 2),
        lr=5e-2,
        steps=330,
        shift_every=100,
        shift_for=1,
        beta2s=(0.9, 0.95, 0.99, 0.999, 0.9999),
        seeds=(0, 1, 2, 3),
    ),
    "gpu": Part(
        size=(256, 3),
        lr=3e-2,
        steps=2200,
        shift_every=500,
        shift_for=1,
        beta2s=(0.9, 0.95, 0.99, 0.999, 0.9999),
        seeds=(0, 1, 2),
    ),
}


def beta2_spikes(profile: Profile) -> list[Settings]:
    """Arms times beta2 times seeds."""
    part = PARTS[profile]
    shared: Settings = {
        "optim.lr": part.lr,
        "schedule": "constant",
        "schedule.floor": 0.0,
        "schedule.floor_is": "relative",
        "train.duration": f"{part.steps}steps",
        "data.shift_every": f"{part.shift_every}steps",
        "data.shift_for": f"{part.shift_for}steps",
    }
    grid = cross(
        [recipe(profile) | size(profile, *part.size) | shared],
        product({"optim.beta2": part.beta2s, "seed": part.seeds}),
    )
    return [cell | arm for arm in ARMS for cell in grid]


STUDIES = (
    Study(
        name="stability/beta2_spikes",
        claim="The loss spikes where the second moment is out of date, more so at high beta2; StableAdamW prevents it.",
        cells=beta2_spikes,
    ),
)

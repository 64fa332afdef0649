"""Learning-rate transfer: the best rate against width and against depth, and what using the base model's costs.

Yang et al. 2022 (arXiv 2203.03466, figure 1): under muP the best rate of a narrow model is near the best one at every
width, under the standard parametrisation it moves left about as 1/width. Dey et al. 2025 (CompleteP, arXiv 2505.01618):
muP's best rate still moves with the depth, CompleteP's does not. The settings follow nanoGPT-mup (Dey et al. 2024):
widths at two blocks with heads of one dimension, a grid of factor 2 common to all, warm-up and linear decay. Loss is on
held-out text. A grid whose best rate is at an end is widened there, three rates at most at each end.

The readout is drawn at the scale of a matrix (`readout_scale=1`), as in the published recipes, and nothing decays: then
only the learning rate is transferred.

What the `cpu` profile found (50 steps, four seeds, 95 % intervals): over an 8-fold width the standard parametrisation's
best rate falls by log2 -3.3 (-4.2 to -2.4), in proportion to 1/width, so that its grid had to be widened twice; muP's
moves by -0.4 (-0.9 to 0.2) and CompleteP's by -0.1 (-0.6 to 0.4). To train the widest model with the best rate of the
narrowest costs 0.42 nats under the standard parametrisation and 0.02 under muP. At its own best rate, though, the
standard parametrisation is the best of the three at every width above the base (2.57 against 2.72 nats at 256): zero
queries and 1/d start slowly, and 50 steps are few. Over an 8-fold depth no best rate is sure to move, CompleteP's by
-0.9 (-1.9 to 0.1); but only under CompleteP are deeper models better (2.82 nats for 2.84), while they lose up to 0.1
nats under the others.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product, zipped
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen
from train.record.manifest import Profile


@dataclass(frozen=True)
class Scale:
    """Widths at the base depth, and depths at the base width; the first of each is the base. Rates are 2^k."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    head_dim: int
    log2_lrs: range
    steps: int
    batch: int
    context: int
    seeds: tuple[int, ...]
    val_windows: int


SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        widths=(8, 16),
        depths=(1, 2),
        head_dim=4,
        log2_lrs=range(-9, 4, 6),
        steps=6,
        batch=4,
        context=16,
        seeds=(0, 1),
        val_windows=16,
    ),
    "cpu": Scale(
        widths=(32, 64, 128, 256),
        depths=(2, 4, 8, 16),
        head_dim=16,
        log2_lrs=range(-8, -3),
        steps=50,
        batch=8,
        context=32,
        seeds=(0, 1, 2, 3),
        val_windows=256,
    ),
    "gpu": Scale(
        widths=(128, 512, 1024),
        depths=(2, 16),
        head_dim=64,
        log2_lrs=range(-11, -6),
        steps=150,
        batch=16,
        context=256,
        seeds=(0, 1, 2),
        val_windows=512,
    ),
}

ARMS: list[Settings] = [{"param": "standard"}, {"param": "mup"}, {"param": "completep"}]


def transfer(profile: Profile) -> list[Settings]:
    """Rates times seeds at every width and at every depth; both have the base model."""
    scale = SCALES[profile]
    base_width, base_depth = scale.widths[0], scale.depths[0]
    common: Settings = {
        "data": "stdlib",
        "data.context": scale.context,
        "param.base_width": base_width,
        "param.base_depth": base_depth,
        "param.readout_scale": 1.0,
        "optim.weight_decay": 0.0,
        "schedule": "linear",
        "schedule.warmup": "10%",
        "train.batch_size": scale.batch,
        "train.duration": f"{scale.steps}steps",
        "train.checkpoint_every": "100%",
        "eval.every": "100%",
        "eval.sequences": scale.val_windows,
    }
    rates = cross(zipped({"optim.lr": [2.0**k for k in scale.log2_lrs]}), product({"seed": scale.seeds}))

    def size(width: int, depth: int) -> Settings:
        return {"model.width": width, "model.heads": width // scale.head_dim, "model.depth": depth}

    widths = [size(width, base_depth) for width in scale.widths]
    depths = [size(base_width, depth) for depth in scale.depths[1:]]
    return [common | cell for cell in cross(ARMS, [*widths, *depths], rates)]


STUDIES = (
    Study(
        name="mup/transfer",
        claim="The best learning rate stays where it is over width under muP, and over depth under CompleteP.",
        cells=transfer,
        widen=Widen(key="optim.lr", at_most=3),
    ),
)

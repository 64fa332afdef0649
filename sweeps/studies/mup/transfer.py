"""Learning-rate transfer: the best rate against width and against depth, and what using the base model's costs.

Yang et al. 2022 (arXiv 2203.03466, figure 1): under muP the best rate of a narrow model is near the best one at every
width, under the standard parametrisation it moves left about as 1/width. Dey et al. 2025 (CompleteP, arXiv 2505.01618):
muP's best rate still moves with the depth, CompleteP's does not. The settings follow nanoGPT-mup (Dey et al. 2024):
widths at two blocks with heads of one dimension, a grid of factor 2 common to all, warm-up and linear decay. Loss is on
held-out text. A grid whose best rate is at an end is widened there, three rates at most at each end.

The readout is drawn at the scale of a matrix (`readout_scale=1`), as in the published recipes, and nothing decays: then
only the learning rate is transferred.

What to make of it: at its own best rate the standard parametrisation is the best of the three at every width above the
base of `cpu`, where zero queries and 1/d start slowly and 50 steps are few. Over depth no best rate is sure to move;
but only under CompleteP are deeper models better.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen
from sweeps.studies.mup.recipe import powers_of_two
from sweeps.studies.scale import scales
from train.record.manifest import Profile

# Widths at the least depth, and depths at the least width.
SCALES = scales(
    widths=((8, 16), (32, 64, 128, 256), (128, 512, 1024)),
    depths=((1, 2), (2, 4, 8, 16), (2, 16)),
    head_dim=(4, 16, 64),
    context=(16, 32, 256),
    batch=(4, 8, 16),
    steps=(6, 50, 150),
    lrs=(powers_of_two(-9, -3, 3), powers_of_two(*range(-8, -3)), powers_of_two(*range(-11, -6))),
    seeds=(2, 4, 3),
    val_windows=(16, 256, 512),
)
ARMS: list[GridPoint] = [{"param": "standard"}, {"param": "mup"}, {"param": "completep"}]


def cells(profile: Profile) -> list[GridPoint]:
    """Rates times seeds at every width and at every depth; both have the base model."""
    scale = SCALES[profile]
    width, depth = scale.widths[0], scale.depths[0]
    common = scale.training() | {
        "param.base_width": width,
        "param.base_depth": depth,
        "param.readout_scale": 1.0,
        "optim.weight_decay": 0.0,
        "schedule": "linear",
        "schedule.warmup": "10%",
    }
    models = [scale.model(wide, depth) for wide in scale.widths]
    models += [scale.model(width, deep) for deep in scale.depths[1:]]
    return cross([common], ARMS, models, scale.rates(), scale.each_seed())


STUDY = Study(
    claim="The best learning rate stays where it is over width under muP, and over depth under CompleteP.",
    cells=cells,
    widen=Widen(key="optim.lr", at_most=3),
)

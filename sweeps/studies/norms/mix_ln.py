"""Post-LN in the first blocks and pre-LN in the others, for several shares (Li et al. 2024, arXiv 2412.13795).

As published: no clipping, no weight decay, Adam's beta2 0.999, warm-up over a tenth of the steps, and embeddings of
standard deviation sqrt(2/5), as in the released code. Its N(0, 0.02) is scaled with the width: sqrt(768/width) times as
much gives a matrix the gain that it has in the paper's 130M model. At 0.02 and width 64 the branches add so little to
the stream that at initialisation no placement tilts the gradients. A share of 0 is pre-LN, and one of 1 is Post-LN with
the final norm.

Pre-LN is never beaten at `cpu`: its gradients are no less even than those of a quarter of Post-LN blocks, it bears
higher rates, and no share of Post-LN blocks has a lower loss.
"""

from __future__ import annotations

from math import sqrt

from sweeps.cells.grid import GridPoint, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import recipe
from sweeps.studies.scale import scales
from train.record.manifest import Profile

FRACTIONS = (0.0, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1.0)
SCALES = scales(
    widths=((16,), (48,), (256,)),
    depths=((4,), (12,), (12,)),
    head_dim=(16, 16, 64),
    context=(16, 64, 256),
    batch=(4, 8, 16),
    steps=(20, 150, 1000),
    lrs=((3e-3, 3e-2), (1e-3, 3e-3, 1e-2, 3e-2), (5e-4, 1e-3, 3e-3)),
    seeds=(2, 3, 3),
    val_windows=(16, 64, 256),
    probe_every=("2steps", "5steps", "1%"),
)


def cells(profile: Profile) -> list[GridPoint]:
    """Shares times rates times seeds; at the second rate the loss without each block too."""
    scale = SCALES[profile]
    common = recipe(scale) | {
        "model.norm_placement": "mix",
        "param.init_std": 0.02 * sqrt(768 / scale.widths[0]),
        "param.embedding_std": sqrt(2 / 5),
        "optim.clip": None,
        "optim.beta2": 0.999,
    }
    shares = FRACTIONS if profile != "smoke" else (0.0, 1 / 4, 1 / 2, 1.0)
    axes = {"model.depth": scale.depths, "model.mix_fraction": shares, "seed": range(scale.seeds)}
    rates: list[GridPoint] = [{"optim.lr": lr, "eval.layers": lr == scale.lrs[1]} for lr in scale.lrs]
    return cross([common], product(axes), rates)


STUDY = Study(
    claim="Post-LN in the first quarter of the blocks evens out the gradients of a pre-LN model.", cells=cells
)

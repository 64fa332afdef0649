"""LayerNorm Scaling over depths, and what each block does (Sun et al. 2025, arXiv 2502.05795).

The norms of block l are divided by sqrt(l). As published: all weights and embeddings from N(0, 0.02), no clipping, no
weight decay, Adam's beta2 0.999, warm-up over a tenth of the steps. Pre-LN and LayerNorm Scaling run at every depth and
rate; at the greatest depth and one rate Scaled Init (GPT-2's), Post-LN and Peri-LN join them, and the loss without each
block and the angles between blocks' inputs are measured. Peri-LN is not in the paper; it bounds the same variance by
other means. The one rate is 3e-3 at `cpu`, where both arms do better with it than with the paper's 1e-3.

The reason that the paper gives for the gain is not seen at `cpu`: deep blocks turn the stream less than in pre-LN, and
removing one costs no more.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import recipe
from sweeps.studies.scale import scales
from train.record.manifest import Profile

# The middle learning rate is that of the arms at the greatest depth.
SCALES = scales(
    widths=((16,), (64,), (256,)),
    depths=((2, 4), (4, 8, 12), (6, 12, 24)),
    head_dim=(16, 32, 64),
    context=(16, 64, 256),
    batch=(4, 8, 16),
    steps=(20, 200, 1000),
    lrs=((1e-2,), (1e-3, 3e-3, 1e-2), (5e-4, 1e-3, 2e-3)),
    seeds=(2, 4, 3),
    val_windows=(16, 128, 256),
    probe_every=("20%", "5%", "2%"),
)
PRE: GridPoint = {"model.norm_placement": "pre"}
LNS: GridPoint = PRE | {"model.layernorm_scaling": True}
OTHERS: list[GridPoint] = [
    PRE | {"param.scaled_residual_init": True},
    {"model.norm_placement": "post"},
    {"model.norm_placement": "peri"},
]


def cells(profile: Profile) -> list[GridPoint]:
    """Both arms over depths and rates, and all arms at the greatest depth."""
    scale = SCALES[profile]
    common = [recipe(scale) | {"optim.clip": None, "optim.beta2": 0.999}]
    deepest: GridPoint = {"model.depth": scale.depths[-1], "optim.lr": scale.lrs[len(scale.lrs) // 2]}
    grid = product({"model.depth": scale.depths, "optim.lr": scale.lrs})
    grid.remove(deepest)  # its arms are measured block by block
    return [
        *cross(common, [PRE, LNS], grid, scale.each_seed()),
        *cross(common, [PRE, LNS, *OTHERS], [deepest | {"eval.layers": True}], scale.each_seed()),
    ]


STUDY = Study(
    claim="Dividing the norms of block l by sqrt(l) bounds the variance of a deep pre-LN stream and lowers loss.",
    cells=cells,
)

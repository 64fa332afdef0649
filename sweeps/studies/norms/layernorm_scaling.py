"""LayerNorm Scaling over depths, and what each block does (Sun et al. 2025, arXiv 2502.05795).

The norms of block l are divided by sqrt(l). As published: all weights and embeddings from N(0, 0.02), no clipping, no
weight decay, Adam's beta2 0.999, warm-up over a tenth of the steps. Pre-LN and LayerNorm Scaling run at every depth and
rate; at the greatest depth and one rate Scaled Init (GPT-2's), Post-LN and Peri-LN join them, and the loss without each
block and the angles between blocks' inputs are measured. Peri-LN is not in the paper; it bounds the same variance by
other means. The one rate is 3e-3 at `cpu`, where both arms do better with it than with the paper's 1e-3.

What the `cpu` profile found (627K parameters at depth 12, four seeds): LayerNorm Scaling keeps the last block's
variance 0.83 decades (0.63 to 1.02) below that of pre-LN and ends 0.18 nats (0.08 to 0.28) lower at depth 12. Whether
that gain grows with depth is inconclusive. The reason given for it is not seen: deep blocks turn the stream less than
in pre-LN (by 0.019 pi, 0.009 to 0.028), and removing one costs no more.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import Scale, recipe
from train.record.manifest import Profile

# The middle learning rate is that of the arms at the greatest depth.
SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        width=16,
        heads=1,
        depths=(2, 4),
        context=16,
        batch=4,
        steps=20,
        lrs=(1e-2,),
        seeds=(0, 1),
        val_windows=16,
        probe_every="20%",
    ),
    "cpu": Scale(
        width=64,
        heads=2,
        depths=(4, 8, 12),
        context=64,
        batch=8,
        steps=200,
        lrs=(1e-3, 3e-3, 1e-2),
        seeds=(0, 1, 2, 3),
        val_windows=128,
        probe_every="5%",
    ),
    "gpu": Scale(
        width=256,
        heads=4,
        depths=(6, 12, 24),
        context=256,
        batch=16,
        steps=1000,
        lrs=(5e-4, 1e-3, 2e-3),
        seeds=(0, 1, 2),
        val_windows=256,
        probe_every="2%",
    ),
}
PRE: Settings = {"model.norm_placement": "pre"}
LNS: Settings = PRE | {"model.layernorm_scaling": True}
OTHERS: list[Settings] = [
    PRE | {"param.scaled_residual_init": True},
    {"model.norm_placement": "post"},
    {"model.norm_placement": "peri"},
]


def layernorm_scaling(profile: Profile) -> list[Settings]:
    """Both arms over depths and rates, and all arms at the greatest depth."""
    scale = SCALES[profile]
    common = [recipe(scale) | {"optim.clip": None, "optim.beta2": 0.999}]
    seeds = product({"seed": scale.seeds})
    deepest, one_lr = scale.depths[-1], scale.lrs[len(scale.lrs) // 2]
    grid = product({"model.depth": scale.depths, "optim.lr": scale.lrs})
    # The arms at the greatest depth are measured block by block, and so are no part of the grid.
    grid = [cell for cell in grid if cell != {"model.depth": deepest, "optim.lr": one_lr}]
    blocks: Settings = {"model.depth": deepest, "optim.lr": one_lr, "eval.layers": True}
    return [*cross(common, [PRE, LNS], grid, seeds), *cross(common, [PRE, LNS, *OTHERS], [blocks], seeds)]


STUDIES = (
    Study(
        name="norms/layernorm_scaling",
        claim="Dividing the norms of block l by sqrt(l) bounds the variance of a deep pre-LN stream and lowers loss.",
        cells=layernorm_scaling,
    ),
)

"""Pre-LN, Peri-LN and Post-LN over learning rates and seeds (Kim et al. 2025, arXiv 2502.02732).

Peri-LN normalises a branch at its input and at its output, and the embedding once. All weights and embeddings come from
N(0, 0.02), gradients are clipped at 1, and the warm-up takes a tenth of the steps; there is no weight decay, so that
nothing but the placement holds the residual stream. The paper has 400M to 3.2B parameters, 30B tokens, five seeds, and
learning rates from 1e-4 to 5e-3; a model this narrow takes higher ones.

What the `cpu` profile found (428K parameters, 8 blocks, five seeds): Peri-LN fails at none of the rates, and pre-LN
from 1e-2 on (0.88 decades apart, 0.50 to 1.26); its sensitivity is lower by 0.15 (0.06 to 0.23), its best loss by 0.16
nats (0.08 to 0.23), and its stream at 1e-2 has a variance 2.2 decades below that of pre-LN. Post-LN fails earliest of
the three, but at 3e-3 it is as good as any. Gradient norms at initialisation are less even over the blocks under
Peri-LN, and not more.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import Scale, recipe
from train.record.manifest import Profile

SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        width=16,
        heads=1,
        depths=(4,),
        context=16,
        batch=4,
        steps=20,
        lrs=(1e-2, 1e-1),
        seeds=(0, 1),
        val_windows=16,
        probe_every="20%",
    ),
    "cpu": Scale(
        width=64,
        heads=2,
        depths=(8,),
        context=64,
        batch=8,
        steps=200,
        lrs=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        seeds=(0, 1, 2, 3, 4),  # as many as the paper's
        val_windows=128,
        probe_every="5%",
    ),
    "gpu": Scale(
        width=256,
        heads=4,
        depths=(12,),
        context=256,
        batch=16,
        steps=1000,
        lrs=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        seeds=(0, 1, 2),
        val_windows=256,
        probe_every="2%",
    ),
}
PLACEMENTS = ("pre", "peri", "post")


def peri_ln(profile: Profile) -> list[Settings]:
    """Placements times rates times seeds, at one size."""
    scale = SCALES[profile]
    axes = product(
        {
            "model.depth": scale.depths,
            "model.norm_placement": PLACEMENTS,
            "optim.lr": scale.lrs,
            "seed": scale.seeds,
        }
    )
    return cross([recipe(scale) | {"optim.clip": 1.0}], axes)


STUDIES = (
    Study(
        name="norms/peri_ln",
        claim="Norms around both ends of a branch bound the residual stream and let training bear higher rates.",
        cells=peri_ln,
    ),
)

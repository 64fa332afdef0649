"""Pre-LN, Peri-LN and Post-LN over learning rates and seeds (Kim et al. 2025, arXiv 2502.02732).

Peri-LN normalises a branch at its input and at its output, and the embedding once. All weights and embeddings come from
N(0, 0.02), gradients are clipped at 1, and the warm-up takes a tenth of the steps; there is no weight decay, so that
nothing but the placement holds the residual stream. The paper has 400M to 3.2B parameters, 30B tokens, five seeds, and
learning rates from 1e-4 to 5e-3; a model this narrow takes higher ones.

At `cpu` Post-LN fails earliest of the three, but at 3e-3 it is as good as any; and gradient norms at initialisation are
less even over the blocks under Peri-LN, and not more.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import recipe
from sweeps.studies.scale import scales
from train.record.manifest import Profile

SCALES = scales(
    widths=((16,), (64,), (256,)),
    depths=((4,), (8,), (12,)),
    head_dim=(16, 32, 64),
    context=(16, 64, 256),
    batch=(4, 8, 16),
    steps=(20, 200, 1000),
    lrs=((1e-2, 1e-1), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    seeds=(2, 5, 3),  # the paper has five
    val_windows=(16, 128, 256),
    probe_every=("20%", "5%", "2%"),
)


def cells(profile: Profile) -> list[GridPoint]:
    """Placements times rates times seeds, at one size."""
    scale = SCALES[profile]
    arms = product({"model.depth": scale.depths, "model.norm_placement": ("pre", "peri", "post")})
    return cross([recipe(scale) | {"optim.clip": 1.0}], arms, scale.rates(), scale.each_seed())


STUDY = Study(
    claim="Norms around both ends of a branch bound the residual stream and let training bear higher rates.",
    cells=cells,
)

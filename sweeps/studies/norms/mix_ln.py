"""Post-LN in the first blocks and pre-LN in the others, for several shares (Li et al. 2024, arXiv 2412.13795).

As published: no clipping, no weight decay, Adam's beta2 0.999, warm-up over a tenth of the steps, and embeddings of
standard deviation sqrt(2/5), as in the released code. Its N(0, 0.02) is scaled with the width: sqrt(768/width) times as
much gives a matrix the gain that it has in the paper's 130M model. At 0.02 and width 64 the branches add so little to
the stream that at initialisation no placement tilts the gradients. A share of 0 is pre-LN, and one of 1 is Post-LN with
the final norm.

What the `cpu` profile found (358K parameters, 12 blocks, three seeds): gradients tilt as published, down with depth in
pre-LN and up in Post-LN, and a quarter of Post-LN blocks makes them more even than Post-LN does, though no more so than
pre-LN. Mix-LN trains at rates 0.47 decades (0.41 to 0.53) above those of Post-LN; pre-LN bears still higher ones. No
share of Post-LN blocks has a loss below that of pre-LN, within 0.02 nats.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from math import sqrt

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.norms.recipe import Scale, recipe
from train.record.manifest import Profile

FRACTIONS: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.0, 1 / 4, 1 / 2, 1.0),
    "cpu": (0.0, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1.0),
    "gpu": (0.0, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1.0),
}
SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        width=16,
        heads=1,
        depths=(4,),
        context=16,
        batch=4,
        steps=20,
        lrs=(3e-3, 3e-2),
        seeds=(0, 1),
        val_windows=16,
        probe_every="2steps",
    ),
    "cpu": Scale(
        width=48,
        heads=3,
        depths=(12,),
        context=64,
        batch=8,
        steps=150,
        lrs=(1e-3, 3e-3, 1e-2, 3e-2),
        seeds=(0, 1, 2),
        val_windows=64,
        probe_every="5steps",
    ),
    "gpu": Scale(
        width=256,
        heads=4,
        depths=(12,),
        context=256,
        batch=16,
        steps=1000,
        lrs=(5e-4, 1e-3, 3e-3),
        seeds=(0, 1, 2),
        val_windows=256,
        probe_every="1%",
    ),
}


def mix_ln(profile: Profile) -> list[Settings]:
    """Shares times rates times seeds; at the second rate the loss without each block too."""
    scale = SCALES[profile]
    common = recipe(scale) | {
        "model.norm_placement": "mix",
        "param.init_std": 0.02 * sqrt(768 / scale.width),
        "param.embedding_std": sqrt(2 / 5),
        "optim.clip": None,
        "optim.beta2": 0.999,
    }
    axes = {"model.depth": scale.depths, "model.mix_fraction": FRACTIONS[profile], "seed": scale.seeds}
    rates: list[Settings] = [{"optim.lr": lr, "eval.layers": lr == scale.lrs[1]} for lr in scale.lrs]
    return cross([common], product(axes), rates)


STUDIES = (
    Study(
        name="norms/mix_ln",
        claim="Post-LN in the first quarter of the blocks evens out the gradients of a pre-LN model.",
        cells=mix_ln,
    ),
)

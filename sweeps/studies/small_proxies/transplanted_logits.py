"""Attention logits of a given size, planted into a model that trains well otherwise (figure 10).

Queries and keys get an RMS of sqrt(kappa) and logits the scale 1/d, so that no logit is above kappa. The paper's model
has 10M parameters, which `gpu` has too. The model without blocks, a table of bigrams, is run at every rate of the
recipe, and so is the kappa that it is compared with: each is judged at its best rate.

What the `cpu` profile found (147K parameters, three seeds): the best kappa is 10, harm begins near 100, and bigrams are
passed between 100 and 300, a decade and a half before the paper's 1e4, with which the loss is 13 % higher than theirs
(ln loss 0.125, 0.102 to 0.149). At 1e3 it is 25 % higher than at the best kappa (0.22, 0.21 to 0.24).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import lrs, recipe, seeds, size
from train.record.manifest import Profile


@dataclass(frozen=True)
class Part:
    """The model, its learning rates, and the kappas."""

    width: int
    depth: int
    lrs: tuple[float, ...]
    kappas: tuple[float, ...]


WORSE = 1e4  # from here on the paper's model is worse than bigrams
PARTS: dict[Profile, Part] = {
    "smoke": Part(16, 1, lrs=(1e-2,), kappas=(1.0, 1e3, 1e4)),
    "cpu": Part(64, 3, lrs=(3e-3, 1e-2), kappas=(1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5)),
    "gpu": Part(512, 3, lrs=(3e-3,), kappas=(1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5)),
}


def transplanted_logits(profile: Profile) -> list[Settings]:
    """Every kappa, then the bigrams; all with the recipe's seeds."""
    part = PARTS[profile]
    model = recipe(profile) | size(profile, part.width, part.depth) | {"model.qk_norm": "none"}
    others = [kappa for kappa in part.kappas if kappa != WORSE]
    grid = [*product({"optim.lr": part.lrs, "model.qk_rms": others}), *cross(lrs(profile), [{"model.qk_rms": WORSE}])]
    planted = cross(grid, seeds(profile))
    bigrams = {"model.depth": 0, "model.heads": 1}
    return [
        *(model | {"model.attention_scale": "1/d"} | cell for cell in planted),
        *(model | bigrams | cell for cell in cross(lrs(profile), seeds(profile))),
    ]


STUDIES = (
    Study(
        name="small_proxies/transplanted_logits",
        claim="Large attention logits alone spoil a model: from 1e4 on it is worse than a table of bigrams.",
        cells=transplanted_logits,
    ),
)

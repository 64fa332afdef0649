"""Attention logits of a given size, planted into a model that trains well otherwise (figure 10).

Queries and keys get an RMS of sqrt(kappa) and logits the scale 1/d, so that no logit is above kappa. The paper's model
has 10M parameters, which `gpu` has too. The model without blocks, a table of bigrams, is run at every rate of the
recipe, and so is the kappa that it is compared with: each is judged at its best rate.

At `cpu` harm begins, and bigrams are passed, a decade and a half before the paper's 1e4.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, models, runs, seeds
from train.record.manifest import Profile

WORSE = 1e4  # from here on the paper's model is worse than bigrams
SHAPE: dict[Profile, tuple[int, int]] = {"smoke": (16, 1), "cpu": (64, 3), "gpu": (512, 3)}
LRS: dict[Profile, tuple[float, ...]] = {"smoke": (1e-2,), "cpu": (3e-3, 1e-2), "gpu": (3e-3,)}
OTHERS = (1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e5)


def cells(profile: Profile) -> list[GridPoint]:
    """Every kappa, then the bigrams; all with the recipe's seeds."""
    (model,), rates = models(profile, SHAPE[profile]), SCALES[profile].rates()
    others = OTHERS if profile != "smoke" else (1.0, 1e3)
    planted = [*product({"optim.lr": LRS[profile], "model.qk_rms": others}), *cross(rates, [{"model.qk_rms": WORSE}])]
    bare: GridPoint = {"model.qk_norm": "none"}
    return [
        *runs(profile, [bare | {"model.attention_scale": "1/d"}], [model], planted, seeds(profile)),
        *runs(profile, [bare | {"model.depth": 0, "model.heads": 1}], [model], rates, seeds(profile)),
    ]


STUDY = Study(
    claim="Large attention logits alone spoil a model: from 1e4 on it is worse than a table of bigrams.", cells=cells
)

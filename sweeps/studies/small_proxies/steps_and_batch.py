"""Half and twice the steps, and half and twice the batch with the same tokens (figures E.7 and E.9).

The paper's null results: 5e4, 1e5 and 2e5 steps; 256, 512 and 1024 sequences a step. Shares such as the warm-up's
follow the number of steps. At `cpu` the smallest size alone, since a long arm costs as much as all short ones.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep
from train.record.manifest import Profile


def cells(profile: Profile) -> list[GridPoint]:
    """The recipe's run length and batch; then one of the two changed, and with the batch the steps."""
    steps, batch = SCALES[profile].steps, SCALES[profile].batch
    half, twice = f"{steps // 2}steps", f"{2 * steps}steps"
    arms: list[GridPoint] = [
        {},
        {"train.duration": half},
        {"train.duration": twice},
        {"train.duration": twice, "train.batch_size": batch // 2},
        {"train.duration": half, "train.batch_size": 2 * batch},
    ]
    return lr_sweep(profile, arms, most_sizes=2 if profile == "gpu" else 1, more_seeds=True)


STUDY = Study(
    claim="Neither the number of steps nor the batch size changes how sensitive training is to the learning rate.",
    cells=cells,
)

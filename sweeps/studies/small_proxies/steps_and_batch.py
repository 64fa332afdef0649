"""Half and twice the steps, and half and twice the batch with the same tokens (figures E.7 and E.9).

The paper's null results: 5e4, 1e5 and 2e5 steps; 256, 512 and 1024 sequences a step. Shares such as the warm-up's
follow the number of steps. At `cpu` the smallest size alone, since a long arm costs as much as all short ones.

What the `cpu` profile found (25K parameters, five seeds): equality within 0.05 is not shown. Every interval reaches
beyond it; with twice the batch, which halves the steps, the sensitivity is higher by 0.066 (0.020 to 0.112), and it
falls from half to twice the steps from 0.21 to 0.14.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep
from train.record.manifest import Profile


def steps_and_batch(profile: Profile) -> list[Settings]:
    """The recipe's run length and batch; then one of the two changed, and with the batch the steps."""
    return lr_sweep(profile, arms(profile), most_sizes=2 if profile == "gpu" else 1, more_seeds=True)


def arms(profile: Profile) -> list[Settings]:
    """The recipe, half and twice the steps, half and twice the batch."""
    steps, batch = SCALES[profile].steps, SCALES[profile].batch
    return [
        {},
        {"train.duration": f"{steps // 2}steps"},
        {"train.duration": f"{2 * steps}steps"},
        {"train.duration": f"{2 * steps}steps", "train.batch_size": batch // 2},
        {"train.duration": f"{steps // 2}steps", "train.batch_size": 2 * batch},
    ]


STUDIES = (
    Study(
        name="small_proxies/steps_and_batch",
        claim="Neither the number of steps nor the batch size changes how sensitive training is to the learning rate.",
        cells=steps_and_batch,
    ),
)

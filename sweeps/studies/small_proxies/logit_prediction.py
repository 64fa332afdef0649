"""The largest attention logit at an early step over sizes, without QK-norm, to extrapolate to the next size (figure 9).

The paper reads it at step 2e3 of 1e5, before the warm-up ends at 5e3. Here it is read after 4 % of the steps, where the
recipe's runs have their first probe after the start and the warm-up of 5 % is not over either. The recipe's sizes are
trained to the end, which says who fails; of the others, and of the largest, which is held out of the fit, only these
first steps are run. They have the learning rates and batches of the full runs (of all but the tiny `smoke` ones, whose
warm-up is a single step).

No early logit of `cpu` is beyond 1e4, where the paper's runs diverge, and one of three held-out runs at 0.3, the
nearest to it, was gone before the logit is read. The held-out size is not trained to the end, so that which of its runs
fail is not put to the test.
"""

from __future__ import annotations

from conf.duration import Duration
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, models, recipe, runs, seeds
from train.record.manifest import Profile

ARM: GridPoint = {"model.qk_norm": "none"}
WHOLE: dict[Profile, int] = {"smoke": 2, "cpu": 3, "gpu": 3}  # of the recipe's sizes, smallest first
# (width, depth) beside those; the last one is the largest of all.
FURTHER: dict[Profile, list[tuple[int, int]]] = {
    "smoke": [(16, 2), (32, 2), (48, 2)],
    "cpu": [(32, 1), (128, 4), (192, 4)],
    "gpu": [(64, 3), (256, 6), (768, 8), (1024, 8)],
}
LOWEST_LR: dict[Profile, float] = {"smoke": 1e-2, "cpu": 1e-3, "gpu": 3e-4}


def cells(profile: Profile) -> list[GridPoint]:
    """The arm without QK-norm of `small_proxies/qk_norm`, and the first steps of further sizes."""
    lowest = LOWEST_LR[profile]
    further = models(profile, *FURTHER[profile])
    return [
        *lr_sweep(profile, [ARM], most_sizes=WHOLE[profile], lowest=lowest),
        *runs(profile, [ARM | first_steps(profile)], further, SCALES[profile].rates(lowest), seeds(profile)),
    ]


def first_steps(profile: Profile) -> GridPoint:
    """A run that ends with the recipe's warm-up, or with its first probe after the start if that is later."""
    whole, steps = recipe(profile), SCALES[profile].steps
    warmup, probe = (
        Duration.parse(str(whole[key])).steps(tokens_per_step=1, n_params=1, run_steps=steps)
        for key in ("schedule.warmup", "probe.every")
    )
    return {
        "schedule": "constant",
        "schedule.warmup": f"{warmup}steps",
        "train.duration": f"{max(warmup, probe) + 1}steps",
        "probe.every": f"{probe}steps",
        "eval.sequences": 8,
    }


STUDY = Study(
    claim="Early attention logits of small models predict those of the next size, and so which run will fail.",
    cells=cells,
)

"""The largest attention logit at an early step over sizes, without QK-norm, to extrapolate to the next size (figure 9).

The paper reads it at step 2e3 of 1e5, before the warm-up ends at 5e3. Here it is read after 4 % of the steps, where the
recipe's runs have their first probe after the start and the warm-up of 5 % is not over either. The recipe's sizes are
trained to the end, which says who fails; of the others, and of the largest, which is held out of the fit, only these
first steps are run. They have the learning rates and batches of the full runs (of all but the tiny `smoke` ones, whose
warm-up is a single step).

What the `cpu` profile found (12K to 0.8M parameters in the fit, 1.8M held out, step 11 of 250): at each of the six
rates the 95 % interval of a quadratic in ln N holds the held-out logit, over three decades of logits; the predictions
are within a factor of 1.5, and a single seed's worst rate within 2 on average (0.30 decades, -0.01 to 0.60). A run that
fails has a larger early logit than one that does not in 99.6 % of the pairs. No early logit is beyond 1e4, where the
paper's runs diverge; of the held-out runs at 0.3, the nearest to it, one of three was gone before step 11. The held-out
size is not trained to the end, so that which of its runs fail is not put to the test.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from conf.duration import Duration
from sweeps.cells.grid import Settings, cross, where
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lr_sweep, lrs, recipe, seeds, size
from train.record.manifest import Profile

ARM: Settings = {"model.qk_norm": "none"}
WHOLE: dict[Profile, int] = {"smoke": 2, "cpu": 3, "gpu": 3}  # of the recipe's sizes, smallest first
# (width, depth) beside those; the last one is the largest of all.
MORE_SIZES: dict[Profile, tuple[tuple[int, int], ...]] = {
    "smoke": ((16, 2), (32, 2), (48, 2)),
    "cpu": ((32, 1), (128, 4), (192, 4)),
    "gpu": ((64, 3), (256, 6), (768, 8), (1024, 8)),
}
LOWEST_LR: dict[Profile, float] = {"smoke": 1e-2, "cpu": 1e-3, "gpu": 3e-4}


def logit_prediction(profile: Profile) -> list[Settings]:
    """The arm without QK-norm of `small_proxies/qk_norm`, and the first steps of further sizes."""
    further = cross([size(profile, *shape) for shape in MORE_SIZES[profile]], lrs(profile), seeds(profile))
    cells = [
        *lr_sweep(profile, [ARM], most_sizes=WHOLE[profile]),
        *(recipe(profile) | ARM | first_steps(profile) | cell for cell in further),
    ]
    return where(cells, lambda cell: float(cell["optim.lr"] or 0) >= LOWEST_LR[profile])


def first_steps(profile: Profile) -> Settings:
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


STUDIES = (
    Study(
        name="small_proxies/logit_prediction",
        claim="Early attention logits of small models predict those of the next size, and so which run will fail.",
        cells=logit_prediction,
    ),
)

"""Every way to grow against training from scratch, at equal total FLOPs (Du et al. 2024, arXiv 2405.15319, figures 3
and 11).

Two bases with a quarter of the target's weights, one in depth and one in width, which all operators share. The paper's
curves are training losses in the middle of one long schedule; here each run ends with its decay at 0.6 of the full
budget, and scratch goes on to all of it so that a speed-up can be read. New blocks of `random` fade in over a tenth of
the full budget's steps, as in the paper; new channels do not, which have no ramp here and three of them there. The maps
of `learn` are tuned for 4 % of these steps, and pay for it; the paper does not say how long it tunes them. `direct`
splits the inputs of copied channels unevenly, and `interpolate` is not among the paper's eight.

That stacking is the best operator does not come out at `cpu`: interpolation, identity blocks and a learned map differ
from it by less than can be told, and random blocks, faded in, end lower still; in the paper they are worse than
scratch. Random width ends below scratch; the other three ways to widen cannot be told from it.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    BUDGET,
    SCRATCH,
    at_step,
    base,
    cooled,
    depth_of,
    each_seed,
    full_budget,
    narrowed,
    scratch,
    trunk_for,
)
from train.record.manifest import Profile

DEPTH = ("stack", "interpolate", "zero", "random", "learn")
WIDTH = ("direct", "zero", "random", "learn")
RAMP = 0.1  # of the full budget's steps
LEARN = 0.04  # of them


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Scratch at several budgets; every operator at one of them."""
    full = full_budget(profile)
    budget = round(BUDGET * full)
    deep: GridPoint = {"model.depth": depth_of(profile)}
    every = scratch(profile, seed, SCRATCH[profile])
    arms = [("depth", name, narrowed(profile, 1)) for name in DEPTH]
    arms += [("width", name, narrowed(profile, 2) | deep) for name in WIDTH]
    for axis, operator, small in arms:
        how: GridPoint = {f"grow.{axis}": operator}
        if operator == "learn":
            how["grow.learn_steps"] = max(1, at_step(profile, LEARN))
        elif (axis, operator) == ("depth", "random"):
            how["grow.ramp"] = f"{at_step(profile, RAMP)}steps"
        arm = grown(base(profile, seed, small), at_step(profile), deep | narrowed(profile, 1) | how)
        # The trunks of other studies go on to the full budget.
        trunk = trunk_for(arm, full if operator in ("stack", "direct") else budget)
        every.append(cooled(trunk, budget))
    return every


STUDY = Study(
    claim="Of all ways to grow, stacking depth is the best, and growing in width gains nothing.", cells=each_seed(cells)
)

"""How the gain of stacking goes on with compute: L = a C^b, speed-up, loss gap, and the rule for the growth step (Du et
al. 2024, arXiv 2405.15319, figures 5 to 8, equation 2).

In the paper C is up to 1e22 FLOPs, its laws pass the end points of 410M to 7B, and the rule is log10 d = 0.88 log10 N +
163.27 / log10 C - 5.74 for d tokens, fitted to nine valleys. Here are the sweep over d at two sizes (`gstack/timing`)
and, for the laws and speed-ups, the target and its stack at four budgets up to the full one. A decay ends each of them.
The larger target goes on from scratch to 1.3 times the full budget, so that speed-ups of up to 30 % can be read there.

At `cpu` the speed-up falls and the gap closes soon after the largest budget; the paper's gap, at sizes and budgets far
above, is still open at 8T tokens. The timing rule is not identified there.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, narrowed, scratch, stacked
from sweeps.studies.gstack.timing import NARROWER, trained
from train.record.manifest import Profile

BEYOND = 1.3  # of the full budget


def cells(profile: Profile) -> list[Cell]:
    """The cells of `timing` but d = 0; scratch and the stack at the full budget; scratch beyond it."""
    every = trained(profile)
    for narrower in NARROWER[profile]:
        size = narrowed(profile, narrower)
        for seed in range(SCALES[profile].seeds):
            every += scratch(profile, seed, (1.0,), size)
            if narrower == 1:  # on a trunk of its own, so that the others keep the one that the studies share
                every += scratch(profile, seed, (BEYOND,), size)
            every += stacked(profile, seed, (1.0,), size)
    return every


STUDY = Study(
    claim="Stacking saves as much compute on long runs, and its best time follows from size and budget.", cells=cells
)

"""How the gain of stacking goes on with compute: L = a C^b, speed-up, loss gap, and the rule for the growth step (Du et
al. 2024, arXiv 2405.15319, figures 5 to 8, equation 2).

In the paper C is up to 1e22 FLOPs, its laws pass the end points of 410M to 7B, and the rule is log10 d = 0.88 log10 N +
163.27 / log10 C - 5.74 for d tokens, fitted to nine valleys. Here are the sweep over d at two sizes (`gstack/timing`)
and, for the laws and speed-ups, the target and its stack at four budgets up to the full one. A decay ends each of them.
The larger target goes on from scratch to 1.3 times the full budget, so that speed-ups of up to 30 % can be read there.

What the `cpu` profile found (targets of 99K and 25K parameters without embeddings, at up to 10 tokens for each, three
seeds; of the larger one): the stack's law lies below scratch's by 0.071 in ln L (0.052 to 0.090), but is less steep.
The speed-up falls from 77 % to 15 % (11 to 19) over a factor of 5 in compute, and the gap by 0.3 to 0.4 nats for each
decade of tokens, so that it would close soon after the largest budget; the paper's gap, at sizes and budgets far above,
is still open at 8T tokens. The timing rule is not identified: none of six curves has its lowest point inside the sweep.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES
from sweeps.studies.gstack.spike import GROWN_AT
from sweeps.studies.gstack.timing import NARROWER, scratch, size_of, stacked, trained
from train.record.manifest import Profile

BEYOND = 1.3  # of the full budget


def law(profile: Profile) -> list[Cell]:
    """The cells of `timing` but d = 0; scratch and the stack at the full budget; scratch beyond it."""
    cells = trained(profile)
    for narrower in NARROWER[profile]:
        size = size_of(profile, narrower)
        for seed in SCALES[profile].seeds:
            cells += scratch(profile, seed, (1.0,), size)
            if narrower == 1:  # on a trunk of its own, so that the others keep the one that the studies share
                cells += scratch(profile, seed, (BEYOND,), size)
            cells += stacked(profile, seed, GROWN_AT, (1.0,), size)
    return cells


STUDIES = (
    Study(
        name="gstack/law",
        claim="Stacking saves as much compute on long runs, and its best time follows from size and budget.",
        cells=law,
    ),
)

"""A TokenFormer that grows by appending parameter tokens (Wang et al. 2024, arXiv 2410.23168).

New keys are zero and new values random. The paper takes tau = sqrt(N) anew for the larger N, which rescales every
score; with tau as it was, growth keeps the function. The released code leaves new keys at their init. The paper's pairs
are 354M grown to 757M on OpenWebText2, and a chain from 124M to 1.4B; here one doubling, halfway through in steps, at a
width where attention is not free of charge. Beside it an ordinary transformer whose MLP doubles by Net2Net (Chen et al.
2016, arXiv 1511.05641), from a base of as many weights, and both targets from scratch. Every arm ends, cooled down, at
the same FLOPs; the TokenFormer from scratch also after as many steps as the grown one makes at full size. The keys and
values are trained at the recipe's rate.

All three ways to append tokens end alike at `cpu`, random keys lowest, and none of the comparisons of the end is
resolved.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, alone, at_step, cooled, each_seed, target, trunk_for
from train.record.manifest import Profile

GROWN_AT = 0.5  # of the target's steps
LR: dict[Profile, float] = {"smoke": 3e-3, "cpu": 3e-3, "gpu": 1e-3}  # parameter tokens do not take the recipe's 1e-2
# Of the TokenFormer and the transformer: blocks with 16 and 12 width² weights before growth, hence as many weights; and
# 32 and 20 after it.
DEPTHS: dict[Profile, tuple[int, int]] = {"smoke": (3, 4), "cpu": (3, 4), "gpu": (6, 8)}


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Both architectures from scratch and grown; of the TokenFormer from scratch also a run that makes as many steps as
    the grown one does at full size, which costs less by what the base has cost."""
    step, width = at_step(profile, GROWN_AT), SCALES[profile].widths[0]
    token, plain = (
        target(profile, seed) | {"optim.lr": LR[profile], "model.depth": depth} for depth in DEPTHS[profile]
    )
    hidden: GridPoint = {"model.mlp_hidden": 8 * width}
    tokens: GridPoint = {"model.param_tokens": 2 * width} | hidden
    half: GridPoint = {"model.mlp_hidden": 4 * width, "train.duration": f"{step}steps"}
    token_base = token | {"model.param_tokens": width} | half
    arms = [
        grown(token_base, step, tokens | {"grow.width": "zero", "model.param_tau": 0.5}),
        grown(token_base, step, tokens | {"grow.width": "zero"}),
        grown(token_base, step, tokens | {"grow.width": "random"}),
        plain | hidden,
        grown(plain | half, step, hidden | {"grow.width": "direct"}),
    ]
    full = cost_of(token | tokens).flops
    alike = full - cost_of(arms[0]).spent(0).flops
    scratch = trunk_for(token | tokens, full)
    return [cooled(scratch, alike), cooled(scratch, full), *(alone(arm, full) for arm in arms)]


STUDY = Study(
    claim="A TokenFormer grows without a jump of the loss, and ends where one from scratch costs more.",
    cells=each_seed(cells),
)

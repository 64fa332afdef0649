"""A TokenFormer that grows by appending parameter tokens (Wang et al. 2024, arXiv 2410.23168).

New keys are zero and new values random. The paper takes tau = sqrt(N) anew for the larger N, which rescales every
score; with tau as it was, growth keeps the function. The released code leaves new keys at their init. The paper's pairs
are 354M grown to 757M on OpenWebText2, and a chain from 124M to 1.4B; here one doubling, halfway through in steps, at a
width where attention is not free of charge. Beside it an ordinary transformer whose MLP doubles by Net2Net (Chen et al.
2016, arXiv 1511.05641), from a base of as many weights, and both targets from scratch. Every arm ends, cooled down, at
the same FLOPs; the TokenFormer from scratch also after as many steps as the grown one makes at full size. The keys and
values are trained at the recipe's rate.

What the `cpu` profile found (width 32, three seeds): growth is continuous only with zero keys and the old tau, as
computed; a new tau costs 0.10 nats at growth (0.09 to 0.12), and random keys 0.8 to 1.8. Yet all three end alike,
random keys lowest. None of the comparisons of the end is resolved: at equal FLOPs 0.012 nats below scratch (-0.091 to
0.115) and 0.006 below Net2Net (-0.023 to 0.036), after as many steps at full size 0.114 below scratch (-0.010 to
0.239).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, alone, cooled, target, trunk_for
from train.record.manifest import Profile

GROWN_AT = 0.5  # of the target's steps
LR: dict[Profile, float] = {"smoke": 3e-3, "cpu": 3e-3, "gpu": 1e-3}  # parameter tokens do not take the recipe's 1e-2


@dataclass(frozen=True)
class Depths:
    """Blocks with 16 and 12 width² weights before growth, hence as many weights; and 32 and 20 after it."""

    tokenformer: int
    transformer: int


DEPTHS: dict[Profile, Depths] = {
    "smoke": Depths(tokenformer=3, transformer=4),
    "cpu": Depths(tokenformer=3, transformer=4),
    "gpu": Depths(tokenformer=6, transformer=8),
}


def tokenformer(profile: Profile) -> list[Cell]:
    """Both architectures from scratch and grown; of the TokenFormer from scratch also a run that makes as many steps as
    the grown one does at full size, which costs less by what the base has cost."""
    scale, depths = SCALES[profile], DEPTHS[profile]
    width = scale.width
    step = round(GROWN_AT * scale.steps)
    hidden: Settings = {"model.mlp_hidden": 8 * width}
    tokens: Settings = {"model.param_tokens": 2 * width} | hidden

    cells: list[Cell] = []
    for seed in scale.seeds:
        recipe = target(profile, seed) | {"optim.lr": LR[profile]}
        token = recipe | {"model.depth": depths.tokenformer}
        plain = recipe | {"model.depth": depths.transformer}
        token_base = token | {
            "model.param_tokens": width,
            "model.mlp_hidden": 4 * width,
            "train.duration": f"{step}steps",
        }
        plain_base = plain | {"model.mlp_hidden": 4 * width, "train.duration": f"{step}steps"}
        full = cost_of(token | tokens).flops
        scratch = trunk_for(token | tokens, full)
        arms = [
            grown(token_base, step, tokens | {"grow.width": "zero", "model.param_tau": 0.5}),
            grown(token_base, step, tokens | {"grow.width": "zero"}),
            grown(token_base, step, tokens | {"grow.width": "random"}),
            plain | hidden,
            grown(plain_base, step, hidden | {"grow.width": "direct"}),
        ]
        alike = full - cost_of(arms[0]).spent(0).flops
        cells += [cooled(scratch, alike), cooled(scratch, full), *(alone(arm, full) for arm in arms)]
    return cells


STUDIES = (
    Study(
        name="growth/tokenformer",
        claim="A TokenFormer grows without a jump of the loss, and ends where one from scratch costs more.",
        cells=tokenformer,
    ),
)

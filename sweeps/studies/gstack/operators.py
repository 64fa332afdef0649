"""Every way to grow against training from scratch, at equal total FLOPs (Du et al. 2024, arXiv 2405.15319, figures 3
and 11).

Two bases with a quarter of the target's weights, one in depth and one in width, which all operators share. The paper's
curves are training losses in the middle of one long schedule; here each run ends with its decay at 0.6 of the full
budget, and scratch goes on to all of it so that a speed-up can be read. New blocks of `random` fade in over a tenth of
the full budget's steps, as in the paper; new channels do not, which have no ramp here and three of them there. The maps
of `learn` are tuned for 4 % of these steps, and pay for it; the paper does not say how long it tunes them. `direct`
splits the inputs of copied channels unevenly, and `interpolate` is not among the paper's eight.

What the `cpu` profile found (a target of 99K parameters without embeddings at 6 tokens for each, a base of 25K, three
seeds): stacking ends 0.090 nats (0.054 to 0.126) below scratch, a speed-up of 30 % (22 to 39). That it is the best
operator does not come out. Interpolation, identity blocks and a learned map differ from it by less than can be told,
and random blocks, faded in, end lower still (by 0.042, 0.025 to 0.059); in the paper they are worse than scratch.
Random width ends 0.097 below scratch (0.012 to 0.182); the other three ways to widen cannot be told from it.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import grown
from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import SCALES, base, cooled, full_budget, trunk_for
from sweeps.studies.gstack.spike import GROWN_AT
from sweeps.studies.gstack.timing import scratch, size_of
from train.record.manifest import Profile

DEPTH = ("stack", "interpolate", "zero", "random", "learn")
WIDTH = ("direct", "zero", "random", "learn")
BUDGET = 0.6  # of the full one
SCRATCH: dict[Profile, tuple[float, ...]] = {
    "smoke": (0.6, 1.0),
    "cpu": (0.35, 0.6, 1.0),
    "gpu": (0.35, 0.6, 1.0),
}
"""Budgets of scratch, of the full one."""
RAMP = 0.1  # of the full budget's steps
LEARN = 0.04  # of them


def operators(profile: Profile) -> list[Cell]:
    """Scratch at several budgets; every operator at one of them."""
    scale = SCALES[profile]
    full = full_budget(profile)
    budget = round(BUDGET * full)
    whole = size_of(profile, 1)
    narrow = size_of(profile, 2) | {"model.depth": scale.depth}
    cells: list[Cell] = []
    for seed in scale.seeds:
        cells += scratch(profile, seed, SCRATCH[profile], whole)
        for axis, operator in [*(("depth", name) for name in DEPTH), *(("width", name) for name in WIDTH)]:
            small = base(profile, seed, whole if axis == "depth" else narrow)
            how = {f"grow.{axis}": operator} | _details(profile, axis, operator)
            arm = grown(small, round(GROWN_AT * scale.steps), {"model.depth": scale.depth} | whole | how)
            # The trunks of other studies go on to the full budget.
            trunk = trunk_for(arm, full if operator in ("stack", "direct") else budget)
            cells.append(cooled(trunk, budget))
    return cells


def _details(profile: Profile, axis: str, operator: str) -> Settings:
    steps = SCALES[profile].steps
    if operator == "learn":
        return {"grow.learn_steps": max(1, round(LEARN * steps))}
    if (axis, operator) == ("depth", "random"):
        return {"grow.ramp": f"{round(RAMP * steps)}steps"}
    return {}


STUDIES = (
    Study(
        name="gstack/operators",
        claim="Of all ways to grow, stacking depth is the best, and growing in width gains nothing.",
        cells=operators,
    ),
)

"""Which blocks of the base a deeper model repeats, and other initialisers of any depth, each charged for its base.

Du et al. 2024 (arXiv 2405.15319, appendix): the whole stack, interpolation, and parts of the stack (figures 35 and 37,
from 6 to 24 blocks), by the connection rate R_c: of all adjacent pairs of blocks the share that are adjacent in the
base too; and one hop against growth in stages (StackedBERT: Gong et al. 2019), each stage of 10B tokens. Here 4 blocks,
so that a front, a middle and a back pair keep as many pairs of neighbours as one another. Growth in stages and the hop
that it is compared with begin with 2 blocks.

Besides, at the same FLOPs before growth as the base of 4 blocks:

- Learngene (Xia et al. 2024, arXiv 2404.16897): a base whose blocks are 2, each used twice in a row; then repeated and
  untied. There distilled from a teacher of images; here trained as the others are.
- Templates (Pham et al. 2024, arXiv 2311.04251): a base whose 4 blocks are combinations of 4 templates; then further
  blocks of new combinations. There quadrants of a wider layer of an image model.

Every arm ends, cooled down, at 0.6 of the full budget; scratch does so at several budgets.

At `cpu` stages beat one hop, the other way round than published.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from sweeps.studies.gstack.recipe import (
    BUDGET,
    SCRATCH,
    alone,
    at_step,
    base,
    cooled,
    depth_of,
    each_seed,
    scratch,
    target,
    trunk_for,
)
from train.record.manifest import Profile

BASE_DEPTH = 4
FEWEST = 2  # blocks where stages begin, and a Learngene has
PARTS: dict[Profile, int] = {"smoke": 1, "cpu": 6, "gpu": 6}  # partial stacks, of those of `parts`


def parts(depth: int) -> list[GridPoint]:
    """Settings that repeat a part of 4 blocks, and keep the order of the rest."""
    pair, single = depth // 2 - 2, depth - 4
    orders = [
        [*[0, 1] * pair, 0, 1, 2, 3],
        [0, *[1, 2] * pair, 1, 2, 3],
        [0, 1, *[2, 3] * pair, 2, 3],
        [*[0] * single, 0, 1, 2, 3],
        [0, 1, *[2] * single, 2, 3],
        [0, 1, 2, *[3] * single, 3],
    ]
    return [{"grow.depth": "pattern", "grow.pattern": ",".join(map(str, order))} for order in orders]


def cells(profile: Profile, seed: int) -> list[Cell]:
    """Scratch at several budgets; every initialiser at one."""
    deep: GridPoint = {"model.depth": max(2 * BASE_DEPTH, depth_of(profile))}
    step = at_step(profile)
    short: GridPoint = {"train.duration": f"{step}steps"}
    full = cost_of(target(profile, seed) | deep).flops
    budget = round(BUDGET * full)

    two = base(profile, seed, {"model.depth": FEWEST})
    small: GridPoint = {"model.depth": BASE_DEPTH} | short
    four, learngene, templates = (
        base(profile, seed, small | more) for more in ({}, {"model.stages": FEWEST}, {"model.templates": BASE_DEPTH})
    )
    starts: list[tuple[Cell, GridPoint]] = [
        (four, {"grow.depth": "interpolate"}),
        *((four, pattern) for pattern in parts(int(str(deep["model.depth"])))[: PARTS[profile]]),
        (grown(two, step, small), {"grow.depth": "stack"}),
        (learngene, {"grow.depth": "interpolate"}),
        (templates, {"grow.depth": "templates"}),
    ]
    whole = deep | {"model.stages": None, "model.templates": None}
    # The trunks of both stacks are as long as those of the other studies, which go on to the full budget.
    stacks = [grown(start, step, whole | {"grow.depth": "stack"}) for start in (four, two)]
    return [
        *scratch(profile, seed, SCRATCH[profile], deep),
        *(cooled(trunk_for(stack, full), budget) for stack in stacks),
        *(alone(grown(start, step, whole | how), budget) for start, how in starts),
    ]


STUDY = Study(
    claim="The more neighbours stay neighbours the better: the whole stack is best, and one hop beats stages.",
    cells=each_seed(cells),
)

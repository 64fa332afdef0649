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

What the `cpu` profile found (a target of 99K parameters without embeddings, three seeds): the loss falls with the
connection rate (0.058 nats from 0 to 1, 0.035 to 0.080), the whole stack ends 0.024 below interpolation (0.002 to
0.046), and repeating the front is worse than the middle or the back (0.020, 0.001 to 0.039), though not worse than
scratch. Stages beat one hop by 0.037 (0.024 to 0.050), the other way round than published. Learngene and templates end
near the stack, within wide intervals.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from sweeps.studies.gstack.operators import BUDGET, SCRATCH
from sweeps.studies.gstack.recipe import SCALES, alone, base, cooled, target, trunk_for
from sweeps.studies.gstack.spike import GROWN_AT
from sweeps.studies.gstack.timing import scratch
from train.record.manifest import Profile

BASE_DEPTH = 4
FEWEST = 2  # blocks where stages begin, and a Learngene has
PARTS: dict[Profile, int] = {"smoke": 1, "cpu": 6, "gpu": 6}  # partial stacks, of those of `parts`


def parts(depth: int) -> list[Settings]:
    """Settings that repeat a part of 4 blocks, and keep the order of the rest."""
    pair, one = depth // 2 - 2, depth - 4
    orders = [
        [*[0, 1] * pair, 0, 1, 2, 3],
        [0, *[1, 2] * pair, 1, 2, 3],
        [0, 1, *[2, 3] * pair, 2, 3],
        [*[0] * one, 0, 1, 2, 3],
        [0, 1, *[2] * one, 2, 3],
        [0, 1, 2, *[3] * one, 3],
    ]
    return [{"grow.depth": "pattern", "grow.pattern": ",".join(map(str, order))} for order in orders]


def patterns(profile: Profile) -> list[Cell]:
    """Scratch at several budgets; every initialiser at one."""
    scale = SCALES[profile]
    depth = max(2 * BASE_DEPTH, scale.depth)
    step = round(GROWN_AT * scale.steps)
    short: Settings = {"train.duration": f"{step}steps"}
    cells: list[Cell] = []
    for seed in scale.seeds:
        full = cost_of(target(profile, seed) | {"model.depth": depth}).flops
        budget = round(BUDGET * full)
        cells += scratch(profile, seed, SCRATCH[profile], {"model.depth": depth})

        two = base(profile, seed, {"model.depth": FEWEST})
        four, learngene, templates = (
            base(profile, seed, settings | short)
            for settings in (
                {"model.depth": BASE_DEPTH},
                {"model.depth": BASE_DEPTH, "model.stages": FEWEST},
                {"model.depth": BASE_DEPTH, "model.templates": BASE_DEPTH},
            )
        )
        half_way = grown(two, step, {"model.depth": BASE_DEPTH} | short)
        to_target: Settings = {"model.depth": depth, "model.stages": None, "model.templates": None}
        # These trunks are as long as those of the other studies, which go on to the full budget.
        stacks = [grown(start, step, to_target | {"grow.depth": "stack"}) for start in (four, two)]
        cells += [cooled(trunk_for(stack, full), budget) for stack in stacks]
        starts: list[tuple[Cell, Settings]] = [
            (four, {"grow.depth": "interpolate"}),
            *((four, pattern) for pattern in parts(depth)[: PARTS[profile]]),
            (half_way, {"grow.depth": "stack"}),
            (learngene, {"grow.depth": "interpolate"}),
            (templates, {"grow.depth": "templates"}),
        ]
        for start, how in starts:
            cells.append(alone(grown(start, step, to_target | how), budget))
    return cells


STUDIES = (
    Study(
        name="gstack/patterns",
        claim="The more neighbours stay neighbours the better: the whole stack is best, and one hop beats stages.",
        cells=patterns,
    ),
)

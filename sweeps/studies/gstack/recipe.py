"""The protocol that the studies of growth share: one target, one base, equal total FLOPs, complete schedules.

After Du et al. 2024 (arXiv 2405.15319, section 3 and appendix): RMSNorm, RoPE, untied readout, AdamW (0.9, 0.95),
coupled weight decay 0.1, clipping at 1; the base has a quarter of the blocks and is taken near its peak learning rate.
There a target of 1.1B parameters and 24 blocks, a base of 6 blocks trained on 10B tokens, and 97.5B more. Two
differences. The MLP is GELU and not SwiGLU, whose new units would never learn where growth sets both of their inputs to
zero. And where the paper compares runs in the middle of one long cosine, every arm here has its own complete schedule
that ends at the same FLOPs: a constant rate, then a linear decay to zero over the last fifth of the run's own steps.
Runs of several budgets share the part before the decay, which is what makes that affordable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import GridPoint
from sweeps.studies.scale import scales
from train.record.manifest import Profile

COOLDOWN = 0.2  # of a run's own steps
LATEST = 0.8  # of the target's steps from scratch: the latest growth of any study, and the length of every base
GROWN_AT = 0.2  # of these steps: where the studies grow that do not ask when
BUDGET = 0.6  # of the full one: what arms have spent that are compared at one budget
LARGEST_BASE = 0.5  # of a budget's FLOPs

# The target, and the steps of it from scratch at the full budget.
SCALES = scales(
    widths=((16,), (32,), (128,)),
    depths=((4,), (8,), (12,)),
    head_dim=(8, 16, 64),
    context=(16, 64, 256),
    batch=(4, 16, 64),
    steps=(20, 1000, 1500),
    lrs=((3e-3,), (1e-2,), (2e-3,)),
    seeds=(2, 3, 3),
    val_windows=(16, 128, 256),
)
WARMUP: dict[Profile, int] = {"smoke": 2, "cpu": 30, "gpu": 50}
"""Steps, of every run that begins a schedule."""
EVAL_EVERY: dict[Profile, int] = {"smoke": 2, "cpu": 50, "gpu": 75}
SCRATCH: dict[Profile, tuple[float, ...]] = {"smoke": (0.6, 1.0), "cpu": (0.35, 0.6, 1.0), "gpu": (0.35, 0.6, 1.0)}
"""Budgets, of the full one, at which scratch ends where a speed-up is read."""


def each_seed(cells: Callable[[Profile, int], list[Cell]]) -> Callable[[Profile], list[Cell]]:
    """The cells of a study from those of one seed."""
    return lambda profile: [cell for seed in range(SCALES[profile].seeds) for cell in cells(profile, seed)]


def target(profile: Profile, seed: int) -> Cell:
    """The target from scratch at a constant rate, at the full budget."""
    scale, every = SCALES[profile], EVAL_EVERY[profile]
    settings: GridPoint = {
        "optim": "adamw_coupled",
        "optim.weight_decay": 0.1,
        "optim.lr": scale.lrs[0],
        "schedule": "constant",
        "schedule.warmup": f"{WARMUP[profile]}steps",
        "train.log_every": f"{max(1, every // 4)}steps",
        "eval.every": f"{every}steps",
        "seed": seed,
    }
    return Cell(scale.training() | scale.model(scale.widths[0], scale.depths[0]) | settings)


def base(profile: Profile, seed: int, settings: GridPoint | None = None) -> Cell:
    """The base at a constant rate, one for all studies: a quarter of the target's blocks, as many steps as the latest
    growth needs. `settings` replace others, such as depth or width."""
    small: GridPoint = {"model.depth": depth_of(profile) // 4, "train.duration": f"{at_step(profile, LATEST)}steps"}
    return target(profile, seed) | small | (settings or {})


def depth_of(profile: Profile) -> int:
    return SCALES[profile].depths[0]


def narrowed(profile: Profile, by: int) -> GridPoint:
    """Settings of a target, and of its base, of a fraction of the width, with heads as wide as those of all."""
    return SCALES[profile].wide(SCALES[profile].widths[0] // by)


def at_step(profile: Profile, share: float = GROWN_AT) -> int:
    """The step after a share of the target's steps from scratch."""
    return round(share * SCALES[profile].steps)


def full_budget(profile: Profile, seed: int = 0) -> int:
    """FLOPs of the target from scratch."""
    return cost_of(target(profile, seed)).flops


def cooled(trunk: Cell, flops: int) -> Cell:
    """The run along `trunk` whose decay ends when `flops` are spent, with those of all that it grew out of.

    Where the trunk, itself perhaps grown from a base, has made all but the last fifth of the steps that these FLOPs
    pay for, the decay branches off, with the optimiser's moments. All branches are cut from one trunk, which must be
    long enough for the largest budget (`trunk_for`); a plan refuses a step beyond its end.
    """
    n_steps, decay = _steps(trunk, flops)
    return grown(
        trunk,
        n_steps - decay,
        {
            "schedule": "wsd",
            "schedule.cooldown": f"{decay}steps",
            "grow.schedule": "continue",
            "grow.optimizer": "carry",
            "train.duration": f"{decay}steps",
        },
    )


def alone(arm: Cell, flops: int) -> Cell:
    """The run of a cell with a decay of its own, which ends when `flops` are spent: what `cooled` comes to with a trunk
    that nothing else branches off."""
    n_steps, decay = _steps(arm, flops)
    return arm | {"schedule": "wsd", "schedule.cooldown": f"{decay}steps", "train.duration": f"{n_steps}steps"}


def trunk_for(trunk: Cell, flops: int) -> Cell:
    """The trunk, just long enough for the largest budget of its branches."""
    n_steps, decay = _steps(trunk, flops)
    return trunk | {"train.duration": f"{n_steps - decay}steps"}


def _steps(trunk: Cell, flops: int) -> tuple[int, int]:
    """Steps of its own after which a run along `trunk` has spent `flops`, to the nearest, and the decay's part."""
    cost = cost_of(trunk)
    n_steps = max(2, round((flops - cost.spent(0).flops) * cost.n_steps / cost.flops))
    return n_steps, max(1, round(COOLDOWN * n_steps))


def scratch(profile: Profile, seed: int, levels: Sequence[float], settings: GridPoint | None = None) -> list[Cell]:
    """The target from scratch, its trunk as long as the full budget or a level beyond, cooled at each level."""
    whole = target(profile, seed) | (settings or {})
    full = cost_of(whole).flops
    trunk = trunk_for(whole, round(max(1.0, *levels) * full))
    return [cooled(trunk, round(level * full)) for level in levels]


def stacked(
    profile: Profile, seed: int, levels: Sequence[float], size: GridPoint, *, at: float = GROWN_AT, reach: float = 1.0
) -> list[Cell]:
    """The stack of the base after a share `at` of the target's steps, cooled at each level that this base leaves room
    for; its trunk is as long as a `reach` of the full budget asks for."""
    full = cost_of(target(profile, seed) | size).flops
    arm = grown(base(profile, seed, size), at_step(profile, at), {"model.depth": depth_of(profile)})
    trunk = trunk_for(arm, round(reach * full))
    spent = cost_of(arm).spent(0).flops
    return [cooled(trunk, round(level * full)) for level in levels if spent <= LARGEST_BASE * level * full]

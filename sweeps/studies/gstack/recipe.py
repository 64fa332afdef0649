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

from dataclasses import dataclass

from sweeps.cells.cell import Cell
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import Settings
from train.record.manifest import Profile

COOLDOWN = 0.2  # of a run's own steps
LATEST = 0.8  # of the target's steps from scratch: the latest growth of any study, and the length of every base


@dataclass(frozen=True)
class Scale:
    """The target and its base, and how long they are trained."""

    width: int
    heads: int
    depth: int
    base_depth: int
    context: int
    batch: int
    lr: float
    warmup: int
    """Steps, of every run that begins a schedule."""
    steps: int
    """Of the target from scratch, at the full budget."""
    seeds: tuple[int, ...]
    val_windows: int
    eval_every: int


SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        width=16,
        heads=2,
        depth=4,
        base_depth=1,
        context=16,
        batch=4,
        lr=3e-3,
        warmup=2,
        steps=20,
        seeds=(0, 1),
        val_windows=16,
        eval_every=2,
    ),
    "cpu": Scale(
        width=32,
        heads=2,
        depth=8,
        base_depth=2,
        context=64,
        batch=16,
        lr=1e-2,
        warmup=30,
        steps=1000,
        seeds=(0, 1, 2),
        val_windows=128,
        eval_every=50,
    ),
    "gpu": Scale(
        width=128,
        heads=2,
        depth=12,
        base_depth=3,
        context=256,
        batch=64,
        lr=2e-3,
        warmup=50,
        steps=1500,
        seeds=(0, 1, 2),
        val_windows=256,
        eval_every=75,
    ),
}


def target(profile: Profile, seed: int) -> Cell:
    """The target from scratch at a constant rate, at the full budget."""
    scale = SCALES[profile]
    return Cell(
        {
            "data": "stdlib",
            "data.context": scale.context,
            "model.width": scale.width,
            "model.heads": scale.heads,
            "model.depth": scale.depth,
            "optim": "adamw_coupled",
            "optim.weight_decay": 0.1,
            "optim.lr": scale.lr,
            "schedule": "constant",
            "schedule.warmup": f"{scale.warmup}steps",
            "train.batch_size": scale.batch,
            "train.duration": f"{scale.steps}steps",
            "train.log_every": f"{max(1, scale.eval_every // 4)}steps",
            "train.checkpoint_every": "100%",
            "eval.every": f"{scale.eval_every}steps",
            "eval.sequences": scale.val_windows,
            "seed": seed,
        }
    )


def base(profile: Profile, seed: int, settings: Settings | None = None) -> Cell:
    """The base at a constant rate, one for all studies: fewer blocks than the target, as many steps as the latest
    growth needs. `settings` replace others, such as depth or width."""
    scale = SCALES[profile]
    own: Settings = {"model.depth": scale.base_depth, "train.duration": f"{round(LATEST * scale.steps)}steps"}
    return target(profile, seed) | own | (settings or {})


def full_budget(profile: Profile, seed: int = 0) -> int:
    """FLOPs of the target from scratch."""
    return cost_of(target(profile, seed)).flops


def cooled(trunk: Cell, flops: int) -> Cell:
    """The run along `trunk` whose decay ends when `flops` are spent, with those of all that it grew out of.

    Where the trunk, itself perhaps grown from a base, has made all but the last fifth of the steps that these FLOPs
    pay for, the decay branches off, with the optimiser's moments. All branches are cut from one trunk, which must be
    long enough for the largest budget (`trunk_for`); a plan refuses a step beyond its end.
    """
    n_steps = affordable(trunk, flops)
    decay = max(1, round(COOLDOWN * n_steps))
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
    n_steps = affordable(arm, flops)
    return arm | {
        "schedule": "wsd",
        "schedule.cooldown": f"{max(1, round(COOLDOWN * n_steps))}steps",
        "train.duration": f"{n_steps}steps",
    }


def trunk_for(trunk: Cell, flops: int) -> Cell:
    """The trunk, just long enough for the largest budget of its branches."""
    n_steps = affordable(trunk, flops)
    return trunk | {"train.duration": f"{n_steps - max(1, round(COOLDOWN * n_steps))}steps"}


def affordable(trunk: Cell, flops: int) -> int:
    """Steps of its own after which a run along `trunk` has spent `flops`, to the nearest."""
    cost = cost_of(trunk)
    return max(2, round((flops - cost.spent(0).flops) * cost.n_steps / cost.flops))

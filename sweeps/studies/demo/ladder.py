"""The demonstration: measure small, short runs well, and the law tells the loss of a larger, longer one.

A ladder of sizes, each trained on three budgets of tokens of the running Python's standard library, and one run that
is larger in both, to be predicted. One base learning rate serves every size: muP (Yang et al. 2022, "Tensor Programs
V") transfers it from the base width, so that no size is tuned and all of them are trained about equally well, which
is what a law in N and D assumes. Depth and the size of heads stay as they are.

The base rate of `cpu` is the best of a grid in steps of 2 at the base width and 7e5 tokens (validation loss at 5e-3,
1e-2, 2e-2, 4e-2: 1.918, 1.895, 1.916, 2.004), and the best at three times the width too (1.781, 1.740, 1.770, 1.894);
that of `gpu` is a guess. The context of `cpu` is short since four seeds of one cell (width 24, 5e5 tokens) then differ
by a standard deviation of 0.4 % in loss; at a context of 64 it is 1.9 %, as the step at which a model begins to copy
from its context depends on the seed.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from sweeps.cells.grid import GridPoint
from sweeps.cells.study import Study
from train.record.manifest import Profile


class Ladder(NamedTuple):
    """Widths and budgets of the runs that are fitted, the run that is held out, and what all of them share."""

    widths: tuple[int, ...]
    budgets: tuple[str, ...]
    held_out: tuple[int, str]
    head_dim: int
    depth: int
    context: int
    base_width: int
    val_windows: int


LADDERS: dict[Profile, Ladder] = {
    # widths, budgets, held out, and: head_dim, depth, context, base_width, val_windows
    "smoke": Ladder((16, 24, 32), ("10steps", "20steps", "40steps"), (48, "50steps"), 8, 2, 32, 32, 64),
    "cpu": Ladder((16, 24, 32, 48, 64), ("0.25e6tok", "0.7e6tok", "2e6tok"), (96, "2.5e6tok"), 8, 2, 32, 32, 2048),
    # Python 3.11 has 9.2e6 tokens to train on; none is seen twice.
    "gpu": Ladder((64, 96, 128, 192, 256), ("1e6tok", "3e6tok", "8e6tok"), (384, "9e6tok"), 32, 4, 64, 64, 2048),
}


def cells(profile: Profile) -> list[GridPoint]:
    """Sizes times budgets, and the held-out run."""
    ladder = LADDERS[profile]
    common: GridPoint = {
        "data": "stdlib",
        "data.context": ladder.context,
        "model.depth": ladder.depth,
        "param": "mup",
        "param.base_width": ladder.base_width,
        "optim.lr": 1e-2,
        "optim.beta2": 0.99,
        "schedule": "cosine",
        "schedule.warmup": "10%",
        "train.batch_size": 16,  # of so few tokens, many small steps learn more than few large ones
        "eval.every": "25%",
        "eval.sequences": ladder.val_windows,
    }
    return [
        common | {"model.width": width, "model.heads": width // ladder.head_dim, "train.duration": budget}
        for width, budget in [*product(ladder.widths, ladder.budgets), ladder.held_out]
    ]


STUDY = Study(
    claim="A law fitted to small, short runs predicts the loss of a larger, longer one within 2 %.", cells=cells
)

"""The demonstration: measure small, short runs well, and the law tells the loss of a larger, longer one.

A ladder of sizes, each trained on three budgets of tokens of the running Python's standard library, and one run that
is larger in both, to be predicted. One base learning rate serves every size: muP (Yang et al. 2022, "Tensor Programs
V") transfers it from the base width, so that no size is tuned and all of them are trained about equally well, which
is what a law in N and D assumes. Depth and the size of heads stay as they are.

The base rate of `cpu` is the best of a grid in steps of 2 at the base width and 7e5 tokens (validation loss at 5e-3,
1e-2, 2e-2, 4e-2: 1.918, 1.895, 1.916, 2.004), and the best at three times the width too (1.781, 1.740, 1.770, 1.894).
The context of `cpu` is short since four seeds of one cell (width 24, 5e5 tokens) then differ by a standard deviation
of 0.4 % in loss; at a context of 64 it is 1.9 %, as the step at which a model begins to copy from its context depends
on the seed. The `gpu` profile has not been run yet, and its base rate is a guess.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sweeps.cells.grid import Settings
from sweeps.cells.study import Study
from train.record.manifest import Profile


@dataclass(frozen=True)
class Ladder:
    """Widths and budgets of the runs that are fitted, the run that is held out, and what all of them share."""

    widths: tuple[int, ...]
    budgets: tuple[str, ...]
    held_out: tuple[int, str]
    head_dim: int
    shared: Settings


_SMALL: Settings = {
    "model.depth": 2,
    "data.context": 32,
    "train.batch_size": 16,  # of so few tokens, many small steps learn more than few large ones
    "param.base_width": 32,
    "optim.lr": 1e-2,
    "optim.beta2": 0.99,
    "eval.every": "25%",
}

LADDERS: dict[Profile, Ladder] = {
    "smoke": Ladder(
        widths=(16, 24, 32),
        budgets=("10steps", "20steps", "40steps"),
        held_out=(48, "50steps"),
        head_dim=8,
        shared=_SMALL | {"eval.sequences": 64},
    ),
    "cpu": Ladder(
        widths=(16, 24, 32, 48, 64),
        budgets=("0.25e6tok", "0.7e6tok", "2e6tok"),
        held_out=(96, "2.5e6tok"),
        head_dim=8,
        shared=_SMALL | {"eval.sequences": 2048},
    ),
    "gpu": Ladder(
        widths=(64, 96, 128, 192, 256),
        budgets=("1e6tok", "3e6tok", "8e6tok"),  # Python 3.11 has 9.2e6 tokens to train on; none is seen twice
        held_out=(384, "9e6tok"),
        head_dim=32,
        shared={
            "model.depth": 4,
            "data.context": 64,
            "train.batch_size": 16,
            "param.base_width": 64,
            "optim.lr": 1e-2,
            "optim.beta2": 0.99,
            "eval.every": "25%",
            "eval.sequences": 2048,
        },
    ),
}


def ladder(profile: Profile) -> list[Settings]:
    """Sizes times budgets, and the held-out run."""
    rungs = LADDERS[profile]
    runs = [*itertools.product(rungs.widths, rungs.budgets), rungs.held_out]
    common: Settings = {
        "data": "stdlib",
        "param": "mup",
        "schedule": "cosine",
        "schedule.warmup": "10%",
        **rungs.shared,
    }
    return [
        common | {"model.width": width, "model.heads": width // rungs.head_dim, "train.duration": budget}
        for width, budget in runs
    ]


STUDIES = (
    Study(
        name="demo/ladder",
        claim="A law fitted to small, short runs predicts the loss of a larger, longer one within 2 %.",
        cells=ladder,
    ),
)

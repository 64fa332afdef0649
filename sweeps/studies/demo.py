"""The demonstration: measure small, short runs well, and the law tells the loss of a larger, longer one.

A ladder of sizes, each trained on three budgets of tokens of the running Python's standard library, and one run that
is larger in both, to be predicted. One base learning rate serves every size: muP (Yang et al. 2022, "Tensor Programs
V") transfers it from the base width, so that no size is tuned and all of them are trained about equally well, which
is what a law in N and D assumes. Depth and the size of heads stay as they are.

The base rate of `cpu` is the best of a grid in steps of 2 at the base width and 5e5 tokens (validation loss at 5e-3,
1e-2, 2e-2, 4e-2: 2.201, 2.182, 2.160, 2.263), and was checked at three times the width (2.085, 2.079, 2.048, 2.150).
That of `gpu` is that of the base width in a comparable study and was not tuned.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sweeps.grid import Cell
from sweeps.study import Profile, Study


@dataclass(frozen=True)
class Ladder:
    """Widths and budgets of the runs that are fitted, the run that is held out, and what all of them share."""

    widths: tuple[int, ...]
    budgets: tuple[str, ...]
    held_out: tuple[int, str]
    head_dim: int
    shared: Cell


_SMALL: Cell = {
    "model.depth": 3,
    "data.context": 128,
    "train.batch_size": 8,
    "param.base_width": 32,
    "optim.lr": 2e-2,
    "eval.every": "25%",
}

LADDERS: dict[Profile, Ladder] = {
    "smoke": Ladder(
        widths=(16, 32),
        budgets=("10steps", "20steps"),
        held_out=(48, "30steps"),
        head_dim=8,
        shared=_SMALL | {"eval.sequences": 64},
    ),
    "cpu": Ladder(
        widths=(16, 24, 32, 48, 64),
        budgets=("0.4e6tok", "0.8e6tok", "1.6e6tok"),
        held_out=(96, "2.4e6tok"),
        head_dim=8,
        shared=_SMALL | {"eval.sequences": 512},
    ),
    "gpu": Ladder(
        widths=(128, 192, 256, 384, 512),
        budgets=("8e6tok", "16e6tok", "32e6tok"),
        held_out=(768, "64e6tok"),
        head_dim=64,
        shared={
            "model.depth": 8,
            "data.context": 256,
            "train.batch_size": 32,
            "param.base_width": 128,
            "optim.lr": 4e-3,
            "eval.every": "20%",
            "eval.sequences": 1024,
        },
    ),
}


def ladder(profile: Profile) -> list[Cell]:
    """Sizes times budgets, and the held-out run."""
    rungs = LADDERS[profile]
    runs = [*itertools.product(rungs.widths, rungs.budgets), rungs.held_out]
    common: Cell = {"data": "stdlib", "param": "mup", "schedule": "cosine", "schedule.warmup": "10%", **rungs.shared}
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

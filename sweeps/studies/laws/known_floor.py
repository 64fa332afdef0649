"""Laws put to a source that is known: the fitted floor and exponents against those of the data.

The source is a table of 2^20 keys with Zipf's law, p_c ∝ c^-(1 + a), a = 1/2 (`train.data.zipf`). Its entropy is the
floor; a model that holds the n most frequent keys lacks ∝ n^-a, and one that has seen D pairs lacks ∝ D^(-a/(1 + a)).
So theory says alpha = 1/2, if the keys held are proportional to the parameters, and beta = 1/3.

Sizes times budgets of one pass. Keys and budgets are chosen to meet what theory assumes. There are so many keys that
few are beyond the reach of every run: the unseen mass falls with exponent 0.36 between 2^18 and 2^20 pairs, with 2^16
keys it would be 0.45. And the budgets are long enough for the laws of the digits to be learnt, which are an eighth of
the excess of a model 64 wide at 2^15 pairs, and a fifteenth at 2^17.

The learning rate of 0.24/width was nowhere worse than half or twice of it by more than 2 % of the excess (widths 8, 16,
32 and 64; 2^15 and 2^17 pairs). The batch grows like the root of the budget: 2^15 pairs in batches of 64 lose 20 % of
the excess against batches of 32, and 2^20 pairs in batches of 1024 as much against batches of 256 (width 4). Rate and
batches of `gpu` are a guess. Models 4 wide (204 weights) are left out at `cpu`: two seeds of one budget differ by a
third of the excess, and with them the free fit's alpha has hardly an upper end.

Why a free fit at `cpu` finds a floor a little above the entropy, though the law describes ln loss about as well as two
seeds agree: a bootstrap does not know that the law itself is only nearly true. Neither the shortest budget nor the
smallest width is the reason, nor are the most expensive runs undertrained: twice as many steps in half the batch do not
lower their loss. What bends the curves is that keys held are not proportional to parameters: N counts the weights of
the blocks, about 12 width^2, and at widths 4, 8, 16 and 32 the N-term alone means 0.53, 0.69, 0.87 and 1.0 keys for
each weight; with three blocks or four times the hidden units width 4 holds no more. Counted in all parameters, most of
which embed the digits in models this small, alpha is near 1.
"""

from __future__ import annotations

from typing import NamedTuple

from sweeps.cells.grid import GridPoint, cross
from sweeps.cells.study import Study
from sweeps.studies.zipf import pairs
from train.record.manifest import Profile


class Grid(NamedTuple):
    """Widths, and budgets as (pairs, pairs per batch), of runs on one table of `keys` keys.

    `seeds` train at every budget but the most expensive, which is trained once: the smallest models scatter most.
    """

    widths: tuple[int, ...]
    budgets: tuple[tuple[int, int], ...]
    seeds: int
    keys: int
    val_pairs: int


GRIDS: dict[Profile, Grid] = {
    # widths, budgets, and: seeds, keys, val_pairs
    "smoke": Grid((4, 8, 16), ((2**8, 16), (2**9, 16), (2**10, 32)), 1, 2**12, 2**10),
    "cpu": Grid((6, 10, 16, 28, 48), ((2**16, 32), (2**18, 64), (2**20, 128), (2**22, 256)), 2, 2**20, 2**16),
    "gpu": Grid(
        (16, 32, 64, 128, 256, 512), ((2**17, 256), (2**19, 512), (2**21, 1024), (2**23, 2048)), 1, 2**24, 2**18
    ),
}


def cells(profile: Profile) -> list[GridPoint]:
    """Sizes times budgets, the most expensive last."""
    grid = GRIDS[profile]
    most = max(grid.budgets)
    common = pairs(keys=grid.keys, train=most[0], val=grid.val_pairs) | {
        "model.heads": 1,
        "schedule": "cosine",
        "schedule.warmup": "10%",
        "eval.every": "100%",
        "train.log_every": "1%",
    }
    budgets: list[GridPoint] = [
        {"train.batch_size": batch, "train.duration": f"{n_pairs // batch}steps", "seed": seed}
        for n_pairs, batch in grid.budgets
        for seed in range(1 if (n_pairs, batch) == most else grid.seeds)
    ]
    sizes: list[GridPoint] = [{"model.width": width, "optim.lr": 0.24 / width} for width in grid.widths]
    return cross([common], budgets, sizes)


STUDY = Study(
    claim="A free fit of E + A/N^alpha + B/D^beta finds the source's entropy and the exponents of theory.", cells=cells
)

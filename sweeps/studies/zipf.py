"""Pairs of a source that is known, which the studies of laws share: a table of keys with Zipf's law."""

from __future__ import annotations

from sweeps.cells.grid import GridPoint

DIGITS = 5


def pairs(*, keys: int, train: int, val: int) -> GridPoint:
    """One block on `train` pairs, each seen once, of a table of `keys` keys (`train.data.zipf`), validated on `val`
    others. A window holds one pair, so that attention has nothing to find but the digits of the key."""
    return {
        "data": "zipf",
        "data.keys": keys,
        "data.key_digits": DIGITS,
        "data.context": DIGITS,
        "data.n_tokens": (DIGITS + 1) * (train + val),
        "data.val_fraction": val / (train + val),
        "model.depth": 1,
        "param.readout_scale": 1.0,
        "optim.beta2": 0.99,
        "train.checkpoint_every": "100%",
        "eval.sequences": val,
        "eval.batch_size": 2**12,
    }

"""What the studies of parametrisations share: few steps at a large rate, all of them probed; and rates of 2^k."""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.studies.scale import Scale

DEPTH = 2


def few_steps(scale: Scale) -> GridPoint:
    """What every run of a coordinate check has."""
    return scale.training() | {
        "param.base_depth": DEPTH,
        "param.readout_scale": 1.0,
        "optim.lr": 1e-2,
        "optim.weight_decay": 0.0,
        "optim.clip": None,
        "schedule": "constant",
        "schedule.warmup": "0steps",
        "train.diverged_above": 1e3,  # a run that blows up is what the check is to show
        "eval.sequences": 2,
        "probe.every": "1steps",
        "probe.sequences": scale.batch,
    }


def each_width(scale: Scale) -> list[GridPoint]:
    """Models of `DEPTH` blocks; the first one's width is the base."""
    return [scale.model(width, DEPTH) | {"param.base_width": scale.widths[0]} for width in scale.widths]


def powers_of_two(*exponents: int) -> tuple[float, ...]:
    """`powers_of_two(-2, -1)` is `(0.25, 0.5)`."""
    return tuple(2.0**k for k in exponents)

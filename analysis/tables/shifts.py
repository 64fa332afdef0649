"""Which steps of a run read mirrored tokens (`data.shift_every`): their loss is high whatever the optimiser does.

shifted_steps(run, np.array([99, 100, 101]))  ->  [False, True, True] with the shift at steps 100 to 109
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.schema import DataConfig
from train.timetable.cost import RunCost
from train.timetable.shift import Shift

Mask = NDArray[np.bool_]
Steps = NDArray[np.int64]


def shifted_steps(run: Mapping[str, Any], step: Steps) -> Mask:
    """The last `data.shift_for` of every `data.shift_every` steps.

    Args:
        run: its record with these two settings, like a row of `analysis.tables.runs.read_runs`.
        step: counted from 1.
    """
    length = RunCost(run["n_params_total"], run["tokens_per_step"], run["n_steps"], 0, 0)  # no step depends on FLOPs
    data = DataConfig(shift_every=run["data.shift_every"], shift_for=run["data.shift_for"])
    shift = Shift.of(data, length)
    return np.array([shift is not None and shift.holds(int(at) - 1) for at in step], dtype=bool)

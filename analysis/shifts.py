"""Which steps of a run read mirrored tokens (`data.shift_every`): their loss is high whatever the optimiser does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.schema import Duration

Mask = NDArray[np.bool_]
Steps = NDArray[np.int64]


def shifted_steps(run: Mapping[str, Any], step: Steps) -> Mask:
    """The last `data.shift_for` of every `data.shift_every` steps.

    Args:
        run: its record with these two settings, like a row of `analysis.table.read_runs`.
        step: counted from 1.
    """
    if run["data.shift_every"] is None:
        return np.zeros(len(step), dtype=bool)
    every, length = (
        max(
            1,
            Duration.parse(run[name]).steps(
                tokens_per_step=run["tokens_per_step"], n_params=run["n_params_total"], run_steps=run["n_steps"]
            ),
        )
        for name in ("data.shift_every", "data.shift_for")
    )
    found: Mask = (step - 1) % every >= every - length
    return found

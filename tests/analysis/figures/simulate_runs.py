"""Tables of runs as `analysis.tables.runs.read_runs` makes them: a study's own cells, with losses as a test wants
them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from conf.config import Config
from conf.schema import walk
from sweeps.cells.grid import GridPoint
from train.record.metrics_file import MetricsWriter

AT_INIT = 5.5
GROUPS = {"data": "data.source", "param": "param.name", "schedule": "schedule.shape"}

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"

Loss = Callable[[dict[str, Any]], float]
"""Settings by full path (and `n_steps`) -> final loss; `AT_INIT` or more has diverged."""
Row = dict[str, float]
Curve = Callable[[dict[str, Any]], Sequence[Row]]
"""Settings by full path -> rows of metrics."""


def simulate_runs(
    cells: Sequence[GridPoint],
    loss: Loss,
    *,
    curve: Curve | None = None,
    runs_dir: Path | None = None,
    noise: float = 0.005,
) -> pl.DataFrame:
    """A table of runs, each cell once. A seed has a level of its own, and each run noise.

    Args:
        curve, runs_dir: metrics, and where their folders go.
    """
    rng = np.random.default_rng(3)
    defaults = {path: value for path, _, value in walk(Config())}
    unique = {tuple(sorted(map(str, cell.items()))): cell for cell in cells}
    rows = []
    for k, cell in enumerate(unique.values()):
        row: dict[str, Any] = defaults | {GROUPS.get(key, key): value for key, value in cell.items()}
        row["n_steps"] = int(row["train.duration"].removesuffix("steps"))
        row["n_params_non_embedding"] = 12 * row["model.depth"] * row["model.width"] ** 2
        wanted = loss(row)
        reached = wanted + 0.01 * row["seed"] + noise * rng.standard_normal()
        row |= {
            "run_id": f"run{k}",
            "folder": str((runs_dir or Path("runs")) / f"run{k}"),
            "state": "finished" if wanted < AT_INIT else "diverged",
            "loss_at_init": AT_INIT,
            "val_loss": reached,
            "capped_loss": min(reached, AT_INIT),
        }
        if curve is not None:
            folder = Path(row["folder"])
            folder.mkdir(parents=True)
            writer = MetricsWriter(folder, after_step=0)
            for measured in curve(row):
                writer.append(measured)
            writer.close()
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def bowl(run: dict[str, Any], *, best: float = 1e-2, width: float = 1.0, lowest: float = 1.8) -> float:
    """A loss that is lowest at one learning rate, and rises with the square of the distance in decades."""
    return lowest + width * math.log10(run["optim.lr"] / best) ** 2


def verdicts(claims: Sequence[Claim]) -> list[str]:
    """Of claims that all have an estimate."""
    assert all(claim.measured.estimate is not None for claim in claims), [claim.measured.reason for claim in claims]
    return [claim.verdict for claim in claims]

"""Tables of runs that grow out of others: a study's own graph and costs, with losses as a test wants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from conf.schema import walk
from conf.vocab import vocab_size
from models.count import count_params
from sweeps.cells.study import Study
from sweeps.plan.plan import PlannedRun, make_plan
from sweeps.studies.gstack.recipe import full_budget
from train.record.manifest import Profile
from train.record.metrics_file import MetricsWriter

FULL = full_budget("cpu")  # FLOPs at which `scratch_loss` is 3
N_ROWS = 12


@dataclass(frozen=True)
class Simulated:
    """A run, and the one whose weights grew last, with its base; None from scratch."""

    settings: dict[str, Any]
    flops: int
    growth: dict[str, Any] | None = None
    base: dict[str, Any] | None = None


Loss = Callable[[Simulated], float]


def scratch_loss(flops: float) -> float:
    return float(3 * (flops / FULL) ** -0.1)


def simulate_growth(
    study: Study, loss: Loss, runs_dir: Path, *, profile: Profile = "cpu", noise: float = 0.002, curves: bool = False
) -> pl.DataFrame:
    """A table of all runs of a study's plan. A seed has a level of its own, and each run noise.

    Args:
        curves: write metrics, of a loss that falls from 1 nat above to where the run ends.
    """
    rng = np.random.default_rng(5)
    plan = make_plan(study, profile, runs_dir=runs_dir)
    by_id = {run.run_id: run for run in plan.runs}
    rows = []
    for run in plan.runs:
        wanted = loss(_simulated(run, by_id)) + 0.01 * run.config.seed + noise * rng.standard_normal()
        rows.append(_row(run, wanted))
        if curves:
            _write_curve(run, wanted)
    return pl.DataFrame(rows, infer_schema_length=None)


def diverge(runs: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
    """The table, some of whose runs have diverged."""
    return runs.with_columns(
        pl.when(which).then(pl.lit("diverged")).otherwise("state").alias("state"),
        pl.when(which).then(None).otherwise("loss").alias("loss"),
    )


def _settings(run: PlannedRun) -> dict[str, Any]:
    return {path: value for path, _, value in walk(run.config)}


def _simulated(run: PlannedRun, by_id: dict[str, PlannedRun]) -> Simulated:
    settings, flops = _settings(run), run.cost.spent(run.cost.n_steps).flops
    grown = run
    while grown.base is not None and grown.config.model == by_id[grown.base].config.model:
        grown = by_id[grown.base]
    if grown.base is None:
        return Simulated(settings, flops)
    return Simulated(settings, flops, _settings(grown), _settings(by_id[grown.base]))


def _row(run: PlannedRun, loss: float) -> dict[str, Any]:
    cost, config = run.cost, run.config
    spent, inherited = cost.spent(cost.n_steps), cost.inherited
    sizes = count_params(config.model, vocab_size=vocab_size(config.data), context=config.data.context)
    return _settings(run) | {
        "run_id": run.run_id,
        "folder": str(run.folder),
        "state": "finished",
        "loss": loss,
        "n_params_non_embedding": sizes.non_embedding,
        "n_steps": cost.n_steps,
        "n_steps_inherited": inherited.steps,
        "tokens_per_step": cost.tokens_per_step,
        "flops_per_token": cost.flops // cost.n_tokens,
        "n_tokens": spent.tokens,
        "n_tokens_inherited": inherited.tokens,
        "flops": spent.flops,
        "flops_inherited": inherited.flops,
    }


def _write_curve(run: PlannedRun, loss: float) -> None:
    run.folder.mkdir(parents=True)
    writer = MetricsWriter(run.folder, after_step=0)
    for step in sorted({round(share * run.cost.n_steps) for share in np.linspace(0, 1, N_ROWS)}):
        spent = run.cost.spent(step)
        left = 1 - spent.flops / run.cost.spent(run.cost.n_steps).flops
        row = {"step": step, "tokens": spent.tokens, "flops": spent.flops, "lr": 1e-3, "train_loss": loss + left}
        writer.append(row | {"val_loss": loss + left})
    writer.close()

"""Runs as one tidy table, a row a run, and their metrics as another, a row a step.

    runs_of_study(Path("runs"), "demo/ladder", "cpu")  ->  the run folders of a study
    read_runs(folders)                                 ->  the table of runs
    read_curves(folders)                               ->  their metrics in long form
    capped_loss("diverged", None, at_init=5.5)         ->  5.5

The columns of the table of runs:

- `folder`, and every scalar of `run.json`: `state`, `n_params_total`, `n_tokens`, `flops`, `val_loss`, …;
- every setting of `config.yaml` under its full path: `model.width`, `optim.lr`, …;
- what the laws read: `n_params` (by the chosen convention), `loss` (validation loss, nats per token), `lr` (peak),
  `batch_tokens`;
- `n_tokens_planned`: what `n_tokens` was to be, also of a run that broke; with those of the runs that it grew out of;
- `capped_loss`: the function of that name.

What a run did not measure is null.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.tables.csv import TableError
from conf.config import Config
from conf.schema import ConfigError, GrowConfig, walk
from train.record.manifest import Manifest, find_runs
from train.record.metrics_file import read_metrics_table
from train.record.run import FINAL, read_run
from train.timetable.cost import RunCost, Spent, tuning_tokens

CONVENTIONS = ("total", "non_embedding", "non_vocab")

DATA = "data_fingerprint"
"""The column that tells what a run was trained on: same fingerprint, same tokens."""


def runs_matching(patterns: Sequence[str]) -> list[Path]:
    """Run folders at or below the folders that match any of the glob patterns; raises `TableError` if none."""
    folders = find_runs([Path(name) for pattern in patterns for name in glob.glob(pattern)])  # noqa: PTH207  # takes absolute patterns
    if not folders:
        raise TableError(f"{' '.join(patterns)}: no run folder (with a run.json) matches")
    return folders


def runs_asked_for(runs_dir: Path, study: str | None, profile: str, patterns: Sequence[str]) -> list[Path]:
    """`runs_of_study`, or where no study is named `runs_matching`."""
    return runs_matching(patterns) if study is None else runs_of_study(runs_dir, study, profile)


def runs_of_study(runs_dir: Path, study: str, profile: str) -> list[Path]:
    """The run folders of a study's manifest.

    Raises:
        RecordError: the study was never planned at this profile.
        TableError: a run of it has not begun or not ended, so that the table would lack a part of the study.
    """
    folders = [runs_dir / study / run_id for run_id in Manifest.read(runs_dir, study, profile).run_ids]
    states = [(read_run(folder) or {}).get("state") for folder in folders]
    open_runs = sum(state in (None, "running") for state in states)
    if open_runs or not folders:
        raise TableError(
            f"{study} at profile {profile}: {open_runs} of {len(folders)} runs have not ended; "
            f"`python -m sweeps run {study} --profile {profile}` first"
        )
    return folders


def read_record_and_config(folder: Path) -> tuple[dict[str, Any], Config]:
    """`read_record_and_config(folder)`: what `run.json` and `config.yaml` of a run hold.

    Raises:
        RecordError, TableError: one of them is missing or cannot be read.
    """
    from conf.compose import read_config  # Hydra takes a while to import

    record = read_run(folder)
    path = folder / "config.yaml"
    if record is None or not path.exists():
        raise TableError(f"{folder}: not a run folder; it lacks {'run.json' if record is None else 'config.yaml'}")
    try:
        return record, read_config(path)
    except ConfigError as error:
        raise TableError(f"{path}: {error}") from None


def read_runs(folders: Sequence[Path], *, params: str = "total") -> pl.DataFrame:
    """The table of runs.

    Args:
        folders: run folders, e.g. of `runs_matching`.
        params: which count becomes `n_params`; one of `CONVENTIONS`.

    Raises:
        RecordError, TableError: a folder without a readable record.
    """
    if params not in CONVENTIONS:
        raise TableError(f"params: {params!r} is not allowed; allowed: {', '.join(CONVENTIONS)}")
    rows = []
    for folder in folders:
        record, config = read_record_and_config(folder)
        settings = {name: value for name, _, value in walk(config)}
        measured = {name: value for name, value in record.items() if not isinstance(value, (dict, list))}
        named = {
            "n_params": record.get(f"n_params_{params}"),
            "loss": record.get("val_loss"),
            "capped_loss": capped_loss(record["state"], record.get("val_loss"), record.get("loss_at_init")),
            "lr": settings["optim.lr"],
            "batch_tokens": record.get("tokens_per_step"),
            "n_tokens_planned": _planned_tokens(record, config.grow),
        }
        rows.append({"folder": str(folder), **settings, **measured, **named})
    return _frame(rows)


def _planned_tokens(record: Mapping[str, Any], grow: GrowConfig) -> int | None:
    """All tokens that the weights of a run will have seen at its end; null where its record is too short to tell."""
    steps, per_step = record.get("n_steps"), record.get("tokens_per_step")
    if steps is None or per_step is None:
        return None
    inherited = record.get("n_tokens_inherited")
    if inherited is None:  # of a record that does not tell, as from another version
        inherited = record.get("n_steps_inherited", 0) * per_step
    tuning = 0 if grow.base is None else tuning_tokens(grow, per_step)
    cost = RunCost(0, per_step, steps, 0, 0, inherited=Spent(tokens=inherited), tuning=Spent(tokens=tuning))
    return cost.spent(steps).tokens


def capped_loss(state: str, loss: float | None, at_init: float | None) -> float | None:
    """`capped_loss("finished", 2.0, at_init=5.5)` is 2.0: the loss with which a run counts where runs may diverge.

    That at initialisation where the loss is higher or the run diverged, as LR sensitivity counts it (Wortsman et al.
    2023, arXiv 2309.14322, section 2.2); or a run that breaks would beat one that nearly does. In nats per token.

    Returns:
        null of a run that has not ended by itself, that does not say its loss at initialisation, or that finished
        without this loss.
    """
    if at_init is None or state not in FINAL:
        return None
    if state == "diverged":
        return float(at_init)
    return None if loss is None else min(float(loss), float(at_init))


def read_curves(folders: Sequence[Path]) -> pl.DataFrame:
    """The metrics of runs in long form: `curve` (the run id), then a row of `metrics.jsonl`: `step`, `tokens`,
    `flops`, `lr`, `train_loss`, `val_loss`, …; null where a step did not measure."""
    curves = []
    for folder in folders:
        metrics = read_metrics_table(folder)
        scalars = [name for name, kind in metrics.schema.items() if not kind.is_nested()]
        if len(metrics):
            curves.append(metrics.select(pl.lit(folder.name).alias("curve"), *scalars))
    if not curves:
        raise TableError("none of the runs has a row of metrics")
    return pl.concat(curves, how="diagonal_relaxed")


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, strict=False)

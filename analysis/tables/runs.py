"""Run records, or anybody's CSV, as one tidy table; columns are documented here.

A table of runs has one row per run:

- `folder`, and every scalar of `run.json`: `state`, `n_params_total`, `n_tokens`, `flops`, `val_loss`, …;
- every setting of `config.yaml` under its full path: `model.width`, `optim.lr`, …;
- what the laws read: `n_params` (by the chosen convention), `loss` (validation loss, nats per token), `lr` (peak),
  `batch_tokens`;
- `n_tokens_planned`: what `n_tokens` was to be, also of a run that broke; with those of the runs that it grew out of;
- `capped_loss`: the loss, but that at initialisation where it is higher or the run diverged, as LR sensitivity counts
  it (Wortsman et al. 2023, arXiv 2309.14322, section 2.2).

What a run did not measure is null.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.tables.csv import TableError
from conf.schema import ConfigError, walk
from train.record.manifest import Manifest, find_runs
from train.record.metrics_file import read_metrics
from train.record.run import FINAL, read_run

CONVENTIONS = ("total", "non_embedding", "non_vocab")


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


def read_runs(folders: Sequence[Path], *, params: str = "total") -> pl.DataFrame:
    """The table of runs.

    Args:
        folders: run folders, e.g. of `runs_matching`.
        params: which count becomes `n_params`; one of `CONVENTIONS`.

    Raises:
        RecordError, TableError: a folder without a readable record.
    """
    from conf.compose import read_config  # Hydra takes a while to import

    if params not in CONVENTIONS:
        raise TableError(f"params: {params!r} is not allowed; allowed: {', '.join(CONVENTIONS)}")
    rows = []
    for folder in folders:
        record = read_run(folder)
        path = folder / "config.yaml"
        if record is None or not path.exists():
            raise TableError(f"{folder}: not a run folder; it lacks {'run.json' if record is None else 'config.yaml'}")
        try:
            settings = {name: value for name, _, value in walk(read_config(path))}
        except ConfigError as error:
            raise TableError(f"{path}: {error}") from None
        measured = {name: value for name, value in record.items() if not isinstance(value, (dict, list))}
        named = {
            "n_params": record.get(f"n_params_{params}"),
            "loss": record.get("val_loss"),
            "capped_loss": _capped_loss(record),
            "lr": settings["optim.lr"],
            "batch_tokens": record.get("tokens_per_step"),
            "n_tokens_planned": _planned_tokens(record, settings),
        }
        rows.append({"folder": str(folder), **settings, **measured, **named})
    return _frame(rows)


def _planned_tokens(record: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    steps, per_step = record.get("n_steps"), record.get("tokens_per_step")
    if steps is None or per_step is None:
        return None
    if settings["grow.base"] is not None and "learn" in (settings["grow.depth"], settings["grow.width"]):
        steps += settings["grow.learn_steps"]
    inherited = record.get("n_tokens_inherited")  # not there before a run has ended
    return int((record.get("n_steps_inherited", 0) * per_step if inherited is None else inherited) + steps * per_step)


def _capped_loss(record: Mapping[str, Any]) -> float | None:
    """Null where the run has not ended by itself, or does not say its loss at initialisation."""
    at_init, loss = record.get("loss_at_init"), record.get("val_loss")
    if at_init is None or record["state"] not in FINAL:
        return None
    return float(at_init) if loss is None else min(float(loss), float(at_init))


def read_curves(folders: Sequence[Path]) -> pl.DataFrame:
    """The metrics of runs in long form: `curve` (the run id), then a row of `metrics.jsonl`: `step`, `tokens`,
    `flops`, `lr`, `train_loss`, `val_loss`, …; null where a step did not measure."""
    rows = []
    for folder in folders:
        for row in read_metrics(folder):
            rows.append({"curve": folder.name} | {k: v for k, v in row.items() if not isinstance(v, (dict, list))})
    if not rows:
        raise TableError("none of the runs has a row of metrics")
    return _frame(rows)


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in names}, strict=False)

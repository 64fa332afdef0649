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
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conf.schema import ConfigError, UserError, walk
from train.record import FINAL, Manifest, find_runs, read_metrics, read_run

CONVENTIONS = ("total", "non_embedding", "non_vocab")


class TableError(UserError):
    """Runs or a file that make no table, or a column or filter that does not fit it."""


# --- runs ------------------------------------------------------------------------------------------------


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


# --- files and filters -----------------------------------------------------------------------------------


def load_csv(path: Path) -> pl.DataFrame:
    """A CSV file with a header and at least one row; raises `TableError`."""
    try:
        table = pl.read_csv(path.read_bytes(), infer_schema_length=None, null_values=["nan", "NaN", "NA", "null"])
    except pl.exceptions.NoDataError:
        raise TableError(f"{path}: the file is empty") from None
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}") from None
    except pl.exceptions.PolarsError as error:
        raise TableError(f"{path}: not a CSV table ({_first_line(error)})") from None
    if table.is_empty():
        raise TableError(f"{path}: the table has no rows")
    names = [name.strip() for name in table.columns]
    for name in names:
        twice = name.removesuffix("_duplicated_0")  # polars' name for the second of two
        if name != twice and twice in names:
            raise TableError(f"{path}: has two columns {twice}; allowed: one of each name")
    return table.rename(dict(zip(table.columns, names, strict=True)))


def rename(table: pl.DataFrame, renames: Mapping[str, str]) -> pl.DataFrame:
    """Give columns the names that the laws read: `{"loss": "my_column"}`. A column in the way is replaced.

    Raises:
        TableError: no such column.
    """
    for name, source in renames.items():
        if source not in table.columns:
            raise TableError(f"--map {name}={source}: no column {source}; there are: {', '.join(table.columns)}")
    return table.with_columns(pl.col(source).alias(name) for name, source in renames.items())


def where(table: pl.DataFrame, condition: str, option: str = "--where") -> pl.DataFrame:
    """The rows for which a condition holds: SQL, with `==` allowed for `=`, and names with dots as they are:
    `used_in_fit == 1 and optim.lr < 0.01`.

    Raises:
        TableError: it cannot be read, names a column that is not there, or leaves no row.
    """
    text = re.sub(r"(?<![<>!=])==(?!=)", "=", condition)
    # SQL would read model.width as a column of a table called model.
    text = re.sub(
        r'(?<![\w."\'])([A-Za-z_]\w*(?:\.\w+)+)',
        lambda m: f'"{m[0]}"' if m[0] in table.columns else m[0],
        text,
    )
    try:
        kept = table.filter(pl.sql_expr(text))
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise TableError(f"{option} {condition!r}: {_first_line(error)}") from None
    if kept.is_empty():
        raise TableError(f"{option} {condition!r}: leaves none of {len(table)} rows")
    return kept


def numbers(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as numbers, nan where it holds none or is not there (N,)."""
    if name not in table.columns or table[name].dtype.is_nested():
        return np.full(len(table), np.nan)
    return table[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

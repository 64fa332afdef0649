"""What is wrong with a table before anything is fitted to it, by name and by row.

    lint(table)              ->  [Finding("diverged", "1 run diverged", rows=(3,)), …], in the order of `FINDINGS`
    rows_of(findings, n=8)   ->  which of 8 rows any of them is about

A finding excludes nothing by itself: its rows are drawn hollow, and left out where `--exclude` names it. What the
data cannot tell about a law (too few points, too narrow a range) is found by `analysis.fitter.identify` in the fit.

The columns read are those of a table of runs: `state`, `lr`, `loss`, `schedule.*`, `data_fingerprint`, `code_*`,
`*_inherited` or `model_grew`; of curves of runs, `measured_by`; and `lr_final`, the rate at the point, for a table from
elsewhere. Ones that are not there find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.tables.csv import numbers, reads_as
from analysis.tables.select import ANNEALED, annealed
from conf.command_line import counted
from train.record.edge import best_value

Rows = NDArray[np.bool_]

FINDINGS = {
    "diverged": "runs whose loss exploded, or whose model was dead",
    "unfinished": "runs that have not come to their end",
    "lr_edge": "the best learning rate of a sweep is the smallest or largest tried, so that the optimum lies beyond",
    "not_annealed": "the learning rate at the point is more than a tenth of its peak",
    "mixed_data": "runs on other data than most",
    "mixed_code": "runs of another code version than most, or of files that differ from it",
    "grown": "runs that grew out of another model, which has seen some of their tokens",
    "duplicate": "rows that repeat an earlier one",
}
SWEEP = 3  # so many learning rates of one setting make a sweep


@dataclass(frozen=True)
class Finding:
    """Rows that share a defect: `name` of `FINDINGS`, a `sentence`, and their indices in the table, from 0."""

    name: str
    sentence: str
    rows: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sentence": self.sentence, "rows": list(self.rows)}


def lint(table: pl.DataFrame, *, curves: bool = False) -> list[Finding]:
    """Every finding of a table, in the order of `FINDINGS`.

    Args:
        curves: rows are points of training curves, where an unannealed rate is what is studied.
    """
    findings = []
    for name, find in _FINDERS.items():
        if curves and name in ("lr_edge", "not_annealed"):
            continue
        rows, sentence = find(table)
        if rows.any():
            findings.append(Finding(name, sentence, tuple(int(k) for k in np.flatnonzero(rows))))
    return findings


def rows_of(findings: Sequence[Finding], n: int) -> Rows:
    """Which of n rows any of the findings is about."""
    return np.isin(np.arange(n), [row for finding in findings for row in finding.rows])


# --- finders: table -> rows, sentence --------------------------------------------------------------------


def _diverged(table: pl.DataFrame) -> tuple[Rows, str]:
    rows = reads_as(table, "state", ("diverged",))
    dead = rows & _begins(table, "diverged_because", "dead: ")
    also = f"; the model of {_runs(table, dead)} was dead" if dead.any() else ""
    return rows, f"{_runs(table, rows)} diverged{also}"


def _unfinished(table: pl.DataFrame) -> tuple[Rows, str]:
    rows = reads_as(table, "state", ("running", "failed"))
    return rows, f"{_runs(table, rows)} did not come to the end"


def _lr_edge(table: pl.DataFrame) -> tuple[Rows, str]:
    """The rows at the best rate of a sweep (by the mean over its replicates) that has no rate beyond it."""
    rates, losses = numbers(table, "lr"), numbers(table, "loss")
    measured = np.isfinite(rates) & np.isfinite(losses)
    rows, optima = np.zeros(len(table), dtype=bool), 0
    settings = [name for name in ("n_params", "n_tokens", "batch_tokens") if name in table.columns]
    setting = table.select(pl.struct(settings).rank("dense")).to_series().to_numpy() if settings else rows
    for number in np.unique(setting):
        sweep = measured & (setting == number)
        tried = {float(rate): float(losses[sweep & (rates == rate)].mean()) for rate in np.unique(rates[sweep])}
        if len(tried) < SWEEP:
            continue
        best, side = best_value(tried)
        if side is not None:
            rows |= sweep & (rates == best)
            optima += 1
    counted_optima = "1 optimum" if optima == 1 else f"{optima} optima"
    return rows, f"{counted_optima} at the edge of the learning rates tried"


def _not_annealed(table: pl.DataFrame) -> tuple[Rows, str]:
    rows: Rows = (~annealed(table)).fill_null(False).to_numpy()
    return rows, f"{counted(int(rows.sum()), 'point')} at more than {ANNEALED:.0%} of the peak learning rate"


def _mixed_data(table: pl.DataFrame) -> tuple[Rows, str]:
    rows = _not_the_most(table, ("data_fingerprint",))
    return rows, f"{_runs(table, rows)} on other data than most (data_fingerprint)"


def _mixed_code(table: pl.DataFrame) -> tuple[Rows, str]:
    names = tuple(name for name in ("code_version", "code_commit") if name in table.columns)
    other = _not_the_most(table, names)
    dirty = reads_as(table, "code_dirty", ("true",))
    # One version throughout, with the same edits, is no mixture.
    rows = other | dirty if other.any() or 0 < dirty.sum() < len(table) else np.zeros(len(table), dtype=bool)
    return rows, f"{_runs(table, rows)} of another code version than most, or of edited files"


def _grown(table: pl.DataFrame) -> tuple[Rows, str]:
    """The rows whose weights were another model's (`analysis.tables.lineage.with_growth`); or as far as other tables
    tell, whose inherited tokens have not cost what a token of their own model does."""
    sentence = "grown from another model, which has seen some of the tokens"
    if "model_grew" in table.columns:
        rows = table["model_grew"].fill_null(False).to_numpy()
        return rows, f"{_runs(table, rows)} {sentence}"
    as_own = numbers(table, "n_tokens_inherited") * numbers(table, "flops_per_token")
    rows = np.abs(numbers(table, "flops_inherited") - as_own) > 1e-9 * as_own  # False where any is missing
    return rows, f"{_runs(table, rows)} {sentence}"


def _duplicate(table: pl.DataFrame) -> tuple[Rows, str]:
    """The rows that agree in all they hold; of curves that branch off one trunk also those that the trunk measured."""
    names = [name for name in table.columns if name not in ("folder", "run_id")]
    rows: Rows = ~table.select(pl.struct(names).is_first_distinct()).to_series().to_numpy()
    measurement = ("measured_by", "step", "loss")
    if set(measurement) <= set(table.columns):
        rows |= ~table.select(pl.struct(measurement).is_first_distinct()).to_series().to_numpy()
    repeat = "1 row repeats" if rows.sum() == 1 else f"{int(rows.sum())} rows repeat"
    return rows, f"{repeat} an earlier one"


def _runs(table: pl.DataFrame, rows: Rows) -> str:
    """How many runs the rows are of, in words: many rows may be of one curve."""
    return counted(table.filter(rows)["curve"].n_unique() if "curve" in table.columns else int(rows.sum()), "run")


def _begins(table: pl.DataFrame, name: str, words: str) -> Rows:
    """Where a column's text begins with these words."""
    if name not in table.columns:
        return np.zeros(len(table), dtype=bool)
    begins: Rows = table[name].cast(pl.String).str.starts_with(words).fill_null(False).to_numpy()
    return begins


def _not_the_most(table: pl.DataFrame, names: Sequence[str]) -> Rows:
    """The rows whose values are not the most frequent ones."""
    if not names or not set(names) <= set(table.columns):
        return np.zeros(len(table), dtype=bool)
    cells = [pl.col(name).cast(pl.String).fill_null("") for name in names]
    values = table.select(pl.concat_str(cells, separator="/")).to_series().to_numpy()
    kinds, counts = np.unique(values, return_counts=True)
    rows: Rows = values != kinds[np.argmax(counts)]
    return rows


_FINDERS: dict[str, Callable[[pl.DataFrame], tuple[Rows, str]]] = {
    "diverged": _diverged,
    "unfinished": _unfinished,
    "lr_edge": _lr_edge,
    "not_annealed": _not_annealed,
    "mixed_data": _mixed_data,
    "mixed_code": _mixed_code,
    "grown": _grown,
    "duplicate": _duplicate,
}

"""Runs of two arms as pairs that differ in nothing but the arm: same seed, same data in the same order, and every
other setting alike, so that what a seed does to both cancels in their difference.

    read_side(table, "val_loss", bases)  ->  the runs of one side, each with its value and settings
    pair_runs(a, b)                      ->  the pairs, the settings that tell A from B, and the runs without a partner
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.tables.csv import TableError
from analysis.tables.runs import DATA, capped_loss
from conf.command_line import counted
from conf.config import Config
from conf.identity import identity
from train.record.run import FINAL

LOSSES = ("val_loss", "loss", "capped_loss", "train_loss")
"""Metrics in nats per token, of which a run counts with `analysis.tables.runs.capped_loss`."""

SIDES = ("A", "B")


@dataclass(frozen=True)
class Run:
    """One run, as far as a comparison asks about it."""

    run_id: str
    folder: str
    state: str
    seed: int
    value: float | None
    """The metric; None where the run did not measure it."""
    settings: Mapping[str, Any]
    """What can change its result, beside the seed: the settings of `conf.identity.identity`, those of what it has grown
    out of as `base.*`, and the data's fingerprint."""


@dataclass(frozen=True)
class Pair:
    """Two runs that agree in seed, data, and every setting that does not tell A from B."""

    seed: int
    cell: tuple[Any, ...]
    """Values of `Pairs.cell_names`."""
    a: Run
    b: Run

    @property
    def values(self) -> tuple[float, float]:
        """The metric of A and of B."""
        assert self.a.value is not None
        assert self.b.value is not None
        return self.a.value, self.b.value


@dataclass(frozen=True)
class Unpaired:
    """A run without a partner, or without the metric."""

    side: str
    run: Run
    reason: str


@dataclass(frozen=True)
class Pairs:
    """The pairs in the order of cell and seed, and what is left over."""

    told_by: dict[str, tuple[list[Any], list[Any]]]
    """The settings that tell A from B, with their values on both sides."""
    cell_names: tuple[str, ...]
    """Settings that vary among the pairs and are the same within each."""
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...]

    @property
    def cells(self) -> list[tuple[Any, ...]]:
        return list(dict.fromkeys(pair.cell for pair in self.pairs))

    @property
    def seeds(self) -> list[int]:
        return sorted({pair.seed for pair in self.pairs})

    @property
    def diverged(self) -> int:
        """Runs of pairs that diverged."""
        return sum(run.state == "diverged" for pair in self.pairs for run in (pair.a, pair.b))


def read_side(table: pl.DataFrame, metric: str, bases: pl.DataFrame | None = None) -> list[Run]:
    """The runs of one side.

    Args:
        table: rows of `analysis.tables.runs.read_runs`.
        bases: rows of all that they have grown out of (`analysis.tables.lineage.with_bases`), if of anything.
        metric: a column of numbers. Any of `LOSSES` is at most `loss_at_init`, which is what a diverged run has.

    Raises:
        TableError: no such column, no numbers in it, a diverged run whose record lacks `loss_at_init`, or a grown run
            whose base is not there.
    """
    if metric not in table.columns:
        raise TableError(f"--metric {metric}: no such column; there are: {', '.join(table.columns)}")
    if not (table[metric].dtype.is_numeric() or table[metric].dtype == pl.Null):
        raise TableError(f"--metric {metric}: holds {table[metric].dtype}; allowed: a column of numbers")
    known = {} if bases is None else {row["run_id"]: row for row in bases.iter_rows(named=True)}
    return [
        Run(
            run_id=row["run_id"],
            folder=row["folder"],
            state=row["state"],
            seed=row["seed"],
            value=_value(row, metric),
            settings=_settings(row, known) | {DATA: row.get(DATA)},
        )
        for row in table.iter_rows(named=True)
    ]


def _settings(row: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], prefix: str = "") -> dict[str, Any]:
    """The settings of a run, and as `base.*` and `base.base.*` those of what it has grown out of, whatever the seed."""
    settings = {f"{prefix}{name}": row[name] for name in identity(Config()) if name != "seed"}
    if row["grow.base"] is None:
        return settings
    base = known.get(row["grow.base"])
    if base is None:
        raise TableError(f"grow.base: {row['grow.base']}, which {row['folder']} starts from, is not among the runs")
    return settings | {f"{prefix}grow.base": "another run"} | _settings(base, known, f"{prefix}base.")


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    """The metric of a run that ended by itself; raises `TableError` where one of `LOSSES` has nothing to count at."""
    if row["state"] not in FINAL:
        return None
    value = None if row[metric] is None else float(row[metric])
    if metric not in LOSSES:
        return value
    counted_at = capped_loss(row["state"], value, row.get("loss_at_init"))
    if counted_at is None and row["state"] == "diverged":
        raise TableError(
            f"{row['folder']}: diverged, and its record has no loss_at_init to count it at; "
            "leave it out with --where \"state = 'finished'\""
        )
    return value if counted_at is None else counted_at  # a run that finished counts, whether or not it knows the cap


def pair_runs(a: Sequence[Run], b: Sequence[Run]) -> Pairs:
    """Pair the runs of two sides.

    A setting tells A from B if it has no value on both sides; pairs agree in all others, and in the seed.

    Raises:
        TableError: a run is on both sides, nothing pairs, or a run could be paired with several.
    """
    for run in a:
        if any(run.folder == other.folder for other in b):
            raise TableError(f"{run.folder}: is a run of A and of B; allowed: on one side")
    told_by = _told_by(a, b)
    kept = [name for name in _varied([*a, *b]) if name not in told_by]
    keyed = [_by_key(side, runs, kept) for side, runs in zip(SIDES, (a, b), strict=True)]
    common = [key for key in keyed[0] if key in keyed[1] and None not in (keyed[0][key].value, keyed[1][key].value)]
    if not common:
        raise TableError(f"A and B make no pair: {_why_none(a, b, list(told_by))}")
    cell_names = _varied([keyed[0][key] for key in common], kept)
    told_by = {name: sides for name, sides in told_by.items() if _whether_there(name) not in told_by}
    pairs = [
        Pair(key[0], tuple(keyed[0][key].settings.get(name) for name in cell_names), keyed[0][key], keyed[1][key])
        for key in common
    ]
    unpaired = [
        Unpaired(side, run, "no partner" if run.value is not None else _why_no_value(run))
        for side, runs in zip(SIDES, keyed, strict=True)
        for key, run in runs.items()
        if key not in common
    ]
    pairs.sort(key=lambda pair: ([_sortable(value) for value in pair.cell], pair.seed))
    return Pairs(told_by, tuple(cell_names), tuple(pairs), tuple(unpaired))


def _whether_there(name: str) -> str | None:
    """For `base.base.model.depth`, `base.grow.base`: if one side has no such base, that is all there is to tell."""
    of_base = re.match(r"(base\.)+", name)
    return f"{of_base[0].removesuffix('base.')}grow.base" if of_base else None


def _told_by(a: Sequence[Run], b: Sequence[Run]) -> dict[str, tuple[list[Any], list[Any]]]:
    told: dict[str, tuple[list[Any], list[Any]]] = {}
    for name in _varied([*a, *b]):
        values = [sorted({run.settings.get(name) for run in runs}, key=_sortable) for runs in (a, b)]
        if name != DATA and not set(values[0]) & set(values[1]):
            told[name] = (values[0], values[1])
    return told


def _varied(runs: Sequence[Run], among: Sequence[str] | None = None) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.settings) if among is None else among
    return [name for name in names if len({run.settings.get(name) for run in runs}) > 1]


def _by_key(side: str, runs: Sequence[Run], kept: Sequence[str]) -> dict[tuple[Any, ...], Run]:
    """Runs by seed and the kept settings. The same run in two studies counts once."""
    by_key: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        key = (run.seed, *(run.settings.get(name) for name in kept))
        first = by_key.setdefault(key, run)
        if first.run_id != run.run_id:
            raise TableError(
                f"{side}: runs {first.run_id[:8]} and {run.run_id[:8]} of seed {run.seed} differ in "
                f"{', '.join(_varied([first, run]))}, of which the other side has no value; allowed: one setting "
                "of it on each side, e.g. by --where"
            )
        if first.value is None and run.value is not None:
            by_key[key] = run
    return by_key


def _why_no_value(run: Run) -> str:
    return "no such metric" if run.state in FINAL else run.state


def _why_none(a: Sequence[Run], b: Sequence[Run], told_by: Sequence[str]) -> str:
    sides = ((*a,), (*b,))
    for side, runs in zip(SIDES, sides, strict=True):
        if all(run.value is None for run in runs):
            return f"no run of {side} ({counted(len(runs), 'run')}) has the metric"
    seeds = [sorted({run.seed for run in runs}) for runs in sides]
    if not set(seeds[0]) & set(seeds[1]):
        return f"A has seeds {_listed(seeds[0])}, B has {_listed(seeds[1])}; allowed: some seed on both sides"
    if not {run.settings[DATA] for run in a} & {run.settings[DATA] for run in b}:
        return "they read other data; allowed: the same data fingerprint on both sides"
    shared = [name for name in _varied([*a, *b]) if name not in told_by]
    return f"no two runs agree in seed and {', '.join(shared)}; allowed: the same cells on both sides"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")


def _sortable(value: Any) -> tuple[bool, str, Any]:
    """Orders null, numbers and text among themselves."""
    if value is None:
        return False, "", 0
    return True, "text" if isinstance(value, str) else "number", value

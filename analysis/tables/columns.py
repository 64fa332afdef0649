"""Columns of a table as arrays of numbers that a law can read, or one line that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conf.schema import UserError

Array = NDArray[np.float64]
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Column:
    """A quantity that a law reads from the table; `sign` says which numbers it may hold."""

    name: str
    meaning: str
    unit: str
    sign: Literal["positive", "non-negative", "any"] = "positive"


LOSS = Column("loss", "measured loss", "nats per token")


class FitError(UserError):
    """Data that a law cannot be fitted to, or a fit that cannot do what is asked of it."""


_LARGEST = 1e100  # squares must stay finite
_ALLOWED: dict[str, tuple[str, Callable[[Array], Any]]] = {
    "positive": ("positive numbers", lambda x: (x > 1 / _LARGEST) & (x < _LARGEST)),
    "non-negative": ("numbers >= 0", lambda x: (x >= 0) & (x < _LARGEST)),
    "any": ("finite numbers", lambda x: np.abs(x) < _LARGEST),
}


def read_column(table: Any, column: Column | str) -> Array:
    """A column of a table (a polars frame or a mapping of arrays) as finite numbers of the allowed sign (N,).

    Raises:
        FitError: it is missing, has no numbers, or holds a value that the law cannot read.
    """
    column = Column(column, "", "") if isinstance(column, str) else column
    values = np.asarray(_look_up(table, column.name))
    if values.dtype == object and all(value is None or isinstance(value, (int, float)) for value in values):
        values = values.astype(float)
    if values.dtype.kind not in "fiu":
        row = next((k for k, value in enumerate(values) if not _is_number(value)), 0)
        raise FitError(f"{column.name}: not a column of numbers; row {row + 1} is {str(values[row])!r}")
    values = values.astype(float)
    allowed, test = _ALLOWED[column.sign]
    bad = ~test(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = "is missing or not a number" if np.isnan(values[row]) else f"is not allowed; allowed: {allowed}"
        raise FitError(f"{column.name}: {values[row]:g} in row {row + 1} {what} (leave rows out with --where)")
    return values


def read_labels(table: Any, name: str) -> np.ndarray[Any, Any]:
    """A column of names (curves, settings, arms) as text (N,); raises `FitError` where it or an entry is missing."""
    values = np.asarray(_look_up(table, name), dtype=object)
    for row, value in enumerate(values):
        if value is None or value != value:  # a nan is not itself
            raise FitError(f"{name}: row {row + 1} is empty; allowed: a name in every row")
    return np.array([_named(value) for value in values])


def table_names(table: Any) -> list[str]:
    """The names of a table's columns."""
    return list(table.columns) if hasattr(table, "columns") else list(table)


def _look_up(table: Any, name: str) -> Any:
    names = table_names(table)
    if name not in names:
        raise FitError(f"{name}: no such column (rename with --map {name}=COLUMN); there are: {', '.join(names)}")
    return table[name]


def _named(value: Any) -> str:
    """A whole number reads the same whether its column holds fractions or not."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True

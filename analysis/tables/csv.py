"""A CSV file as a table, and what may be asked of any table: other names, some rows, a column as numbers or words.

load_csv(Path("points.csv"))              ->  its rows, a column for each name of the header
rename(table, {"loss": "my_column"})      ->  with a column `loss`
where(table, "used_in_fit == 1 and optim.lr < 0.01")  ->  the rows for which it holds
numbers(table, "lr")                      ->  the column as numbers, nan where there is none
reads_as(table, "state", ("diverged",))   ->  for each row whether it says so
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from conf.schema import UserError


class TableError(UserError):
    """Runs or a file that make no table, or a column or filter that does not fit it."""


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
    for place, name in enumerate(names):
        twice = name.removesuffix("_duplicated_0").strip()  # polars' name for the second of two
        if (name != twice and twice in names) or twice in names[:place]:
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


def reads_as(table: pl.DataFrame, name: str, words: Sequence[str]) -> NDArray[np.bool_]:
    """Where a column reads as one of these words, in small letters (N,); nowhere if it is not there."""
    if name not in table.columns:
        return np.zeros(len(table), dtype=bool)
    rows: NDArray[np.bool_] = (
        table[name].cast(pl.String).str.to_lowercase().is_in(list(words)).fill_null(False).to_numpy()
    )
    return rows


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

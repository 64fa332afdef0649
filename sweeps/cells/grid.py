"""Grids as plain lists of what each run sets: `{"model": "gpt_1m", "optim.lr": 3e-3}`.

    product({"model.width": [32, 64], "seed": [0, 1]})                      4 cells
    zipped({"model.width": [32, 64], "model.heads": [2, 4]})                2 cells
    cross(zipped({...}), product({...}), [{"schedule": "wsd"}])             every combination
    where(cells, lambda cell: cell["model.width"] < 64)                     some of them
    under([{"param": "mup"}, {"param": "standard"}], cells)                 all of them under each arm

Explicit cells need no function: they are a list of dicts. `sweeps.cells.cell` has what starts from another run.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from conf.schema import UserError

Value = str | int | float | bool | None
GridPoint = dict[str, Value]
"""Some settings of a run, by their full paths."""


class GridError(UserError):
    """Axes or cells that do not fit together."""


def product(axes: Mapping[str, Sequence[Value]]) -> list[GridPoint]:
    """Every combination of the axes' values, the last axis fastest; raises `GridError` for an empty axis."""
    _check_axes(axes)
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def zipped(axes: Mapping[str, Sequence[Value]]) -> list[GridPoint]:
    """The axes side by side, all of one length; raises `GridError` otherwise."""
    _check_axes(axes)
    if len({len(values) for values in axes.values()}) > 1:
        lengths = ", ".join(f"{key} has {len(values)}" for key, values in axes.items())
        raise GridError(f"zipped axes differ in length: {lengths}; allowed: one length for all")
    return [dict(zip(axes, values, strict=True)) for values in zip(*axes.values(), strict=True)]


def cross(*grids: Sequence[GridPoint]) -> list[GridPoint]:
    """Every combination of one cell of each grid, the last grid fastest; raises `GridError` if two set one key."""
    cells: list[GridPoint] = []
    for parts in itertools.product(*grids):
        cell: GridPoint = {}
        for part in parts:
            for key in cell.keys() & part.keys():
                raise GridError(f"{key}: set to {cell[key]!r} and to {part[key]!r} by crossed cells; allowed: once")
            cell |= part
        cells.append(cell)
    return cells


def where(cells: Sequence[GridPoint], keep: Callable[[GridPoint], bool]) -> list[GridPoint]:
    """The cells that `keep` holds for, in order."""
    return [cell for cell in cells if keep(cell)]


def under(arms: Sequence[GridPoint], cells: Sequence[GridPoint]) -> list[GridPoint]:
    """Every cell under every arm, the last cell fastest; an arm's settings replace the cell's."""
    return [cell | arm for arm in arms for cell in cells]


def overrides(settings: Mapping[str, Value]) -> list[str]:
    """Settings in Hydra's override grammar, without loss: `conf.compose.compose` reads the same values back."""
    return [f"{key}={_render(key, value)}" for key, value in settings.items()]


def _render(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):  # NumPy's numbers too, so that an axis may be a geomspace
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if not isinstance(value, str):
        raise GridError(f"{key}: {value!r} is a {type(value).__name__}; allowed: text, a number, a bool or None")
    if "${" in value or "\0" in value:
        raise GridError(f"{key}: {value!r} is not allowed; allowed: text without '${{' and without NUL")
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def _check_axes(axes: Mapping[str, Sequence[Value]]) -> None:
    for key, values in axes.items():
        if isinstance(values, str):
            raise GridError(f"{key}: the axis is the text {values!r}; allowed: a list of values")
        if len(values) == 0:
            raise GridError(f"{key}: the axis has no values; allowed: at least one")

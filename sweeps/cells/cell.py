"""A cell: what one run sets, and the run that it starts from.

    Cell({"model": "gpt_1m", "optim.lr": 3e-3})                       a run from scratch
    Cell({"model.depth": 8}, base=cell, step=200)                     one from step 200 of the run of another cell
    Cell({"model.depth": 8}, base="0123456789abcdef", step=200)       one from step 200 of a run that is there already
    cell | {"seed": 1}                                                the cell with another seed
    cell.overrides()                                                  ["model='gpt_1m'", "optim.lr=0.003"]
    Cell.of({"model.depth": 8, "grow.base": {…}, "grow.step": 200})   the cell that a file or a plain dict says
    cell.plain                                                        what `Cell.of` reads, as plain values

A base is a whole cell since a run has no name before its settings are complete; a plan turns it into the run's id.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from conf.schema import RUN, UserError
from sweeps.cells.grid import Value, overrides

BASE = "grow.base"
STEP = "grow.step"


class CellError(UserError):
    """Something that is no cell."""


@dataclass(frozen=True)
class Cell:
    """Settings of one run by their full paths, and where it starts.

    Two cells are equal if they set the same, in whatever order, and start from the same step of equal bases.

    Attributes:
        settings: all but `grow.base` and `grow.step`.
        base: the cell of the run that it starts from, or the id or folder of one that is there already; None from
            scratch.
        step: of the base, in optimiser steps.
    """

    settings: Mapping[str, Value]
    base: Cell | str | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        """Raises `CellError` if the settings name a base."""
        for key in (BASE, STEP):
            if key in self.settings:
                raise CellError(f"{key}: is no setting of a cell beside others; allowed: `grown(base, step, …)`")
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def __hash__(self) -> int:
        return hash((frozenset(self.settings.items()), self.base, self.step))

    @classmethod
    def of(cls, plain: Cell | Mapping[str, Any]) -> Cell:
        """The cell of settings that may have a base under `grow.base`: settings again, also as JSON text, or a run.

        Raises:
            CellError: the base is something else, or the step is no whole number.
        """
        if isinstance(plain, Cell):
            return plain
        settings = {key: value for key, value in plain.items() if key not in (BASE, STEP)}
        step = plain.get(STEP)
        if step is not None and (isinstance(step, bool) or not isinstance(step, numbers.Integral)):
            raise CellError(f"{STEP}: {step!r} is not allowed; allowed: integer")
        return cls(settings, _base_of(plain.get(BASE)), None if step is None else int(step))

    @property
    def plain(self) -> dict[str, Any]:
        """The settings, and the base and its step under `grow.base` and `grow.step`; JSON can hold it."""
        base = self.base.plain if isinstance(self.base, Cell) else self.base
        start = {BASE: base, STEP: self.step}
        return {**self.settings, **{key: value for key, value in start.items() if value is not None}}

    def __or__(self, settings: Mapping[str, Value]) -> Cell:
        """The cell with other settings, which replace its own."""
        return replace(self, settings={**self.settings, **settings})

    def __ror__(self, settings: Mapping[str, Value]) -> Cell:
        """The cell with further settings, where it has none of its own."""
        return replace(self, settings={**settings, **self.settings})

    def without(self, *keys: str) -> Cell:
        """The cell without some of its settings."""
        return replace(self, settings={key: value for key, value in self.settings.items() if key not in keys})

    def overrides(self) -> list[str]:
        """The cell in Hydra's override grammar.

        Raises:
            CellError: the base is a cell, which has no id yet.
        """
        if isinstance(self.base, Cell):
            raise CellError(f"{BASE}: is a cell, which has no id before a plan; allowed: the id of a run")
        return overrides(self.plain)


def _base_of(plain: Any) -> Cell | str | None:
    if plain is None or (isinstance(plain, str) and RUN.fullmatch(plain)):
        return plain
    content = plain
    if isinstance(plain, str):
        try:
            content = json.loads(plain)
        except json.JSONDecodeError:
            content = None
    if not isinstance(content, Cell | Mapping):
        raise no_base(plain)
    return Cell.of(content)


def no_base(value: object, *, by_id: bool = True) -> CellError:
    """The refusal of what nothing can start from."""
    run = ", or the id of a run" if by_id else ""
    return CellError(f"{BASE}: {value!r} is not allowed in a sweep; allowed: the base's own cell, as JSON{run}")

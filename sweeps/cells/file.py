"""`read_study(Path("plan.json"), taken=STUDIES)`: the study that a file holds.

    {"study": "planned/alpha", "claim": "…", "cells": [{"model.width": 48, …}, …]}

A run that starts from another one has that one's cell under `grow.base`, `{"grow.base": {"model.width": 48, …}, …}`, or
the id of a run that is there already. Other keys of the file are notes of whoever wrote it. The cells are the same at
every profile, which then only says where they run: `cpu` or `gpu`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sweeps.cells.cell import BASE, Cell, CellError
from sweeps.cells.study import RESERVED, Study

WHERE = ("cpu", "gpu")  # no cell is smaller at `smoke`


def read_study(path: Path, *, taken: Collection[str]) -> Study:
    """The study that a file holds.

    Args:
        taken: names of other studies, whose manifest and runs it must not replace.

    Raises:
        CellError: it cannot be read, or says something else than cells. Whether a cell is a possible run is seen
            when it is composed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CellError(f"--cells {path}: {error.strerror}") from None
    except ValueError as error:
        raise CellError(f"--cells {path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise CellError(f"--cells {path}: holds a {_type(content)}; allowed: an object with study and cells")
    name, claim, cells = content.get("study"), content.get("claim", ""), content.get("cells")
    if not isinstance(name, str):
        raise CellError(f"--cells {path}: study is {name!r}; allowed: a name such as planned/alpha")
    if any(f"{name}/".startswith(f"{other}/") or other.startswith(f"{name}/") for other in taken):
        raise CellError(f"--cells {path}: study {name!r} is another study's folder; allowed: such as planned/alpha")
    if not isinstance(claim, str):
        raise CellError(f"--cells {path}: claim is a {_type(claim)}; allowed: text")
    if not isinstance(cells, list) or not cells:
        raise CellError(
            f"--cells {path}: cells is {'empty' if cells == [] else _type(cells)}; allowed: a list of cells"
        )
    study_cells = tuple(_read(f"--cells {path}: cell {number}", cell) for number, cell in enumerate(cells, start=1))
    return Study(name, claim, lambda profile: study_cells)  # noqa: ARG005  # the same at each


def _read(where: str, plain: Any) -> Cell:
    if not isinstance(plain, dict):
        raise CellError(f"{where} is a {_type(plain)}; allowed: an object of settings")
    cell = Cell.of(plain)
    _check(where, cell)
    return cell


def _check(where: str, cell: Cell) -> None:
    """Raises `CellError` if a setting of the cell, or of one that it starts from, is none that a cell may have."""
    if isinstance(cell.base, Cell):
        _check(f"{where}: {BASE}", cell.base)
    for key, value in cell.settings.items():
        if re.fullmatch(r"\w+(\.\w+)*", key) is None:
            raise CellError(f"{where}: {key!r} is no setting; allowed: a full path such as model.width")
        if key in RESERVED or key.startswith("runtime."):
            use = RESERVED.get(key, "use --profile or --set")
            raise CellError(f"{where}: {key} is no part of a cell; {use}")
        if not isinstance(value, (str, int, float, bool)) and value is not None:
            raise CellError(f"{where}: {key} is a {_type(value)}; allowed: text, a number, true, false or null")


def _type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")

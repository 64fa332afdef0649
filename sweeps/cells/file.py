"""A study from a file: `{"study": "planned/alpha", "claim": "…", "cells": [{"model.width": 48, …}, …]}`.

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

from conf.schema import RUN, UserError
from sweeps.cells.graph import BASE, base_of
from sweeps.cells.grid import Cell
from sweeps.cells.study import RESERVED, Study

WHERE = ("cpu", "gpu")  # no cell is smaller at `smoke`


class CellsError(UserError):
    """A file that is no list of cells."""


def read_study(path: Path, *, taken: Collection[str]) -> Study:
    """The study that a file holds.

    Args:
        taken: names of other studies, whose manifest and runs it must not replace.

    Raises:
        CellsError: it cannot be read, or says something else than cells. Whether a cell is a possible run is seen
            when it is composed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CellsError(f"--cells {path}: {error.strerror}") from None
    except ValueError as error:
        raise CellsError(f"--cells {path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise CellsError(f"--cells {path}: holds a {_type(content)}; allowed: an object with study and cells")
    name, claim, cells = content.get("study"), content.get("claim", ""), content.get("cells")
    if not isinstance(name, str):
        raise CellsError(f"--cells {path}: study is {name!r}; allowed: a name such as planned/alpha")
    if any(f"{name}/".startswith(f"{other}/") or other.startswith(f"{name}/") for other in taken):
        raise CellsError(f"--cells {path}: study {name!r} is another study's folder; allowed: such as planned/alpha")
    if not isinstance(claim, str):
        raise CellsError(f"--cells {path}: claim is a {_type(claim)}; allowed: text")
    if not isinstance(cells, list) or not cells:
        raise CellsError(
            f"--cells {path}: cells is {'empty' if cells == [] else _type(cells)}; allowed: a list of cells"
        )
    found = [_checked(f"--cells {path}: cell {number}", cell) for number, cell in enumerate(cells, start=1)]
    return Study(claim, lambda profile: [dict(cell) for cell in found], name=name)  # noqa: ARG005  # the same at each


def _checked(where: str, cell: Any) -> Cell:
    """The cell, with its base's own cell as `sweeps.cells.graph.grown` writes it."""
    if not isinstance(cell, dict):
        raise CellsError(f"{where} is a {_type(cell)}; allowed: an object of settings")
    if isinstance(cell.get(BASE), dict | str) and not RUN.fullmatch(str(cell[BASE])):
        base = _checked(f"{where}: {BASE}", base_of(cell))
        cell = cell | {BASE: json.dumps(base, sort_keys=True)}
    for key, value in cell.items():
        if re.fullmatch(r"\w+(\.\w+)*", key) is None:
            raise CellsError(f"{where}: {key!r} is no setting; allowed: a full path such as model.width")
        if key in RESERVED or key.startswith("runtime."):
            use = RESERVED.get(key, "use --profile or --set")
            raise CellsError(f"{where}: {key} is no part of a cell; {use}")
        if not isinstance(value, (str, int, float, bool)) and value is not None:
            raise CellsError(f"{where}: {key} is a {_type(value)}; allowed: text, a number, true, false or null")
    return cell


def _type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")

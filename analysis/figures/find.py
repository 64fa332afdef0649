"""Figures by the name of their study: `analysis/figures/<paper>/<figure>.py` with a `draw` draws `<paper>/<figure>`.

find_figure("gstack/timing")(runs, folder)    draws it into the folder, and gives the claims
figures()                                     the names of all that can be drawn
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import polars as pl

import analysis.figures
from analysis.claims.claim import Claim
from conf.command_line import pick
from conf.schema import UserError

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv, and prints what it fits.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]


class FigureError(UserError):
    """A figure's file that cannot be used."""


def find_figure(study: str) -> Draw:
    """What draws a study; only its own module is imported.

    Raises:
        UserError: there is no such figure; the line names the studies that have one.
        FigureError: its file cannot be used.
    """
    if study not in _files():
        pick("study", study, {name: name for name in figures()})
    try:
        module = importlib.import_module(f"analysis.figures.{study.replace('/', '.')}")
    except (Exception, SystemExit) as error:  # whatever a file may raise while it is imported
        words = " ".join(str(error).split())
        raise FigureError(f"analysis/figures/{study}.py: {type(error).__name__}: {words}") from error
    draw: Draw | None = getattr(module, "draw", None)
    if draw is None:
        raise FigureError(f"analysis/figures/{study}.py: draws nothing; allowed: a file with a function `draw`")
    return draw


def figures() -> list[str]:
    """The names of all studies that have figures, sorted; nothing is imported for it, and a file that cannot be parsed
    is left out."""
    return [name for name, file in _files().items() if "draw" in _names_in(file)]


def _files() -> dict[str, Path]:
    files = [file for root in analysis.figures.__path__ for file in Path(root).glob("*/*.py")]
    named = {f"{file.parent.name}/{file.stem}": file for file in files if file.name != "__init__.py"}
    return dict(sorted(named.items()))


def _names_in(file: Path) -> set[str]:
    """What a module defines, assigns or imports at its top."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names

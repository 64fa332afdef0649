"""Figures by the name of their study: `analysis/figures/<paper>/<figure>.py` with a `draw` draws `<paper>/<figure>`.

find_figure("gstack/timing")(runs, folder)    draws it into the folder, and gives the claims
figures()                                     the names of all that can be drawn
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import polars as pl

import analysis.figures
from analysis.claims.claim import Claim
from conf.command_line import pick

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv, and prints what it fits.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]


def find_figure(study: str) -> Draw:
    """What draws a study; only its own module is imported. Raises `UserError` naming the studies that have figures."""
    name = pick("study", study, {name: name for name in figures()})
    draw: Draw = importlib.import_module(f"analysis.figures.{name.replace('/', '.')}").draw
    return draw


def figures() -> list[str]:
    """The names of all studies that have figures, sorted; nothing is imported for it."""
    files = [file for root in analysis.figures.__path__ for file in Path(root).glob("*/*.py")]
    return sorted({f"{file.parent.name}/{file.stem}" for file in files if "\ndef draw(" in file.read_text("utf-8")})

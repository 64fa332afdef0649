"""Which function draws which study."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import polars as pl

from analysis.claims import Claim
from analysis.figures import demo
from conf.schema import UserError

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv; prints what it found.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]

FIGURES: dict[str, Draw] = {"demo/ladder": demo.ladder}


class FigureError(UserError):
    """A study that has no figure."""


def get_figure(study: str) -> Draw:
    """The function that draws a study; raises `FigureError` naming those that exist."""
    if study not in FIGURES:
        close = difflib.get_close_matches(study, FIGURES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(FIGURES)}"
        raise FigureError(f"study: {study!r} has no figure; {hint}")
    return FIGURES[study]

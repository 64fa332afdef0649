"""Which function draws which study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from analysis.claims import Claim
from analysis.figures import demo
from conf.door import pick

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv; prints what it found.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]

FIGURES: dict[str, Draw] = {"demo/ladder": demo.ladder}


def get_figure(study: str) -> Draw:
    """The function that draws a study; raises `UserError` naming those that exist."""
    return pick("study", study, FIGURES)

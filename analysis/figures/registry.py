"""Which function draws which study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from analysis.claims import Claim
from analysis.figures import demo, laws, lr_annealing
from conf.door import pick

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv; prints what it found.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]

FIGURES: dict[str, Draw] = {
    "demo/ladder": demo.ladder,
    "laws/known_floor": laws.known_floor,
    "lr_annealing/transfer": lr_annealing.transfer,
}


def get_figure(study: str) -> Draw:
    """The function that draws a study; raises `UserError` naming those that exist."""
    return pick("study", study, FIGURES)

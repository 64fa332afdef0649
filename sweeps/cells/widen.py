"""Widening a grid until its best value is interior: cells and final losses -> more cells.

    widened(cells, Widen(), final_loss).cells       [Cell({"optim.lr": 0.1, …})], where 0.03 was the largest and best
    next_value([1e-3, 1e-2], "largest")             0.1

Nothing is kept of a widening but the runs themselves: the same cells and the same losses always lead to the same
cells, round by round from the study's own grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conf.schema import UserError
from sweeps.cells.cell import Cell
from train.record.edge import Side, best_value
from train.record.manifest import Profile

FinalLoss = Callable[[Cell], float | None]
"""The final loss of a cell's run: infinite if it diverged, None if it has not ended."""


class WidenError(UserError):
    """A grid that cannot be widened."""


@dataclass(frozen=True)
class Widen:
    """A wish of a study: the best value of `key` shall not be the smallest or the largest of its grid.

    Cells that agree in everything but `key` and `seed` are one grid. Where the mean final loss over the seeds is best
    at an end of it (and where every value diverged, at the smallest), it grows there by one value, in the ratio of the
    two outermost ones, for all its seeds: `at_most` times at each end.
    """

    key: str = "optim.lr"
    at_most: int = 3
    profiles: tuple[Profile, ...] = ("cpu", "gpu")


@dataclass(frozen=True)
class Extension:
    """A value that is added to one grid."""

    grid: str
    """What tells the grid from the study's others, for a reader."""
    key: str
    side: Side
    best: float
    value: float
    cells: tuple[Cell, ...]

    def __str__(self) -> str:
        runs = "1 run" if len(self.cells) == 1 else f"{len(self.cells)} runs"
        return (
            f"{self.grid}{self.key}: the {self.side} value {self.best:g} is best so far; added {self.value:g} ({runs})"
        )


@dataclass(frozen=True)
class Bracket:
    """What a widening has come to: the cells added, in order, and a line for every grid still best at an end."""

    extensions: tuple[Extension, ...] = ()
    at_the_edge: tuple[str, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        return [cell for extension in self.extensions for cell in extension.cells]


def widened(cells: Sequence[Cell], widen: Widen, final_loss: FinalLoss) -> Bracket:
    """The cells that the losses ask for, as far as they are known.

    A grid one of whose runs has not ended waits for it. A grid of one value has no step, and is left alone.

    Raises:
        WidenError: a value of `widen.key` is no positive number.
    """
    grids = _grids(cells, widen.key)
    extensions: list[Extension] = []
    lines: list[str] = []
    for name, grid in _named(grids).items():
        if len(grid) > 1:
            added, line = _widen_one(name, grid, widen, final_loss)
            extensions += added
            lines += [line] if line else []
    return Bracket(tuple(extensions), tuple(lines))


Grid = dict[float, list[Cell]]
"""The cells of each value, one for each seed."""


def _widen_one(name: str, grid: Grid, widen: Widen, final_loss: FinalLoss) -> tuple[list[Extension], str | None]:
    grid = dict(grid)
    extensions: list[Extension] = []
    taken: dict[Side, int] = {"smallest": 0, "largest": 0}
    seeds = {cell.settings.get("seed"): cell for cells in grid.values() for cell in cells}
    while (losses := _mean_losses(grid, final_loss)) is not None:
        best, side = best_value(losses)
        if side is None:
            return extensions, None
        if taken[side] == widen.at_most:
            times = "1 extension" if widen.at_most == 1 else f"{widen.at_most} extensions"
            return extensions, f"{name}{widen.key}: the best value {best:g} is still the {side} after {times}"
        value = next_value(list(grid), side)
        grid[value] = [cell | {widen.key: value} for cell in seeds.values()]
        extensions.append(Extension(name, widen.key, side, best, value, tuple(grid[value])))
        taken[side] += 1
    return extensions, None


def next_value(values: Sequence[float], side: Side) -> float:
    """One step beyond an end, in the ratio of its two outermost values, to six digits."""
    ordered = sorted(values, reverse=side == "smallest")
    return float(f"{ordered[-1] * ordered[-1] / ordered[-2]:.6g}")


def _mean_losses(grid: Grid, final_loss: FinalLoss) -> dict[float, float] | None:
    """The mean over seeds of each value; None while one is not known."""
    means: dict[float, float] = {}
    for value, cells in grid.items():
        losses = [final_loss(cell) for cell in cells]
        known = [loss for loss in losses if loss is not None]
        if len(known) < len(losses):
            return None
        means[value] = sum(known) / len(known)
    return means


def _grids(cells: Sequence[Cell], key: str) -> dict[Cell, Grid]:
    """The cells that set `key`, by everything else that they set, and by its value."""
    grids: dict[Cell, Grid] = {}
    for cell in cells:
        if key not in cell.settings:
            continue
        value = cell.settings[key]
        if isinstance(value, (str, bool)) or value is None or not 0 < value < math.inf:
            raise WidenError(f"{key}: {value!r} cannot be widened; allowed: a number above 0")
        grids.setdefault(cell.without(key, "seed"), {}).setdefault(float(value), []).append(cell)
    return grids


def _named(grids: dict[Cell, Grid]) -> dict[str, Grid]:
    """The grids by what tells them apart: `model.width=64: `, and nothing where there is only one."""
    plain = [cell.plain for cell in grids]
    keys = sorted(key for key in set().union(*plain) if len({repr(cell.get(key)) for cell in plain}) > 1)
    names = [" ".join(f"{key}={cell.get(key)}" for key in keys) for cell in plain]
    return {f"{name}: " if name else "": grid for name, grid in zip(names, grids.values(), strict=True)}

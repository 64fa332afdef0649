"""How much a study trains at each profile: one row for each setting, one column for each profile.

SCALES = scales(
    widths=((16,), (32, 64), (128, 512)),        smoke, cpu, gpu
    …
)
SCALES["cpu"].training()        context, batch, steps and validation, as settings of a cell
SCALES["cpu"].model(64, 3)      {"model.width": 64, "model.heads": 2, "model.depth": 3}
SCALES["cpu"].rates()           [{"optim.lr": 1e-3}, {"optim.lr": 3e-3}]
SCALES["cpu"].each_seed()       [{"seed": 0}, {"seed": 1}, {"seed": 2}]
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from typing import TypeVar

from sweeps.cells.grid import GridPoint, zipped
from train.record.manifest import PROFILES, Profile

T = TypeVar("T")
Columns = tuple[T, T, T]
"""The values at `smoke`, `cpu` and `gpu`."""


@dataclass(frozen=True)
class Scale:
    """One profile of a study: its models, how long and on what they are trained, and how often.

    Attributes:
        widths, depths: those that there are; the study says which go together.
        head_dim: of attention; a narrower model has one head.
        context: tokens in a window.
        batch: windows in a step.
        steps: of a run that is as long as the study's usual ones.
        lrs: peak learning rates.
        seeds: how many, from 0 on. Every setting has the same ones, so that arms are compared by pairs.
        val_windows: windows that the loss is validated on.
        probe_every: how often layers are probed, as a duration; None: never.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    head_dim: int
    context: int
    batch: int
    steps: int
    lrs: tuple[float, ...]
    seeds: int
    val_windows: int
    probe_every: str | None

    def training(self) -> GridPoint:
        """What a run has on the standard library's source as bytes, validated at its start and end."""
        cell: GridPoint = {
            "data": "stdlib",
            "data.context": self.context,
            "train.batch_size": self.batch,
            "train.duration": f"{self.steps}steps",
            "train.checkpoint_every": "100%",
            "eval.every": "100%",
            "eval.sequences": self.val_windows,
        }
        return cell if self.probe_every is None else cell | {"probe.every": self.probe_every, "probe.sequences": 4}

    def wide(self, width: int) -> GridPoint:
        """The width of a model, and its heads."""
        return {"model.width": width, "model.heads": max(1, width // self.head_dim)}

    def model(self, width: int, depth: int) -> GridPoint:
        return self.wide(width) | {"model.depth": depth}

    def rates(self, lowest: float = 0.0) -> list[GridPoint]:
        """Cells of the learning rates, but for those below the `lowest`."""
        return zipped({"optim.lr": [lr for lr in self.lrs if lr >= lowest]})

    def each_seed(self) -> list[GridPoint]:
        return zipped({"seed": range(self.seeds)})


def scales(
    *,
    widths: Columns[tuple[int, ...]],
    depths: Columns[tuple[int, ...]],
    head_dim: Columns[int],
    context: Columns[int],
    batch: Columns[int],
    steps: Columns[int],
    lrs: Columns[tuple[float, ...]],
    seeds: Columns[int],
    val_windows: Columns[int],
    probe_every: Columns[str | None] = (None, None, None),
) -> dict[Profile, Scale]:
    """The scale of each profile, from the rows of a table."""
    columns = zip(
        widths, depths, head_dim, context, batch, steps, lrs, seeds, val_windows, probe_every, strict=True
    )  # fmt: skip
    return dict(zip(PROFILES, starmap(Scale, columns), strict=True))

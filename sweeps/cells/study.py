"""What a study is: a name, the sentence that it tests, and the cells of its runs at each profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conf.schema import set_by_sweeps
from sweeps.cells.cell import Cell
from sweeps.cells.grid import GridPoint
from sweeps.cells.widen import Widen
from train.record.manifest import Profile

# Stated and not detected, so that a plan is the same on every machine and needs no torch.
DEVICE: dict[Profile, str] = {"smoke": "cpu", "cpu": "cpu", "gpu": "cuda"}

# Settings that a sweep decides itself, and what to use instead.
RESERVED = set_by_sweeps()


@dataclass(frozen=True)
class Study:
    """A named experiment: `STUDY = Study(claim="A longer warm-up …", cells=cells)` in a file of `sweeps/studies/`.

    Attributes:
        claim: the sentence that it tests.
        cells: its runs at a profile, by one code path: `smoke` takes seconds, `cpu` at most ten minutes on two cores
            and still shows the effect, `gpu` at most twenty minutes on one GPU.
        widen: asks for a grid that goes on until its best value is not at an end.
        name: `<paper>/<figure>`, the path of its file, which `sweeps.studies.find` enters.
    """

    claim: str
    cells: Callable[[Profile], Sequence[Cell | GridPoint]]
    widen: Widen | None = None
    name: str = ""

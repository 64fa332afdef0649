"""Pictures: the formats that one may be asked for in, and a figure beside the numbers that it shows.

`analysis.drawing.style` writes a picture; the formats are known before matplotlib is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from conf.schema import UserError
from train.record.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")


def check_picture(option: str, path: Path | None) -> None:
    """Raise `UserError` for a name that is no picture's; None, where none is asked for, is fine."""
    if path is not None and path.suffix not in PICTURES:
        raise UserError(f"{option} {path}: not a picture; allowed: a name that ends in {', '.join(PICTURES)}")


def write_picture(figure: Figure, numbers: pl.DataFrame, stem: Path) -> None:
    """`write_picture(figure, sweep, folder / "loss")` writes `loss.png`, `loss.svg`, and what they show: `loss.csv`."""
    from analysis.drawing.style import save  # matplotlib takes a while to import

    save(figure, stem)
    write_bytes(stem.with_name(f"{stem.name}.csv"), numbers.write_csv().encode())

"""The formats that a picture may be asked for in. `analysis.drawing.style` writes it; this is known before matplotlib
is."""

from __future__ import annotations

from pathlib import Path

from conf.schema import UserError

PICTURES = (".png", ".svg", ".pdf")


def check_picture(option: str, path: Path | None) -> None:
    """Raise `UserError` for a name that is no picture's; None, where none is asked for, is fine."""
    if path is not None and path.suffix not in PICTURES:
        raise UserError(f"{option} {path}: not a picture; allowed: a name that ends in {', '.join(PICTURES)}")

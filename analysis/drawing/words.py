"""Fits and claims in words for a terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

_PIPE_WIDTH = 160  # columns, where no terminal limits them


def wide_console(**options: Any) -> Console:
    """As wide as the terminal; where the output goes elsewhere, wide enough for a table."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, **options)


def number(value: float) -> str:
    """Four significant digits, thousands without an exponent."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3e}"

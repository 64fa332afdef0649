"""Numbers in words: `number(0.123456)` gives `0.1235`, and `number(123456.0)` gives `1.235e+05`."""

from __future__ import annotations


def number(value: float) -> str:
    """Four significant digits, thousands without an exponent."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3e}"

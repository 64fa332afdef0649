"""Fits and claims in words for a terminal."""

from __future__ import annotations


def number(value: float) -> str:
    """Four significant digits, thousands without an exponent."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3e}"

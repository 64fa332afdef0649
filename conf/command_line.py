"""What the command lines share: errors in one line, close matches, a console, and numbers as people say them.

Parser(prog="python -m analysis fit")     argparse whose errors are `UserError`s
pick("law", "chinchila", LAWS)            UserError: law: 'chinchila' is unknown; did you mean chinchilla? allowed: …
human(1_234_567), human(2e15, SI)         '1.23M', '2P'
counted(1, "run"), counted(2, "run")      '1 run', '2 runs'
in_words(12), in_words(200)               '12 s', '3.3 min'
wide_console().print(table)               as wide as the terminal, and wide enough for a table where there is none
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from rich.console import Console

from conf.schema import UserError

T = TypeVar("T")

COUNTS = "KMBT"  # of parameters and tokens
SI = "kMGTPE"  # of FLOPs
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_PIPE_WIDTH = 160  # columns of a table that no terminal limits


class Parser(argparse.ArgumentParser):
    """argparse, with its errors as one line: they are `UserError`s."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def pick(kind: str, name: str, options: Mapping[str, T]) -> T:
    """`options[name]`, or a `UserError` with what is allowed and a close match."""
    if name in options:
        return options[name]
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(f"{kind}: {name!r} is unknown; {hint}allowed: {', '.join(options)}")


def human(number: float, prefixes: str = COUNTS) -> str:
    """Three digits and a prefix: 1234567 is `1.23M`."""
    for prefix in ("", *prefixes):
        if abs(number) < 999.5 or prefix == prefixes[-1]:
            break
        number /= 1000
    return f"{number:.3g}{prefix}"


def in_words(seconds: float) -> str:
    """`12 s`, `3.4 min`, `1.5 h` or `2.0 d`: the largest unit that makes at least 1.5 of it."""
    unit = next((unit for unit, length in reversed(SECONDS.items()) if seconds >= 1.5 * length), "s")
    return f"{seconds:.0f} s" if unit == "s" else f"{seconds / SECONDS[unit]:.1f} {unit}"


def counted(n: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def wide_console(**options: Any) -> Console:
    """A console as wide as the terminal; where the output goes elsewhere, wide enough for a table."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, **options)

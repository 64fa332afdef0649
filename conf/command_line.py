"""What the command lines share: errors in one line, close matches, options from a class, a console, numbers in words.

Parser(prog="python -m analysis fit")                 argparse whose errors are `UserError`s
pick("law", "chinchila", LAWS)                        UserError: did you mean chinchilla? allowed: …
delta: float = option(1e-3, "where it turns linear")  a field of a frozen dataclass, and the home of its default
add_options(parser, FitOptions)                       an argument for each such field
options_of(FitOptions, parser.parse_args())           the class with what was given
human(1_234_567), human(2e15, SI)                     '1.23M', '2P'
counted(1, "run"), counted(2, "run")                  '1 run', '2 runs'
in_words(12), in_words(200)                           '12 s', '3.3 min'
wide_console().print(table)                           as wide as the terminal, and wide enough for a table
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NoReturn, TypeVar

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


# --- options from a class --------------------------------------------------------------------------------

_OPTION = "option"  # in the metadata of a field


def option(
    default: Any,
    meaning: str,
    *,
    flag: str | None = None,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    choices: Collection[str] | None = None,
    several: Literal["again", "in a row"] | None = None,
) -> Any:
    """`option(1000, "resamples", metavar="N")`: a field of a frozen dataclass that the command line gives.

    Args:
        meaning: for `--help`, which adds a default that says something.
        flag: the argument, when it is not the field's name: `--fix`.
        parse: of the text; the type of a default that is a number, when None.
        several: the argument is given `again` and again, or has several values `in a row`; the default is then `()`,
            or `{}` for pairs.
    """
    known: dict[str, Any] = {
        "meaning": meaning,
        "flag": flag,
        "metavar": metavar,
        "choices": choices,
        "several": several,
    }
    known["parse"] = parse or (type(default) if isinstance(default, (int, float)) else None)
    if isinstance(default, (dict, tuple)):
        return dataclasses.field(default_factory=type(default), metadata={_OPTION: known})
    return dataclasses.field(default=default, metadata={_OPTION: known})


def flag_of(spec: dataclasses.Field[Any]) -> str:
    """`--profile-of`: the argument that gives a field its value; the field's name where none does."""
    if _OPTION not in spec.metadata:
        return spec.name
    return spec.metadata[_OPTION]["flag"] or f"--{spec.name.replace('_', '-')}"


def add_options(parser: argparse._ActionsContainer, options: type) -> None:
    """`add_options(parser, FitOptions)`: an argument for each field that `option` made, in their order."""
    for spec in dataclasses.fields(options):
        if _OPTION not in spec.metadata:
            continue
        known = spec.metadata[_OPTION]
        default = [] if known["several"] else spec.default
        more: dict[str, Any] = {"again": {"action": "append"}, "in a row": {"nargs": "+"}}.get(known["several"], {})
        says = "" if known["several"] or default is None else f" (default: {default})"
        more |= {name: known[name] for name in ("metavar", "choices") if known[name] is not None}
        if known["parse"] is not None:
            more["type"] = known["parse"]
        parser.add_argument(flag_of(spec), dest=spec.name, default=default, help=known["meaning"] + says, **more)


def options_of(options: type[T], given: argparse.Namespace, **others: Any) -> T:
    """`options_of(FitOptions, parser.parse_args())`: the class with what was given, and `others` of its fields."""
    values = {}
    for spec in dataclasses.fields(options):  # type: ignore[arg-type]
        if _OPTION in spec.metadata:
            value = getattr(given, spec.name)
            if spec.default_factory is not dataclasses.MISSING:
                value = type(spec.default_factory())(value)
            values[spec.name] = value
    return options(**values, **others)


def pair(text: str) -> tuple[str, str]:
    """`pair("loss=bpb")` is ("loss", "bpb"), for argparse."""
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COLUMN")
    return name, column


def number_pair(text: str) -> tuple[str, float]:
    """`number_pair("E=1.69")` is ("E", 1.69), for argparse."""
    name, value = pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


# --- words -----------------------------------------------------------------------------------------------


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

"""`python -m analysis table`: runs as one table, a row each."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands.options import (
    add_table,
    check_files,
    read_table,
)
from train.record.files import write_bytes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_table(parser, ("runs",))
    parser.add_argument("--out", type=Path, metavar="CSV", help="write it here instead of to the terminal")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out)
    points = read_table(options)
    if options.out is None:
        print(points.write_csv(), end="")
        return
    write_bytes(options.out, points.write_csv().encode())
    print(f"{len(points)} runs are in {options.out}")

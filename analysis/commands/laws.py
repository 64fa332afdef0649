"""`python -m analysis laws`: every law with its formula, columns, constants and source."""

from __future__ import annotations

import argparse

from analysis.fits.words import print_laws
from analysis.laws.registry import LAWS, find_law


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    print_laws([find_law(name) for name in options.names] or LAWS.values())

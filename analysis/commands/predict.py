"""`python -m analysis predict`: what a fit says of other rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands.options import (
    UsageError,
    add_schedules,
    add_table,
    check_files,
    read_table,
)
from analysis.fits.files import read_fits
from analysis.fits.request import predict_groups
from analysis.tables.curves import Curves
from train.record.files import write_bytes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("--fit", type=Path, required=True, metavar="FIT.JSON", help="what `fit --out` wrote")
    add_table(parser, ("data",))
    add_schedules(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the rows of --data with predictions")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out)
    results = read_fits(options.fit)
    points = read_table(options)
    columns = predict_groups(results, points)
    for name in columns:
        if name in points.columns:
            raise UsageError(f"{options.data}: has a column {name} already; allowed: a name that is free")
    frame = points.points if isinstance(points, Curves) else points
    write_bytes(options.out, frame.with_columns(**columns).write_csv().encode())
    print(f"{len(frame)} predictions are in {options.out}")

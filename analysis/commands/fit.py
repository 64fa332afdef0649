"""`python -m analysis fit`: a law fitted to a table or to runs, with intervals, held-out error and warnings."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from analysis.commands.options import (
    UsageError,
    add_schedules,
    add_table,
    check_files,
    read_table,
)
from analysis.fits.request import FitRequest, Fitted, by_group, fit_as_asked
from analysis.fits.words import print_fit
from analysis.fitter.fit_json import to_json
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from conf.command_line import add_options as add_fields
from conf.command_line import options_of
from conf.schema import UserError
from train.record.files import write_json


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("law", help="a name of `python -m analysis laws`, e.g. chinchilla")
    add_table(parser, ("data", "runs"))
    add_schedules(parser)
    add_fields(parser, FitRequest)
    parser.add_argument("--group", metavar="COLUMN", help="one fit for each of its values")
    parser.add_argument("--out", type=Path, metavar="FIT.JSON", help="write the fit here")
    parser.add_argument(
        "--plot", type=Path, metavar="FIT.PNG", help="draw points, law and residuals (.png, .svg, .pdf)"
    )


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    law = find_law(options.law)
    if options.schedules is not None and not law.of_curves:
        raise UsageError(f"--schedules {options.schedules}: {law.name} reads no curves; allowed: with a law of curves")
    points = read_table(options, curves=law.of_curves, with_loss=True)
    request = options_of(FitRequest, options, law=law)
    groups = {None: points} if options.group is None else by_group(points, options.group)
    fits = {}
    for name, part in groups.items():
        try:
            fits[name] = fit_as_asked(request, part)
        except UserError as error:
            if name is None:
                raise
            raise FitError(f"{options.group} = {name}: {error}") from None
    for name, fitted in fits.items():
        if name is not None:
            print(f"{options.group} = {name}")
        print_fit(fitted.result)
    if options.out is not None:
        results = {name: to_json(fitted.result) for name, fitted in fits.items()}
        write_json(options.out, results[None] if options.group is None else {"group": options.group, "fits": results})
    if options.plot is not None:
        _plot(options, fits)


def _plot(options: argparse.Namespace, fits: Mapping[str | None, Fitted]) -> None:
    from analysis.drawing.style import write_figure
    from analysis.fits.plot import plot_fit

    for name, fitted in fits.items():
        path = options.plot
        if name is not None:
            path = path.with_stem(f"{path.stem}-" + re.sub(r"[^\w.+=-]+", "_", name))
        write_figure(plot_fit(fitted), path)

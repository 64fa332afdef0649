"""`python -m analysis compare`: two arms of a table by one law, or two laws on the same points."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from analysis.commands.options import add_table, check_files, read_table
from analysis.compare.compare_arms import FLOORS, compare_arms
from analysis.compare.compare_laws import compare_laws
from analysis.compare.words import print_arms, print_laws_comparison
from analysis.fitter.law import Fittable
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from conf.command_line import counted
from train.record.files import write_json


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("laws", nargs="+", metavar="LAW", help="one law, with --by, or two laws")
    add_table(parser, ("data", "runs"))
    parser.add_argument("--by", metavar="COLUMN", help="the column of the two arms, e.g. optim.name")
    parser.add_argument("--reference", metavar="ARM", help="the arm to compare with (default: the first by name)")
    parser.add_argument(
        "--floors",
        choices=FLOORS,
        default="shared",
        help="whether both arms have one E, which belongs to data and tokenizer (default: shared)",
    )
    parser.add_argument("--at", type=float, nargs="+", default=[], metavar="X", help="compare losses here, e.g. 1e20")
    parser.add_argument("--x", metavar="COLUMN", help="the variable of a law of one variable, e.g. flops")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=FitOptions.bootstrap,
        metavar="N",
        help=f"resamples (default: {FitOptions.bootstrap})",
    )
    parser.add_argument(
        "--seed", type=int, default=FitOptions.seed, help=f"draws the resamples (default: {FitOptions.seed})"
    )
    parser.add_argument("--out", type=Path, metavar="COMPARE.JSON", help="write the comparison here")
    parser.add_argument("--plot", type=Path, metavar="COMPARE.PNG", help="draw it (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    _check(options)
    laws = [find_law(name) for name in options.laws]
    points = read_table(options, with_loss=True)
    if options.by is None:
        _compare_laws(options, laws, points)
    else:
        _compare_arms(options, laws[0], points)


def _check(options: argparse.Namespace) -> None:
    if options.by is not None and len(options.laws) != 1:
        raise FitError(f"--by {options.by}: with {counted(len(options.laws), 'law')}; allowed: one law for both arms")
    if options.by is None:
        for name, given in (("--at", options.at), ("--reference", options.reference)):
            if given:
                raise FitError(f"{name}: speaks of arms; allowed: with --by")
        if options.floors != "shared":
            raise FitError("--floors: speaks of arms; allowed: with --by")


def _compare_arms(options: argparse.Namespace, law: Fittable, points: pl.DataFrame) -> None:
    """Two arms of the table by one law."""
    comparison = compare_arms(
        law,
        points,
        by=options.by,
        x=options.x,
        reference=options.reference,
        floors=options.floors,
        at=options.at,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    print_arms(comparison)
    if options.out is not None:
        write_json(options.out, comparison.to_json())
    if options.plot is not None:
        from analysis.compare.plot import plot_arms
        from analysis.drawing.style import write_figure

        write_figure(plot_arms(comparison, points), options.plot)


def _compare_laws(options: argparse.Namespace, laws: Sequence[Fittable], points: pl.DataFrame) -> None:
    """Two laws on the points of the table."""
    comparison = compare_laws(laws, points, x=options.x, bootstrap=options.bootstrap, seed=options.seed)
    print_laws_comparison(comparison)
    if options.out is not None:
        write_json(options.out, comparison.to_json())
    if options.plot is not None:
        from analysis.compare.plot import plot_laws
        from analysis.drawing.style import write_figure

        write_figure(plot_laws(comparison, points), options.plot)

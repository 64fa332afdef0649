"""`python -m analysis growth`: did growing pay, against training from scratch at equal total FLOPs?

What is compared with what is told in `analysis.growth.gain`; `--where` picks others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands.options import add_study, check_files
from analysis.growth.gain import compare_with_scratch
from analysis.growth.words import print_growth
from analysis.tables.csv import where
from analysis.tables.lineage import trace, with_bases
from analysis.tables.runs import runs_asked_for
from train.record.files import write_bytes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    where_from = parser.add_mutually_exclusive_group(required=True)
    where_from.add_argument(
        "--runs", nargs="+", metavar="GLOB", help="run folders, or folders of them; bases are found"
    )
    where_from.add_argument("--study", help="the runs of a study, e.g. gstack/operators")
    add_study(parser)
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="keep runs, e.g. 'model.width = 32', or 'growth is null or optim.lr = 0.01' (growth is null from scratch)",
    )
    parser.add_argument("--out", type=Path, metavar="CSV", help="write a row for each run here")
    parser.add_argument("--plot", type=Path, metavar="FILE.PNG", help="draw loss over FLOPs (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    folders = runs_asked_for(options.runs_dir, options.study, options.profile, options.runs)
    traced = trace(with_bases(folders))
    kept = traced
    for condition in options.where:
        kept = where(kept, condition)
    compared = compare_with_scratch(kept, traced)
    print_growth(kept, compared)
    if options.out is not None:
        write_bytes(options.out, compared.write_csv().encode())
    if options.plot is not None:
        from analysis.drawing.style import write_figure
        from analysis.growth.plot import plot_growth

        write_figure(plot_growth(traced, compared), options.plot)

"""`python -m analysis difference`: is B better than A, by how much, and could these seeds have shown it?"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from analysis.commands.options import add_study, check_files
from analysis.difference.difference import difference, units_of
from analysis.difference.pairs import SIDES, Run, pair_runs, read_side
from analysis.difference.top_up import Budget, decide
from analysis.difference.words import print_difference, to_json, warnings_of
from analysis.tables.columns import FitError
from analysis.tables.csv import where
from analysis.tables.lineage import with_bases, with_growth
from analysis.tables.runs import runs_matching, runs_of_study
from train.record.files import write_json

EPILOG = """Exit status: 0 a report, and with --until a decision; 1 still undecided when the budget of --until ended;
2 a mistake in the command; 130 interrupted after the runs saved their checkpoints: the same command goes on."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("a", metavar="A", help="run folders, as a glob, or with --study a condition on its runs")
    parser.add_argument("b", metavar="B", help="the same of the other side: \"model.qk_norm = 'head'\"")
    parser.add_argument("--study", help="A and B are conditions on the runs of this study")
    add_study(parser)
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="keep runs of both sides, e.g. 'optim.lr < 1'"
    )
    parser.add_argument(
        "--metric", default="val_loss", metavar="COLUMN", help="what is compared (default: %(default)s)"
    )
    parser.add_argument(
        "--until", type=float, metavar="X", help="add seeds until one side is better or the difference is within X"
    )
    parser.add_argument("--max-seeds", type=int, metavar="N", help="--until: seeds of a cell at most (default: 16)")
    parser.add_argument("--max-minutes", type=float, metavar="M", help="--until: stop after so long (default: never)")
    parser.add_argument("--jobs", type=int, metavar="N", help="--until: runs at a time (default: the sweep's choice)")
    parser.add_argument("--out", type=Path, metavar="FILE.JSON", help="write the comparison here")
    parser.add_argument("--plot", type=Path, metavar="FILE.PNG", help="draw the pairs (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    _check(options)
    try:
        return compare_sides(options)
    except KeyboardInterrupt:
        return 130


def _check(options: argparse.Namespace) -> None:
    if options.until is not None and not (0 < options.until < math.inf):
        raise FitError(f"--until {options.until:g}: is not allowed; allowed: a number above 0")
    for name, least in (("max_seeds", 2), ("max_minutes", 0), ("jobs", 1)):
        value = getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        if value is not None and options.until is None:
            raise FitError(f"{option}: limits what --until starts; allowed: with --until")
        if value is not None and not value >= least:
            raise FitError(f"{option} {value}: is not allowed; allowed: at least {least}")


def compare_sides(options: argparse.Namespace) -> int:
    """Compare what A and B name, with more seeds where --until asks for them; returns the exit status."""
    a, b = _sides(options)
    decision = None
    if options.until is None:
        pairs = pair_runs(a, b)
        units = units_of(pairs)
        result = difference(units)
    else:
        budget = Budget(options.max_seeds or 16, options.max_minutes, options.jobs)
        decision = decide(
            a,
            b,
            metric=options.metric,
            margin=options.until,
            budget=budget,
            runs_dir=options.runs_dir,
            say=lambda text: print(text, flush=True),
        )
        pairs, units, result = decision.pairs, decision.units, decision.result
    warnings = warnings_of(pairs, units, corrected=decision is not None)
    print_difference(pairs, units, result, options.metric, warnings, decision)
    if options.out is not None:
        write_json(options.out, to_json(pairs, units, result, options.metric, warnings, decision))
    if options.plot is not None:
        from analysis.difference.plot import plot_difference
        from analysis.drawing.style import write_figure

        write_figure(plot_difference(pairs, result, options.metric), options.plot)
    return 1 if decision is not None and result.verdict == "undecided" else 0


def _sides(options: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """The runs that A and B name."""
    if options.study is None:
        folders = [runs_matching([pattern]) for pattern in (options.a, options.b)]
        known = with_growth(with_bases([*folders[0], *folders[1]]))
        frames = [known[: len(folders[0])], known[len(folders[0]) : sum(map(len, folders))]]
    else:
        asked = runs_of_study(options.runs_dir, options.study, options.profile)
        known = with_growth(with_bases(asked))
        frames = [
            where(known[: len(asked)], condition, side)
            for side, condition in zip(SIDES, (options.a, options.b), strict=True)
        ]
    sides = []
    for side, rows in zip(SIDES, frames, strict=True):
        for condition in options.where:
            rows = where(rows, condition, f"{side}: --where")
        sides.append(read_side(rows, options.metric, known))
    return sides[0], sides[1]

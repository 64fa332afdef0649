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
    number_pair,
    pair,
    read_table,
)
from analysis.fits.request import Done, Order, by_group, carry_out, needs_curves
from analysis.fits.words import print_fit
from analysis.fitter.fit import OBJECTIVES
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from analysis.tables.lint import FINDINGS
from conf.schema import UserError
from train.record.files import write_json


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("law", help="a name of `python -m analysis laws`, e.g. chinchilla")
    add_table(parser, ("data", "runs"))
    add_schedules(parser)
    parser.add_argument("--x", metavar="COLUMN", help="the variable of a law of one variable, e.g. n_tokens")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=VALUE",
        help="an option of the law, e.g. breaks=2",
    )
    parser.add_argument(
        "--fix",
        action="append",
        default=[],
        type=number_pair,
        metavar="NAME=VALUE",
        help="hold a constant, e.g. E=1.69",
    )
    parser.add_argument(
        "--objective",
        choices=tuple(OBJECTIVES),
        help="; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items()) + " (default: the law's own)",
    )
    parser.add_argument("--delta", type=float, default=1e-3, help="where Huber's loss turns linear (default: 1e-3)")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000; 0: none)")
    parser.add_argument("--cluster", metavar="COLUMN", help="the bootstrap draws its values instead of rows")
    parser.add_argument("--se", metavar="COLUMN", help="standard errors of the target; points weigh as 1 / se²")
    parser.add_argument("--seed", type=int, default=0, help="draws the resamples (default: 0)")
    parser.add_argument(
        "--profile-of", nargs="+", default=[], metavar="NAME", help="trace the profile of constants, e.g. alpha beta"
    )
    parser.add_argument(
        "--holdout",
        metavar="RULE",
        help="fit without the dearest point (largest), a dearest share (0.3) or rows (a condition), and predict them; "
        "by default all points are fitted, and a second fit without the dearest fifth says how well it predicts that; "
        "none: no second fit",
    )
    parser.add_argument(
        "--exclude", nargs="+", default=[], choices=(*FINDINGS, "all"), help="leave out the rows of these findings"
    )
    parser.add_argument("--group", metavar="COLUMN", help="one fit for each of its values")
    parser.add_argument("--out", type=Path, metavar="FIT.JSON", help="write the fit here")
    parser.add_argument(
        "--plot", type=Path, metavar="FIT.PNG", help="draw points, law and residuals (.png, .svg, .pdf)"
    )


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    law = find_law(options.law)
    if options.schedules is not None and not needs_curves(law):
        raise UsageError(f"--schedules {options.schedules}: {law.name} reads no curves; allowed: with a law of curves")
    points = read_table(options, curves=needs_curves(law), with_loss=True)
    order = Order(
        law=law,
        x=options.x,
        options=dict(options.set),
        fixed=dict(options.fix),
        objective=options.objective,
        delta=options.delta,
        bootstrap=options.bootstrap,
        seed=options.seed,
        cluster=options.cluster,
        se=options.se,
        profiles=tuple(options.profile_of),
        holdout=options.holdout,
        exclude=tuple(options.exclude),
    )
    groups = {None: points} if options.group is None else by_group(points, options.group)
    done = {}
    for name, part in groups.items():
        try:
            done[name] = carry_out(order, part)
        except UserError as error:
            if name is None:
                raise
            raise FitError(f"{options.group} = {name}: {error}") from None
    for name, one in done.items():
        if name is not None:
            print(f"{options.group} = {name}")
        print_fit(one.result)
    if options.out is not None:
        results = {name: one.result.to_json() for name, one in done.items()}
        write_json(options.out, results[None] if options.group is None else {"group": options.group, "fits": results})
    if options.plot is not None:
        _plot(options, done)


def _plot(options: argparse.Namespace, done: Mapping[str | None, Done]) -> None:
    from analysis.drawing.style import write_figure
    from analysis.fits.plot import plot_fit

    for name, one in done.items():
        path = options.plot
        if name is not None:
            path = path.with_stem(f"{path.stem}-" + re.sub(r"[^\w.+=-]+", "_", name))
        write_figure(plot_fit(one), path)

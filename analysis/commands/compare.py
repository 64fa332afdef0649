"""`python -m analysis compare`: two arms of a table by one law, or two laws on the same points."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.commands.options import add_table, check_files, read_table
from analysis.compare.compare_arms import FLOORS, ArmsComparison, compare_arms
from analysis.compare.compare_laws import LawsComparison, compare_laws
from analysis.compare.crossing import Measure
from analysis.drawing.words import number
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
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="draws the resamples (default: 0)")
    parser.add_argument("--out", type=Path, metavar="COMPARE.JSON", help="write the comparison here")
    parser.add_argument("--plot", type=Path, metavar="COMPARE.PNG", help="draw it (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    compare_table(options)


def compare_table(options: argparse.Namespace) -> None:
    """Compare two arms of the table by one law, or two laws on its points."""
    if options.by is not None and len(options.laws) != 1:
        raise FitError(f"--by {options.by}: with {counted(len(options.laws), 'law')}; allowed: one law for both arms")
    if options.by is None:
        for name, given in (("--at", options.at), ("--reference", options.reference)):
            if given:
                raise FitError(f"{name}: speaks of arms; allowed: with --by")
        if options.floors != "shared":
            raise FitError("--floors: speaks of arms; allowed: with --by")
    points = read_table(options, with_loss=True)
    if options.by is not None:
        arms = compare_arms(
            options.laws[0],
            points,
            by=options.by,
            x=options.x,
            reference=options.reference,
            floors=options.floors,
            at=options.at,
            bootstrap=options.bootstrap,
            seed=options.seed,
        )
        print_arms(arms)
        found: ArmsComparison | LawsComparison = arms
    else:
        found = compare_laws(options.laws, points, x=options.x, bootstrap=options.bootstrap, seed=options.seed)
        print_laws_comparison(found)
    if options.out is not None:
        write_json(options.out, found.to_json())
    if options.plot is not None:
        from analysis.compare.plot import plot_arms, plot_laws
        from analysis.drawing.style import write_figure

        figure = plot_arms(found, points) if isinstance(found, ArmsComparison) else plot_laws(found, points)
        write_figure(figure, options.plot)


# --- words -----------------------------------------------------------------------------------------------


def print_arms(found: ArmsComparison, console: Console | None = None) -> None:
    """The hypotheses, the effects, the crossing and the verdict."""
    console = console or Console(highlight=False)
    reference, other = found.arms
    console.print(Text(f"{other} against {reference}: {found.law} over {found.x}", style="bold"))
    table = Table("hypothesis", "constants", "AICc", "error at the dearest", "meaning", box=None, pad_edge=False)
    for one in found.hypotheses:
        name = f"{one.name} *" if one.name == found.chosen else one.name
        error = "-" if one.held_out is None else f"{one.held_out:.2%}"
        table.add_row(name, str(one.n_constants), _gap(one.aicc), error, one.meaning)
    console.print(table)
    console.print(
        f"{found.n} points at {found.scales} scales, least squares of ln loss, {found.bootstrap['n']} bootstraps; "
        "intervals are 90%",
        markup=False,
    )
    console.print(
        f"multiplier of {found.x} under common exponents: {_interval(found.multiplier)} "
        f"(above 1 {other} needs less than {reference} for the same loss)",
        markup=False,
    )
    curve = found.multipliers
    if curve["loss"]:
        console.print(
            f"under own exponents: from {curve['value'][0]:.3g} at loss {curve['loss'][0]:.3g} "
            f"to {curve['value'][-1]:.3g} at loss {curve['loss'][-1]:.3g}",
            markup=False,
        )
    for place in found.at:
        console.print(
            f"at {number(place.x)}: loss of {other} less that of {reference} {_interval(place.difference)}, "
            f"P({other} better) {place.p_better:.2f}",
            markup=False,
        )
    crossing = found.crossing
    low, high = (10**end for end in crossing.log10_x.ci90)
    console.print(
        f"crossing: {', '.join(map(number, crossing.roots)) or 'none'} ({crossing.where.replace('_', ' ')}); median "
        f"{number(10**crossing.log10_x.value)}, {number(low)} to {number(high)}; P(in {_range(crossing.bracket)}) "
        f"{crossing.p_exists:.2f}, P(in the measured range {_range(crossing.measured)}) {crossing.p_inside:.2f}",
        markup=False,
    )
    _conclude(console, found)


def print_laws_comparison(found: LawsComparison, console: Console | None = None) -> None:
    """Both laws, where they part, and the verdict."""
    console = console or Console(highlight=False)
    console.print(Text(" against ".join(rival.law for rival in found.laws), style="bold"))
    table = Table("law", "constants", "AICc", "held-out error", box=None, pad_edge=False)
    for rival in found.laws:
        error = "-" if rival.held_out is None else f"{rival.held_out:.3g}"
        table.add_row(rival.law, str(len(rival.constants)), _gap(rival.aicc), error)
    console.print(table)
    console.print(f"{counted(found.n, 'point')}, {found.held_out} held out, {found.bootstrap['n']} bootstraps")
    if found.difference is not None:
        console.print(f"difference of the held-out errors: {_interval(found.difference)} (90%)", markup=False)
    console.print(f"the 95% bands part at {found.apart_share:.0%} of the points")
    if found.curves is not None:
        console.print(f"and over {found.x} in: {'; '.join(map(_range, found.apart)) or 'none'}", markup=False)
        console.print(f"the curves cross at: {', '.join(map(number, found.crossings)) or 'nowhere'}", markup=False)
    _conclude(console, found)


def _conclude(console: Console, found: ArmsComparison | LawsComparison) -> None:
    console.print(Text(f"verdict: {found.sentence}", style="bold"))
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _gap(aicc: float | None) -> str:
    return "-" if aicc is None else f"+{aicc:.1f}" if aicc else "best"


def _interval(measured: Measure) -> str:
    return f"{measured.value:.3g} ({measured.ci90[0]:.3g} to {measured.ci90[1]:.3g})"


def _range(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"

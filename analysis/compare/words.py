"""Comparisons in words for a terminal: `print_arms(comparison)` and `print_laws_comparison(comparison)`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.compare.compare_arms import ArmsComparison
from analysis.compare.compare_laws import LawsComparison
from analysis.compare.crossing import Measure
from analysis.drawing.words import number
from conf.command_line import counted


def print_arms(comparison: ArmsComparison, console: Console | None = None) -> None:
    """`print_arms(comparison)`: the hypotheses, the effects, the crossing and the verdict."""
    console = console or Console(highlight=False)
    reference, other = comparison.arms
    console.print(Text(f"{other} against {reference}: {comparison.law} over {comparison.x}", style="bold"))
    table = Table("hypothesis", "constants", "AICc", "error at the most expensive", "meaning", box=None, pad_edge=False)
    for hypothesis in comparison.hypotheses:
        name = f"{hypothesis.name} *" if hypothesis.name == comparison.chosen else hypothesis.name
        error = "-" if hypothesis.held_out is None else f"{hypothesis.held_out:.2%}"
        table.add_row(name, str(hypothesis.n_constants), _gap(hypothesis.aicc), error, hypothesis.meaning)
    console.print(table)
    console.print(
        f"{comparison.n} points at {comparison.scales} scales, least squares of ln loss, "
        f"{comparison.bootstrap['n']} bootstraps; intervals are 90%",
        markup=False,
    )
    console.print(
        f"multiplier of {comparison.x} under common exponents: {_interval(comparison.multiplier)} "
        f"(above 1 {other} needs less than {reference} for the same loss)",
        markup=False,
    )
    curve = comparison.multipliers
    if curve["loss"]:
        console.print(
            f"under own exponents: from {curve['value'][0]:.3g} at loss {curve['loss'][0]:.3g} "
            f"to {curve['value'][-1]:.3g} at loss {curve['loss'][-1]:.3g}",
            markup=False,
        )
    for place in comparison.at:
        console.print(
            f"at {number(place.x)}: loss of {other} less that of {reference} {_interval(place.difference)}, "
            f"P({other} better) {place.p_better:.2f}",
            markup=False,
        )
    crossing = comparison.crossing
    low, high = (10**end for end in crossing.log10_x.ci90)
    console.print(
        f"crossing: {', '.join(map(number, crossing.roots)) or 'none'} ({crossing.where.replace('_', ' ')}); median "
        f"{number(10**crossing.log10_x.value)}, {number(low)} to {number(high)}; P(in {_range(crossing.bracket)}) "
        f"{crossing.p_exists:.2f}, P(in the measured range {_range(crossing.measured)}) {crossing.p_inside:.2f}",
        markup=False,
    )
    _conclude(console, comparison)


def print_laws_comparison(comparison: LawsComparison, console: Console | None = None) -> None:
    """`print_laws_comparison(comparison)`: both laws, where they part, and the verdict."""
    console = console or Console(highlight=False)
    console.print(Text(" against ".join(rival.law for rival in comparison.laws), style="bold"))
    table = Table("law", "constants", "AICc", "held-out error", box=None, pad_edge=False)
    for rival in comparison.laws:
        error = "-" if rival.held_out is None else f"{rival.held_out:.3g}"
        table.add_row(rival.law, str(len(rival.constants)), _gap(rival.aicc), error)
    console.print(table)
    console.print(
        f"{counted(comparison.n, 'point')}, {comparison.held_out} held out, {comparison.bootstrap['n']} bootstraps"
    )
    if comparison.difference is not None:
        console.print(f"difference of the held-out errors: {_interval(comparison.difference)} (90%)", markup=False)
    console.print(f"the 95% bands part at {comparison.apart_share:.0%} of the points")
    if comparison.curves is not None:
        console.print(f"and over {comparison.x} in: {'; '.join(map(_range, comparison.apart)) or 'none'}", markup=False)
        console.print(f"the curves cross at: {', '.join(map(number, comparison.crossings)) or 'nowhere'}", markup=False)
    _conclude(console, comparison)


def _conclude(console: Console, comparison: ArmsComparison | LawsComparison) -> None:
    console.print(Text(f"verdict: {comparison.sentence}", style="bold"))
    for warning in comparison.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _gap(aicc: float | None) -> str:
    return "-" if aicc is None else f"+{aicc:.1f}" if aicc else "best"


def _interval(measured: Measure) -> str:
    return f"{measured.value:.3g} ({measured.ci90[0]:.3g} to {measured.ci90[1]:.3g})"


def _range(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"

"""Fits and claims in words for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.claims import Claim
from analysis.fit import FitResult
from analysis.laws import LAWS, get_law

_COLOURS = {"reproduced": "green", "not reproduced": "red", "inconclusive": "yellow"}


def number(value: float) -> str:
    """Four significant digits, thousands without an exponent."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3e}"


def formula(result: FitResult) -> str:
    """The law with its columns named: `L = E + A n_tokens^-alpha`."""
    text = get_law(result.law).formula
    return text.replace("x^", f"{result.columns['x']}^") if "x" in result.columns else text


def print_fit(result: FitResult, console: Console | None = None) -> None:
    """The law with numbers and intervals, how the optimum was found, and what the data cannot carry."""
    console = console or Console(highlight=False)
    console.print(Text(f"{result.law}: {formula(result)}", style="bold"))
    table = Table("parameter", "value", "95% interval", "std", "meaning", box=None, pad_edge=False)
    for parameter in get_law(result.law).parameters:
        found = result.params[parameter.name]
        interval = f"{number(found.ci95[0])} to {number(found.ci95[1])}" if found.ci95 else "-"
        spread = f"{found.std:.2g}" if found.std is not None else "-"
        table.add_row(parameter.name, number(found.value), interval, spread, parameter.meaning)
    console.print(table)
    objective, starts = result.objective, result.starts
    delta = f" (delta {objective['delta']:g})" if objective["delta"] is not None else ""
    console.print(
        f"{result.n} points, {objective['name']}{delta} {objective['value']:.8g}, R² of ln loss {result.r2:.5f}, "
        f"{starts['best']} of {starts['n']} starts reached the optimum, "
        f"gradient {result.convergence['gradient']:.0e}, {result.bootstrap['n']} bootstraps, "
        f"condition number {result.identifiability.condition_number:.0f}, {result.seconds:.2f} s"
    )
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def print_claims(claims: Sequence[Claim], console: Console | None = None) -> None:
    """Each claim with its verdict and what the verdict follows from."""
    console = console or Console(highlight=False)
    for claim in claims:
        console.print(Text.assemble((claim.verdict, _COLOURS[claim.verdict]), f": {claim.sentence}"))
        if claim.interval is None or claim.estimate is None:
            console.print(f"  {claim.reason}")
            continue
        low, high = claim.interval
        console.print(
            f"  {claim.statistic}: {claim.estimate:.3g}, 95% interval {low:.3g} to {high:.3g}; "
            f"accepted: {claim.threshold}"
        )


def print_laws(console: Console | None = None) -> None:
    """Every law: question, formula, columns, parameters, source."""
    console = console or Console(highlight=False)
    for law in LAWS.values():
        console.print(Text(f"{law.name}: {law.formula}", style="bold"))
        console.print(f"  answers   {law.question}")
        for column in (*law.columns,):
            console.print(f"  column    {column.name}: {column.meaning} [{column.unit}]", markup=False)
        console.print("  column    loss: measured loss [nats per token]", markup=False)
        for p in law.parameters:
            limits = "positive" if p.log else f"{p.lower:g} to {p.upper:g}"
            console.print(f"  constant  {p.name}: {p.meaning}; {limits}", markup=False)
        console.print(f"  source    {law.source}\n")

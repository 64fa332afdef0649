"""Fits and laws in words for a terminal.

print_fit(result)                  constants with intervals, the optimum, the held-out error, warnings
print_laws(LAWS.values())          each with its question, formula, columns, constants, options and source
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.drawing.words import number
from analysis.fitter.formula import Parameter
from analysis.fitter.law import Estimate, FitResult, Fittable, Law
from conf.command_line import counted

MOST_ROWS = 8  # of a finding, that are named


def formula(result: FitResult) -> str:
    """`formula(result)` is `L = E + A n_tokens^-alpha`: the law with its columns named."""
    text = result.law.formula
    return re.sub(r"\bx\b", result.columns["x"], text) if "x" in result.columns else text


def print_fit(result: FitResult, console: Console | None = None) -> None:
    """`print_fit(result)`: the law with numbers and intervals, how the optimum was reached, and what the data cannot
    carry."""
    console = console or Console(highlight=False)
    console.print(Text(f"{result.law.name}: {formula(result)}", style="bold"))
    # Without a bootstrap the sandwich says how sure the constants are.
    sandwich = {} if result.bootstrap["n"] else result.standard_errors.get("sandwich", {})
    spread = "std (sandwich)" if sandwich else "std"
    table = Table("parameter", "value", "95% interval", spread, "meaning", box=None, pad_edge=False)
    for parameter in result.law.parameters:
        meaning = "held" if parameter.name in result.fixed else parameter.meaning
        value, interval, std = _in_words(result.params[parameter.name])
        known = sandwich.get(parameter.name)
        table.add_row(parameter.name, value, interval, std if known is None else f"{known:.2g}", meaning)
    for name, derived in result.derived.items():
        table.add_row(name, *_in_words(derived), "follows from the others")
    if table.row_count:
        console.print(table)
    console.print(_how(result))
    if result.holdout is not None:
        console.print(_held_out(result))
    for name, profile in result.profiles.items():
        low, high = ("unbounded" if end is None else number(end) for end in profile["ci95"])
        console.print(f"profile of {name}: 95% interval {low} to {high}")
    for finding in result.findings:
        name, rows = finding["name"], [str(row + 1) for row in finding["rows"]]
        where = "row " if len(rows) == 1 else "rows "
        where += ", ".join(rows if len(rows) <= MOST_ROWS else [*rows[:MOST_ROWS], "…"])
        done = "left out" if finding["excluded"] else f"kept: --exclude {name} leaves it out"
        console.print(Text(f"{name}: {finding['sentence']} ({where}); {done}", style="yellow"))
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _in_words(constant: Estimate) -> tuple[str, str, str]:
    interval = f"{number(constant.ci95[0])} to {number(constant.ci95[1])}" if constant.ci95 else "-"
    return number(constant.value), interval, f"{constant.std:.2g}" if constant.std is not None else "-"


def _how(result: FitResult) -> str:
    objective, starts, bootstrap = result.objective, result.starts, result.bootstrap
    drawn = f"{bootstrap['n']} bootstraps of {bootstrap['unit']}" if bootstrap["n"] else "no bootstrap"
    if result.r2 is None:
        return f"{result.n} points, {drawn}, {result.seconds:.2f} s"
    if not result.params:  # learnt as a whole
        return f"{result.n} points, R² of {result.law.target.name} {result.r2:.5f}, {result.seconds:.2f} s"
    delta = f" (delta {objective['delta']:g})" if objective["delta"] is not None else ""
    condition = result.identifiability.condition_number
    of = "ln " if objective["name"].endswith("log") else ""
    return (
        f"{result.n} points, {objective['name']}{delta} {objective['value']:.8g}, "
        f"R² of {of}{result.law.target.name} {result.r2:.5f}, "
        f"{starts['best']} of {starts['n']} starts reached the optimum, "
        f"gradient {result.convergence['gradient']:.0e}, {drawn}, "
        + (f"condition number {condition:.0f}, " if condition is not None else "")
        + f"{result.seconds:.2f} s"
    )


def _held_out(result: FitResult) -> str:
    scored = result.holdout or {}
    size = f"{scored['mean_abs']:.2%}" if scored["relative"] else f"{scored['mean_abs']:.3g}"
    bias = f"{scored['mean']:+.2%}" if scored["relative"] else f"{scored['mean']:+.3g}"
    which = {"largest": "the most expensive point", "0.2": "the most expensive fifth"}.get(
        scored["rule"], scored["rule"]
    )
    inside = ""
    if scored["coverage"] is not None:
        inside = f"; {round(scored['coverage'] * scored['n'])} of {scored['n']} inside their 95% prediction intervals"
    return (
        f"held out ({which}): fitted to {scored['n_fitted']} points, off by {size} on average (bias {bias}) "
        f"at {counted(scored['n'], 'other')}{inside}"
    )


def print_laws(laws: Iterable[Fittable], console: Console | None = None) -> None:
    """`print_laws([find_law("chinchilla")])`: question, formula, columns, constants with bounds and starts, options,
    source."""
    console = console or Console(highlight=False)
    for law in laws:
        console.print(Text(f"{law.name}: {law.formula}", style="bold"))
        console.print(f"  answers   {law.question}", markup=False)
        for column in law.shown.reads:
            console.print(f"  column    {column.name}: {column.meaning} [{column.unit}]", markup=False)
        for p in law.shown.parameters:
            limits = "" if law.shown.single is None else _limits(law.shown.single, p)
            console.print(f"  constant  {p.name}: {p.meaning}{limits}", markup=False)
        for choice in law.choices:
            default = f" (default: {choice.default})" if choice.default is not None else ""
            console.print(f"  option    {choice.name}: {choice.meaning}{default}", markup=False)
        console.print(f"  source    {law.source}\n", markup=False)


def _limits(law: Law, p: Parameter) -> str:
    limits = "positive" if p.log else f"{p.lower:g} to {p.upper:g}"
    if p.linear:
        return f"; {limits}, by least squares for given others"
    unit = ""  # of the starts, where it is not that of the table
    if p.quantiles_of:
        unit = f" at quantiles of {p.quantiles_of}"
    elif p.of_target or p.carries:
        typical = (law.target.name if p.of_target else "", *(name for name, _ in p.carries))
        unit = f" in units of a typical {' and '.join(name for name in typical if name)}"
    return f"; {limits}, starts{unit} {', '.join(f'{start:g}' for start in p.starts)}"

"""A plan in words for a terminal, and as plain values for `plan.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.design.optimal import Limits
from analysis.design.planner import Expected, Plan, Planner
from analysis.drawing.words import number
from analysis.fitter.law import Law
from conf.command_line import SI, counted, human, in_words, wide_console


def describe(
    plan: Plan, planner: Planner, limits: Limits, rate: float | None, *, first_seed: int = 0
) -> dict[str, Any]:
    """The plan as plain values for `plan.json`: its cells, and what is expected of them."""
    cells = [
        candidate.cell | {"seed": first_seed + seed}
        for candidate, seeds in zip(planner.candidates, plan.counts.tolist(), strict=True)
        for seed in range(seeds)
    ]

    grid = None
    if plan.grid is not None and plan.by_grid is not None:
        flops = float(plan.grid @ limits.costs_M)
        grid = {"n_runs": int(plan.grid.sum()), "flops": flops, "expected": _plain(plan.by_grid)}
    prior = planner.prior
    return {
        "cells": cells,
        "law": planner.law.name,
        "for": plan.asked,
        "expected": _plain(plan.expected),
        "full_grid": grid,
        "bound": plan.bound,
        "flops": float(plan.counts @ limits.costs_M),
        "seconds": None if rate is None else limits.makespan(plan.counts) / rate,
        "noise": prior.noise,
        "prior": {"basis": prior.basis, "values": prior.values, "fixed": prior.fixed},
        "n_known": planner.n_known,
    }


def _plain(expected: Mapping[str, Expected]) -> dict[str, Any]:
    return {name: dataclasses.asdict(one) for name, one in expected.items()}


def promise(plan: Plan, law: Law) -> str:
    """The plan in a sentence, which is what its study claims."""
    if plan.asked is None:
        return f"A plan for all constants of {law.name}."
    low, high = plan.expected[plan.asked].ci95
    return f"{plan.asked} of {law.name} becomes known to an interval as wide as {number(low)} to {number(high)}."


def print_plan(plan: Plan, planner: Planner, limits: Limits, content: Mapping[str, Any], out: Path) -> None:
    """What is believed, what is promised, which runs, and the commands that come next."""
    console = wide_console(markup=False, soft_wrap=True)
    prior = planner.prior
    values = ", ".join(f"{name} {number(value)}" for name, value in prior.values.items())
    console.print(f"{planner.law.name}: {planner.law.formula}", style="bold")
    console.print(f"believed ({prior.basis}): {values}; noise of ln loss {number(prior.noise)}")
    if planner.n_known:
        console.print(f"the fit will have {counted(planner.n_known, 'measured run')} besides")

    _print_expected(console, plan)
    if content["full_grid"] is not None:
        grid = content["full_grid"]
        console.print(
            f"(the best full grid within the same budget: {counted(grid['n_runs'], 'run')}, "
            f"{human(grid['flops'], SI)} FLOPs)"
        )
    if plan.bound > 0.01:
        console.print(
            f"no other choice among these sizes, lengths and rates has an sd below {plan.bound:.0%} of this one's "
            "(mean over the prior)"
        )

    console.print(_cells(plan, planner))
    time = "" if content["seconds"] is None else f", about {in_words(content['seconds'])}"
    lanes = f" with {limits.lanes} at a time" if limits.lanes > 1 else ""
    flops = f"{human(content['flops'], SI)} of {human(limits.lanes * limits.budget, SI)} FLOPs"
    console.print(f"{counted(len(content['cells']), 'run')}, {flops}{time}{lanes}; the cells are in {out}")
    console.print(f"  python -m sweeps run --cells {out}")
    patterns = " ".join(f"'{pattern}'" for pattern in (*content["besides"], f"runs/{content['study']}/*"))
    convention = "" if content["params"] == "total" else f" --params {content['params']}"
    delta = f"--delta {2 * prior.noise:.2g}"  # Huber's loss then costs 1 % of the efficiency of least squares
    console.print(f"  python -m analysis fit {planner.law.name} --runs {patterns} {delta}{convention}")


def _print_expected(console: Console, plan: Plan) -> None:
    columns = ["quantity", "believed", "95% interval expected", "in simulations", "sd", "sd elsewhere in the prior"]
    table = Table(*columns, *(["sd of a full grid"] if plan.by_grid else []), box=None, pad_edge=False)
    for name, one in plan.expected.items():
        simulated = "-" if one.simulated is None else _interval(one.simulated)
        spread = f"{_sd(one, one.sd_range[0])} to {_sd(one, one.sd_range[1])}"
        row = [name, number(one.value), _interval(one.ci95), simulated, _sd(one, one.sd), spread]
        table.add_row(*row, *([_sd(one, plan.by_grid[name].sd)] if plan.by_grid else []))
    console.print(table)
    optimistic = [name for name, one in plan.expected.items() if one.optimistic]
    if optimistic:
        console.print(
            f"warning: fits to simulated outcomes scatter more than expected in {', '.join(optimistic)}; "
            "so few runs do not pin the law down, plan more",
            style="yellow",
        )


def _interval(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"


def _cells(plan: Plan, planner: Planner) -> Table:
    table = Table("width", "params", "tokens", "tokens/param", "lr", "seeds", "FLOPs each", box=None, pad_edge=False)
    for candidate, seeds in zip(planner.candidates, plan.counts.tolist(), strict=True):
        if seeds:
            c = candidate.columns
            ratio = c["n_tokens"] / c["n_params"]
            sizes = (human(c["n_params"]), human(c["n_tokens"]), f"{ratio:.3g}", f"{c['lr']:.3g}")
            table.add_row(str(candidate.cell["model.width"]), *sizes, str(seeds), human(c["flops"], SI))
    return table


def _sd(one: Expected, sd: float) -> str:
    return f"{sd:.1%}" if one.log else f"{sd:.2g}"

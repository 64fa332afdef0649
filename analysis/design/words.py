"""A design in words for a terminal, and as plain values for `plan.json`.

describe(design, planner, limits, rate)["cells"]      settings of every run, in the trainer's own keys
promise(design, law)                                  "alpha of chinchilla becomes known to an interval as wide as …"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.design.optimal import Limits
from analysis.design.planner import Design, Expected, Planner
from analysis.drawing.words import number
from analysis.fitter.law import Law
from conf.command_line import SI, counted, human, in_words, wide_console


def describe(
    design: Design, planner: Planner, limits: Limits, rate: float | None, *, first_seed: int = 0
) -> dict[str, Any]:
    """`describe(design, planner, limits, rate)["cells"]`: the design as plain values for `plan.json`: its cells,
    and what is expected of them."""
    cells = [
        candidate.cell | {"seed": first_seed + seed}
        for candidate, seeds in zip(planner.candidates, design.counts.tolist(), strict=True)
        for seed in range(seeds)
    ]

    grid = None
    if design.grid is not None and design.by_grid is not None:
        flops = float(design.grid @ limits.costs_M)
        grid = {"n_runs": int(design.grid.sum()), "flops": flops, "expected": _plain(design.by_grid)}
    prior = planner.prior
    return {
        "cells": cells,
        "law": planner.law.name,
        "for": design.asked,
        "expected": _plain(design.expected),
        "full_grid": grid,
        "bound": design.bound,
        "flops": float(design.counts @ limits.costs_M),
        "seconds": None if rate is None else limits.makespan(design.counts) / rate,
        "noise": prior.noise,
        "prior": {"basis": prior.basis, "values": prior.values, "fixed": prior.fixed},
        "n_known": planner.n_known,
    }


def _plain(expected: Mapping[str, Expected]) -> dict[str, Any]:
    return {name: dataclasses.asdict(quantity) for name, quantity in expected.items()}


def promise(design: Design, law: Law) -> str:
    """`promise(design, law)`: the design in a sentence, which is what its study claims."""
    if design.asked is None:
        return f"A plan for all constants of {law.name}."
    low, high = design.expected[design.asked].ci95
    return f"{design.asked} of {law.name} becomes known to an interval as wide as {number(low)} to {number(high)}."


def print_plan(design: Design, planner: Planner, limits: Limits, content: Mapping[str, Any], out: Path) -> None:
    """What is believed, what is promised, which runs, and the commands that come next."""
    console = wide_console(markup=False, soft_wrap=True)
    prior = planner.prior
    values = ", ".join(f"{name} {number(value)}" for name, value in prior.values.items())
    console.print(f"{planner.law.name}: {planner.law.formula}", style="bold")
    console.print(f"believed ({prior.basis}): {values}; noise of ln loss {number(prior.noise)}")
    if planner.n_known:
        console.print(f"the fit will have {counted(planner.n_known, 'measured run')} besides")

    _print_expected(console, design)
    if content["full_grid"] is not None:
        grid = content["full_grid"]
        console.print(
            f"(the best full grid within the same budget: {counted(grid['n_runs'], 'run')}, "
            f"{human(grid['flops'], SI)} FLOPs)"
        )
    if design.bound > 0.01:
        console.print(
            f"no other choice among these sizes, lengths and rates has an sd below {design.bound:.0%} of this one's "
            "(mean over the prior)"
        )

    console.print(_cells(design, planner))
    time = "" if content["seconds"] is None else f", about {in_words(content['seconds'])}"
    slots = f" with {limits.slots} at a time" if limits.slots > 1 else ""
    flops = f"{human(content['flops'], SI)} of {human(limits.slots * limits.budget, SI)} FLOPs"
    console.print(f"{counted(len(content['cells']), 'run')}, {flops}{time}{slots}; the cells are in {out}")
    console.print(f"  python -m sweeps run --cells {out}")
    patterns = " ".join(f"'{pattern}'" for pattern in (*content["besides"], f"runs/{content['study']}/*"))
    convention = "" if content["params"] == "total" else f" --params {content['params']}"
    delta = f"--delta {2 * prior.noise:.2g}"  # Huber's loss then costs 1 % of the efficiency of least squares
    console.print(f"  python -m analysis fit {planner.law.name} --runs {patterns} {delta}{convention}")


def _print_expected(console: Console, design: Design) -> None:
    columns = ["quantity", "believed", "95% interval expected", "in simulations", "sd", "sd elsewhere in the prior"]
    table = Table(*columns, *(["sd of a full grid"] if design.by_grid else []), box=None, pad_edge=False)
    for name, quantity in design.expected.items():
        simulated = "-" if quantity.simulated is None else _interval(quantity.simulated)
        spread = f"{_sd(quantity, quantity.sd_range[0])} to {_sd(quantity, quantity.sd_range[1])}"
        row = [name, number(quantity.value), _interval(quantity.ci95), simulated, _sd(quantity, quantity.sd), spread]
        table.add_row(*row, *([_sd(quantity, design.by_grid[name].sd)] if design.by_grid else []))
    console.print(table)
    optimistic = [name for name, quantity in design.expected.items() if quantity.optimistic]
    if optimistic:
        console.print(
            f"warning: fits to simulated outcomes scatter more than expected in {', '.join(optimistic)}; "
            "so few runs do not pin the law down, plan more",
            style="yellow",
        )


def _interval(ends: tuple[float, float]) -> str:
    return f"{number(ends[0])} to {number(ends[1])}"


def _cells(design: Design, planner: Planner) -> Table:
    table = Table("width", "params", "tokens", "tokens/param", "lr", "seeds", "FLOPs each", box=None, pad_edge=False)
    for candidate, seeds in zip(planner.candidates, design.counts.tolist(), strict=True):
        if seeds:
            c = candidate.columns
            ratio = c["n_tokens"] / c["n_params"]
            sizes = (human(c["n_params"]), human(c["n_tokens"]), f"{ratio:.3g}", f"{c['lr']:.3g}")
            table.add_row(str(candidate.cell["model.width"]), *sizes, str(seeds), human(c["flops"], SI))
    return table


def _sd(quantity: Expected, sd: float) -> str:
    return f"{sd:.1%}" if quantity.log else f"{sd:.2g}"

"""What is printed of a plan: each sentence where it is true, and not elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.design.planner import Design, Expected
from analysis.design.words import describe, print_plan, promise
from tests.analysis.design.test_plan import limits, planner

COUNTS = np.array([2, 1, *[0] * (len(planner().candidates) - 2)])
ALPHA = Expected(0.4, 0.05, (0.36, 0.44), (0.03, 0.08), log=False)
DESIGN = Design(COUNTS, None, {"alpha": ALPHA}, None, "alpha", bound=0.0)


def words(
    capsys: pytest.CaptureFixture[str],
    design: Design = DESIGN,
    *,
    slots: int = 1,
    rate: float | None = None,
    **content: Any,
) -> str:
    within = limits(slots=slots)
    told = describe(design, planner(), within, rate) | {"study": "planned/a", "params": "total", "besides": []}
    print_plan(design, planner(), within, told | content, Path("plan.json"))
    return " ".join(capsys.readouterr().out.split())


def changed(**changes: Any) -> Design:
    return dataclasses.replace(DESIGN, **changes)


def test_a_promise_is_about_what_was_asked() -> None:
    law = planner().law
    assert promise(DESIGN, law) == "alpha of chinchilla becomes known to an interval as wide as 0.36 to 0.44."
    assert promise(changed(asked=None), law) == "A plan for all constants of chinchilla."


def test_a_cell_is_there_for_each_seed() -> None:
    described = describe(DESIGN, planner(), limits(), None)
    assert [cell["seed"] for cell in described["cells"]] == [0, 1, 0]
    assert described["cells"][0] | {"seed": 1} == described["cells"][1]
    later = describe(DESIGN, planner(), limits(), None, first_seed=7)
    assert [cell["seed"] for cell in later["cells"]] == [7, 8, 7]
    first, second = (candidate.flops for candidate in planner().candidates[:2])
    assert described["flops"] == pytest.approx(2 * first + second)


def test_seconds_are_told_where_the_speed_is_known() -> None:
    described = describe(DESIGN, planner(), limits(), 1e9)
    assert described["seconds"] == pytest.approx(described["flops"] / 1e9)
    assert describe(DESIGN, planner(), limits(), None)["seconds"] is None
    side_by_side = describe(DESIGN, planner(), limits(slots=3), 1e9)
    assert side_by_side["seconds"] < described["seconds"]


def test_the_full_grid_is_written_where_there_is_one() -> None:
    assert describe(DESIGN, planner(), limits(), None)["full_grid"] is None
    gridded = changed(grid=COUNTS * 2, by_grid={"alpha": ALPHA})
    grid = describe(gridded, planner(), limits(), None)["full_grid"]
    assert grid["n_runs"] == 6
    assert grid["flops"] == pytest.approx(2 * describe(gridded, planner(), limits(), None)["flops"])
    assert grid["expected"]["alpha"]["sd"] == 0.05


def test_a_plan_says_its_law_its_beliefs_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    told = words(capsys)
    assert told.startswith(f"chinchilla: {planner().law.formula} believed (assumed, each constant ±20 %): E ")
    assert "noise of ln loss 0.005" in told
    assert "python -m sweeps run --cells plan.json" in told
    assert told.endswith("python -m analysis fit chinchilla --runs 'runs/planned/a/*' --delta 0.01")


@pytest.mark.parametrize(("more", "text"), [
    ({"rate": 1e9}, ", about "),
    ({"slots": 2}, " with 2 at a time"),
    ({"besides": ["runs/old/*"]}, "--runs 'runs/old/*' 'runs/planned/a/*' --delta"),
    ({"params": "non_vocab"}, "--params non_vocab"),
    ({"design": changed(bound=0.9)}, "no other choice among these sizes, lengths and rates has an sd below 90%"),
    ({"design": changed(grid=COUNTS, by_grid={"alpha": ALPHA})}, "(the best full grid within the same budget: 3 runs,"),
    ({"design": changed(grid=COUNTS, by_grid={"alpha": ALPHA})}, "sd of a full grid"),
    ({"design": changed(expected={"alpha": dataclasses.replace(ALPHA, simulated=(0.2, 0.6))})},
     "warning: fits to simulated outcomes scatter more than expected in alpha; so few runs do not pin the law down"),
])  # fmt: skip
def test_a_sentence_is_said_under_its_condition(
    more: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in words(capsys, **more)
    assert text not in words(capsys)


def test_a_bound_that_tells_nothing_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no other choice" not in words(capsys, changed(bound=0.01))


@pytest.mark.parametrize(("log", "sd", "text"), [(False, 0.0523, "0.052"), (True, 0.0523, "5.2%")])
def test_a_spread_of_a_logarithm_is_a_share(
    log: bool, sd: float, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quantity = dataclasses.replace(ALPHA, log=log, sd=sd, simulated=(0.35, 0.45))
    assert f"alpha 0.4 0.36 to 0.44 0.35 to 0.45 {text} " in words(capsys, changed(expected={"alpha": quantity}))
    assert "alpha 0.4 0.36 to 0.44 - 0.05 " in words(capsys)


@pytest.mark.parametrize(("simulated", "log", "optimistic"), [
    (None, False, False),
    ((0.36, 0.44), False, False),
    ((0.34, 0.455), False, False),
    ((0.34, 0.465), False, True),
    ((0.30, 0.44), True, True),
    ((0.36, 0.44), True, False),
])  # fmt: skip
def test_a_promise_is_optimistic_where_simulations_scatter_half_as_much_again(
    simulated: tuple[float, float] | None, log: bool, optimistic: bool
) -> None:
    assert dataclasses.replace(ALPHA, simulated=simulated, log=log).optimistic is optimistic


def test_runs_that_are_not_made_have_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    told = words(capsys)
    rows = told.split("FLOPs each ")[1].split(" 3 runs, ")[0].split()
    assert len(rows) == 2 * 7
    assert [row[0] for row in (rows[:7], rows[7:])] == ["16", "16"]
    assert [row[5] for row in (rows[:7], rows[7:])] == ["2", "1"]

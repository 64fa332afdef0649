"""What may be said of two arms, and what weakens it: by hand-made crossings, one condition at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from analysis.compare.arms import Trials, read_trials
from analysis.compare.conclusion import FEWEST_UNITS, conclude, confirmed_by_seeds, weaknesses
from analysis.compare.crossing import Crossing, Measure
from analysis.laws.registry import get_law
from tests.analysis.compare.test_compare import two_arms

INSIDE = Crossing(
    leader="B",
    bracket=(1e12, 1e18),
    measured=(1e13, 1e17),
    roots=(1e15,),
    where="inside_range",
    log10_x=Measure(15.0, (14.5, 15.5)),
    p_exists=0.99,
    p_inside=0.98,
    p_censored=(0.0, 0.01),
    p_leads={"A": 0.1, "B": 0.2},
)
BEYOND = dataclasses.replace(INSIDE, where="extrapolated", roots=(5e17,), log10_x=Measure(17.7, (17.2, 18.0)))
NOWHERE = dataclasses.replace(INSIDE, where="none", roots=(), log10_x=Measure(18.0, (18.0, 18.0)), p_exists=0.0)


def trials(table: dict[str, Any] | None = None, **changes: Any) -> Trials:
    law = get_law("power_law").single
    assert law is not None
    table = two_arms(0.0, 0, flops=np.geomspace(1e13, 1e17, 8)) if table is None else table
    return dataclasses.replace(read_trials(law, table, "arm", "flops", None), **changes)


def with_(crossing: Crossing, **changes: Any) -> Crossing:
    return dataclasses.replace(crossing, **changes)


@pytest.mark.parametrize(("chosen", "crossing", "confirmed", "verdict", "sentence"), [
    ("slope", INSIDE, True, "overtakes",
     "B overtakes A at flops = 1.00e+15 (90% interval 3.16e+14 to 3.16e+15)"),
    ("slope", with_(INSIDE, leader="A"), True, "overtakes", "A overtakes B at"),
    ("slope", INSIDE, False, "cannot tell", "no two seeds confirm the order at the largest flops"),
    ("factor", INSIDE, True, "cannot tell", "but common exponents fit as well"),
    ("same", INSIDE, True, "cannot tell", "the data cannot tell A and B apart: one law fits both"),
    ("slope", with_(INSIDE, log10_x=Measure(15.0, (12.5, 15.5))), True, "cannot tell", "but anywhere in 90% interval"),
    ("slope", with_(INSIDE, log10_x=Measure(15.0, (14.5, 17.5))), True, "cannot tell", "but anywhere in 90% interval"),
    ("slope", BEYOND, True, "extrapolated crossing",
     "extrapolated crossing at 5.00e+17 (90% interval 1.58e+17 to 1.00e+18), P = 0.99"),
    ("slope", with_(BEYOND, p_leads={"A": 0.95, "B": 0.0}), True, "better throughout",
     "A is better throughout the measured range (P = 0.95); extrapolated crossing at 5.00e+17"),
    ("slope", with_(NOWHERE, p_leads={"A": 0.0, "B": 1.0}), False, "better throughout",
     "B is better throughout the measured range (P = 1.00)"),
    ("slope", with_(NOWHERE, p_leads={"A": 0.0, "B": 0.949}), True, "cannot tell",
     "the data cannot tell which arm is better"),
])  # fmt: skip
def test_a_conclusion_follows_from_the_crossing(
    chosen: str, crossing: Crossing, confirmed: bool, verdict: str, sentence: str
) -> None:
    said = conclude(trials(), chosen, crossing, confirmed)
    assert said[0] == verdict
    assert sentence in said[1]


def test_only_an_extrapolated_crossing_is_added_to_who_is_better() -> None:
    sure = {"A": 0.0, "B": 1.0}
    assert "extrapolated" in conclude(trials(), "slope", with_(BEYOND, p_leads=sure), True)[1]
    assert "extrapolated" not in conclude(trials(), "slope", with_(NOWHERE, p_leads=sure), True)[1]


# --- two seeds -------------------------------------------------------------------------------------------


def last_scale(first: list[float], second: list[float], seeds: tuple[list[int], list[int]] | None) -> dict[str, Any]:
    """Two scales, of which the more expensive one has these losses."""
    flops = [1e13, 1e13, *[1e15] * (len(first) + len(second))]
    arm = ["A", "B", *["A"] * len(first), *["B"] * len(second)]
    columns: dict[str, Any] = {"flops": flops, "arm": arm, "loss": [5.0, 5.0, *first, *second]}
    return columns if seeds is None else columns | {"seed": [0, 0, *seeds[0], *seeds[1]]}


@pytest.mark.parametrize(("first", "second", "seeds", "confirmed"), [
    ([3.0, 3.1], [2.9, 3.0], ([0, 1], [0, 1]), True),
    ([3.0, 3.1], [3.1, 3.0], ([0, 1], [0, 1]), False),  # the seeds disagree
    ([3.0], [2.0], ([0], [0]), False),  # one seed is chance
    ([3.0, 3.0], [2.0, 2.0], ([0, 1], [2, 3]), False),  # no seed on both sides
    ([3.0, 3.1, 9.0], [2.9, 3.0, 1.0], ([0, 1, 2], [0, 1, 3]), True),
    ([3.0, 3.1], [2.9, 2.8], None, True),  # every trial of one below every one of the other
    ([3.0, 3.1], [2.9, 3.05], None, False),
    ([3.0, 3.1], [2.9], None, False),
])  # fmt: skip
def test_an_order_is_confirmed_by_two_seeds_that_agree(
    first: list[float], second: list[float], seeds: tuple[list[int], list[int]] | None, confirmed: bool
) -> None:
    assert confirmed_by_seeds(trials(last_scale(first, second, seeds))) is confirmed


def test_the_scale_that_confirms_is_the_most_expensive_of_both_arms() -> None:
    """A still larger scale of one arm alone says nothing."""
    table = last_scale([3.0, 3.1], [2.9, 3.0], ([0, 1], [0, 1]))
    larger = {"flops": 1e17, "arm": "A", "loss": 9.0, "seed": 0}
    assert confirmed_by_seeds(trials({name: [*values, larger[name]] for name, values in table.items()}))


# --- what weakens it -------------------------------------------------------------------------------------


def said_of(of: Trials, **more: Any) -> str:
    keywords = {"chosen": "slope", "drawn": "slope", "places": np.array([1e15]), "crossing": INSIDE} | more
    return " | ".join(weaknesses(of, **keywords))


def test_a_sound_comparison_has_no_weakness() -> None:
    assert said_of(trials()) == ""


def test_unequal_trials_are_counted_by_scale_and_arm() -> None:
    table = two_arms(0.0, 0, flops=np.geomspace(1e13, 1e17, 8))
    fewer = {name: values[1:] for name, values in table.items()}
    assert "at 1 of 8 scales the arms have different numbers of trials (A 15, B 16 in all)" in said_of(trials(fewer))


def test_trials_without_seeds_are_not_paired_but_single_ones_are() -> None:
    several = two_arms(0.0, 0, flops=np.geomspace(1e13, 1e17, 8))
    single = two_arms(0.0, 0, flops=np.geomspace(1e13, 1e17, 8), seeds=1)
    for table, unpaired in ((several, True), (single, False)):
        assert ("no column seed" in said_of(trials(table, seed=None))) is unpaired
    assert "no column seed" not in said_of(trials(several))


@pytest.mark.parametrize("n", [FEWEST_UNITS - 1, FEWEST_UNITS])
def test_few_pairs_make_narrow_intervals(n: int) -> None:
    told = said_of(trials(two_arms(0.0, 0, flops=np.geomspace(1e13, 1e17, n), seeds=1)))
    assert (f"{n} pairs of scale and seed to draw from" in told) == (n < FEWEST_UNITS)


@pytest.mark.parametrize(("scales", "top", "weak"), [(3, 1e17, True), (4, 1e14, True), (4, 1e17, False)])
def test_slopes_need_scales_and_decades(scales: int, top: float, weak: bool) -> None:
    of = trials(two_arms(0.0, 0, flops=np.geomspace(1e13, top, scales), seeds=3))
    told = said_of(of, crossing=with_(INSIDE, measured=(1e13, top)))
    assert ("carry no comparison of slopes" in told) is weak


@pytest.mark.parametrize(("chosen", "drawn", "said"), [
    ("floor", "slope", True), ("floor", "floor", False), ("slope", "slope", False), ("slope", "floor", False),
])  # fmt: skip
def test_separate_floors_are_told_where_they_are_not_drawn(chosen: str, drawn: str, said: bool) -> None:
    assert ("separate floors fit better" in said_of(trials(), chosen=chosen, drawn=drawn)) is said


def test_a_place_far_beyond_the_data_is_named() -> None:
    told = said_of(trials(), places=np.array([1e11, 1e12, 1e15, 1e18, 1e19]))
    assert told.count("more than a decade beyond the data") == 2
    assert "--at 1e+11: " in told
    assert "--at 1e+19: " in told

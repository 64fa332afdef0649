"""What is printed of comparisons: each sentence where it is true, and not elsewhere."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import polars as pl
import pytest

from analysis.compare.compare_arms import ArmsComparison, AtCost, Hypothesis
from analysis.compare.compare_laws import LawsComparison, Rival, compare_laws
from analysis.compare.crossing import Measure
from analysis.compare.words import print_arms, print_laws_comparison
from analysis.laws.registry import find_law
from tests.analysis.compare.test_compare import AROUND, compared, two_arms
from tests.analysis.helpers import said


@cache
def arms() -> ArmsComparison:
    comparison: ArmsComparison = compared(two_arms(0.001, 0, flops=AROUND), bootstrap=40)
    return comparison


@cache
def laws() -> LawsComparison:
    table = pl.DataFrame(two_arms(0.001, 0, flops=AROUND)).filter(pl.col("arm") == "A")
    rivals = [find_law(name) for name in ("power_law", "power_law_no_offset")]
    return compare_laws(rivals, table, x="flops", bootstrap=40)


def of_arms(**changes: Any) -> str:
    return " ".join(said(print_arms, dataclasses.replace(arms(), **changes)).split())


def of_laws(**changes: Any) -> str:
    return " ".join(said(print_laws_comparison, dataclasses.replace(laws(), **changes)).split())


def test_the_arm_that_is_told_of_comes_first() -> None:
    told = of_arms()
    assert told.startswith("B against A: power_law over flops")
    assert "(above 1 B needs less than A for the same loss)" in told
    swapped = of_arms(arms=("B", "A"))
    assert swapped.startswith("A against B")
    assert "(above 1 A needs less than B for the same loss)" in swapped


def test_the_chosen_hypothesis_alone_has_a_star() -> None:
    for chosen in ("same", "factor", "slope", "floor"):
        told = of_arms(chosen=chosen)
        assert told.count(" * ") == 1
        assert f"{chosen} * " in told


@pytest.mark.parametrize(("aicc", "words"), [(None, "-"), (0.0, "best"), (12.34, "+12.3")])
def test_what_a_hypothesis_lacks_to_the_best_is_said(aicc: float | None, words: str) -> None:
    for held_out, error in ((None, "-"), (0.0123, "1.23%")):
        hypothesis = Hypothesis("same", "one law for both", 3, {}, aicc, held_out)
        assert f"same 3 {words} {error} one law for both" in of_arms(hypotheses=(hypothesis,), chosen="slope")
    rival = Rival("power_law", {"E": 1.0}, aicc, None)
    assert f"power_law 1 {words} - " in of_laws(laws=(rival, rival))


def test_own_exponents_are_told_where_both_arms_reached_one_loss() -> None:
    nothing: dict[str, list[float]] = {"loss": [], "value": [], "lo90": [], "hi90": []}
    assert "under own exponents" not in of_arms(multipliers=nothing)
    told = of_arms(multipliers={"loss": [4.0, 3.0], "value": [1.5, 0.5], "lo90": [1, 0], "hi90": [2, 1]})
    assert "under own exponents: from 1.5 at loss 4 to 0.5 at loss 3" in told


def test_each_place_is_told_with_its_interval() -> None:
    place = AtCost(1e20, Measure(-0.0123, (-0.02, -0.01)), 0.975)
    told = of_arms(at=(place, place))
    assert told.count("at 1.000e+20: loss of B less that of A -0.0123 (-0.02 to -0.01), P(B better) 0.97") == 2
    assert "loss of B less" not in of_arms(at=())


@pytest.mark.parametrize(("roots", "where", "words"), [
    ((), "none", "crossing: none (none);"),
    ((1e15, 2e16), "inside_range", "crossing: 1.000e+15, 2.000e+16 (inside range);"),
    ((1e18,), "extrapolated", "crossing: 1.000e+18 (extrapolated);"),
])  # fmt: skip
def test_crossings_are_told_with_where_they_lie(roots: tuple[float, ...], where: Any, words: str) -> None:
    crossing = dataclasses.replace(arms().crossing, roots=roots, where=where, log10_x=Measure(15.0, (14.0, 16.0)))
    told = of_arms(crossing=crossing)
    assert words in told
    assert "median 1.000e+15, 1.000e+14 to 1.000e+16; P(in " in told


def test_a_verdict_ends_with_its_warnings() -> None:
    assert of_arms(sentence="so it is", warnings=()).endswith("verdict: so it is")
    assert of_arms(sentence="so it is", warnings=("a", "b")).endswith("verdict: so it is warning: a warning: b")
    assert of_laws(sentence="so it is", warnings=("a",)).endswith("verdict: so it is warning: a")


def test_laws_of_several_variables_have_no_curves_to_tell_of() -> None:
    told = of_laws()
    assert told.startswith("power_law against power_law_no_offset")
    assert "and over flops in:" in told
    assert "the curves cross at:" in told
    without = of_laws(curves=None)
    assert "cross at" not in without
    assert "and over" not in without


@pytest.mark.parametrize(("changes", "words"), [
    ({"apart": ()}, "and over flops in: none"),
    ({"apart": ((1e3, 2e3), (4e3, 5e3))}, "and over flops in: 1000 to 2000; 4000 to 5000"),
    ({"crossings": ()}, "the curves cross at: nowhere"),
    ({"crossings": (1e3, 2e3)}, "the curves cross at: 1000, 2000"),
    ({"apart_share": 0.25}, "the 95% bands part at 25% of the points"),
    ({"n": 1, "held_out": 3}, "1 point, 3 held out, 40 bootstraps"),
    ({"difference": Measure(0.01, (-0.02, 0.03))}, "difference of the held-out errors: 0.01 (-0.02 to 0.03) (90%)"),
])  # fmt: skip
def test_two_laws_are_told_apart_in_words(changes: dict[str, Any], words: str) -> None:
    assert words in of_laws(**changes)


def test_without_held_out_points_there_is_no_difference_of_errors() -> None:
    assert "difference of the held-out errors" not in of_laws(difference=None)

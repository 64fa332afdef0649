"""Designs by exchange, on small problems whose best design is known or can be tried out whole."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.design.optimal import Aim, Limits, fill, improve, relax, search

X = np.linspace(-1.0, 1.0, 5)


def line(known: float = 0.0, slope_only: bool = False) -> Aim:
    """A straight line measured at `X`: the constants are its level and its slope."""
    J_KMP = np.stack([np.ones(5), X], axis=1)[None]
    G_KPQ = np.array([[[0.0], [1.0]]]) if slope_only else None
    return Aim(J_KMP, G_KPQ, known * np.eye(2)[None], volume_weight=0.0)


def limits(**changes: Any) -> Limits:
    return Limits(**{"costs_M": np.ones(5), "budget": 4.0, "most_seeds": 3, **changes})


def every_design(within: Limits) -> list[np.ndarray]:
    counts = itertools.product(range(within.most_seeds + 1), repeat=len(within.costs_M))
    return [count for count in map(np.array, counts) if within.allow(count)]


# --- the criterion ---------------------------------------------------------------------------------------


def test_the_covariance_is_that_of_least_squares() -> None:
    counts = np.array([2, 0, 1, 0, 3])
    design = np.repeat(np.stack([np.ones(5), X], axis=1), counts, axis=0)
    assert line().covariance(counts)[0] == pytest.approx(np.linalg.inv(design.T @ design), rel=1e-6)
    assert line(known=2.0).covariance(counts)[0] == pytest.approx(
        np.linalg.inv(design.T @ design + 2 * np.eye(2)), rel=1e-6
    )


@pytest.mark.parametrize("slope_only", [False, True])
def test_four_times_the_runs_are_half_the_standard_deviation(slope_only: bool) -> None:
    counts = np.array([1, 0, 1, 0, 1])
    aim = line(slope_only=slope_only)
    assert aim.value(counts) - aim.value(4 * counts) == pytest.approx(2 * np.log(2), rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(lambda counts: sum(n > 0 for n in counts) >= 2))
def test_a_run_more_never_hurts_and_its_worth_is_told(counts: list[int]) -> None:
    count_M = np.array(counts)
    for aim in (line(), line(slope_only=True)):
        gain_M = aim.change(count_M, 1)
        assert (gain_M >= -1e-9).all()
        for m in range(5):
            more = count_M.copy()
            more[m] += 1
            assert aim.value(count_M) - aim.value(more) == pytest.approx(gain_M[m], abs=1e-6)
        assert (aim.slope(count_M.astype(float)) >= gain_M - 1e-9).all()  # each run tells less than the one before


# --- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "changes", "allowed"), [
    ([1, 1, 1, 1, 0], {}, True),
    ([1, 1, 1, 1, 1], {}, False),
    ([3, 0, 0, 0, 0], {}, True),
    ([3, 0, 0, 0, 0], {"most_seeds": 2}, False),
    ([1, 1, 1, 0, 0], {"most_runs": 3}, True),
    ([1, 1, 1, 1, 0], {"most_runs": 3}, False),
    ([2, 2, 2, 2, 0], {"slots": 2}, True),
    ([3, 2, 2, 2, 0], {"slots": 2}, False),
    ([0, 0, 0, 0, 0], {}, True),
    ([1, 0, 0, 0, 0], {"costs_M": np.full(5, 5.0)}, False),
    ([1, 1, 1, 0, 0], {"costs_M": np.full(5, 3.0), "slots": 2, "budget": 5.0}, False),  # 3 + 3 in one slot
    ([1, 1, 0, 0, 0], {"costs_M": np.full(5, 3.0), "slots": 2, "budget": 5.0}, True),
])  # fmt: skip
def test_limits_allow_what_fits_in(counts: list[int], changes: dict[str, Any], allowed: bool) -> None:
    within = limits(**changes)
    assert within.allow(np.array(counts)) is allowed
    if allowed:
        assert within.makespan(np.array(counts)) <= within.budget


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0.1, 5), min_size=5, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.integers(1, 3),
)
def test_the_fullest_slot_is_between_the_bounds_of_any_order(costs: list[float], counts: list[int], slots: int) -> None:
    within = limits(costs_M=np.array(costs), slots=slots)
    total = float(np.array(counts) @ np.array(costs))
    largest = max((cost for cost, n in zip(costs, counts, strict=True) if n), default=0.0)
    span = within.makespan(np.array(counts))
    assert max(total / slots, largest) <= span + 1e-9
    assert span <= total / slots + (1 - 1 / slots) * largest + 1e-9


def test_a_price_is_of_the_budget_and_of_the_number_of_runs() -> None:
    within = limits(costs_M=np.array([1.0, 2.0, 4.0, 4.0, 4.0]), budget=8.0, slots=2, most_runs=10)
    assert within.total == 16.0
    assert within.prices[:3] == pytest.approx([1 / 16 + 0.1, 2 / 16 + 0.1, 4 / 16 + 0.1])


# --- the search ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope_only", [False, True])
@pytest.mark.parametrize("changes", [
    {}, {"most_seeds": 1}, {"costs_M": np.array([2.0, 1.0, 1.0, 1.0, 2.0])}, {"slots": 2, "most_runs": 5},
])  # fmt: skip
def test_the_best_of_all_designs_is_found(slope_only: bool, changes: dict[str, Any]) -> None:
    aim, within = line(slope_only=slope_only), limits(**changes)
    found = search(aim, within)
    assert within.allow(found)
    every = [aim.value(counts) for counts in every_design(within)]
    assert aim.value(found) == pytest.approx(min(every), abs=1e-6)
    assert aim.value(found) < np.median(every) - 0.1


def test_the_slope_of_a_line_is_measured_at_its_ends() -> None:
    assert search(line(slope_only=True), limits()).tolist() == [2, 0, 0, 0, 2]
    assert search(line(known=1e4), limits(budget=1.0)).sum() == 1


def test_a_design_is_never_worse_than_one_that_it_starts_from() -> None:
    start = np.array([1, 1, 0, 1, 1])
    for aim in (line(), line(slope_only=True)):
        assert aim.value(search(aim, limits(), [start])) <= aim.value(start)
        assert aim.value(improve(aim, limits(), start)) <= aim.value(start)
    assert start.tolist() == [1, 1, 0, 1, 1]  # and leaves it as it is


def test_filling_up_takes_all_that_fits_in_and_nothing_else() -> None:
    full = fill(line(), limits(), np.zeros(5, dtype=np.int64))
    assert full.sum() == 4
    assert not any(limits().allow(full + one) for one in np.eye(5, dtype=np.int64))
    assert fill(line(), limits(), full).tolist() == full.tolist()
    assert fill(line(), limits(budget=0.5), np.zeros(5, dtype=np.int64)).sum() == 0


@pytest.mark.parametrize("slope_only", [False, True])
@pytest.mark.parametrize("budget", [2.0, 4.0, 7.0])
def test_no_design_goes_below_the_bound(slope_only: bool, budget: float) -> None:
    aim, within = line(slope_only=slope_only), limits(budget=budget)
    counts_M, bound = relax(aim, within, search(aim, within))
    assert bound <= min(aim.value(counts) for counts in every_design(within)) + 1e-9
    assert bound > aim.value(2 * counts_M)  # twice the budget would
    assert float(counts_M @ within.costs_M) <= budget + 1e-6
    assert (counts_M <= within.most_seeds + 1e-6).all()

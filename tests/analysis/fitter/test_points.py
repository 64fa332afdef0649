"""A table as a formula sees it: one order of rows, weights of mean one, and what a bootstrap draws."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitter.formula import Option, check_options
from analysis.fitter.law import Law
from analysis.fitter.points import (
    Points,
    check_points,
    digest_of,
    explained,
    ranges_of,
    read_points,
    read_variables,
    sources_of,
)
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import chinchilla_points, points_as_rows

TABLE = chinchilla_points(noise=0.01)
CURVES = TABLE | {"curve": np.repeat([f"c{k}" for k in range(14)], 3), "step": np.tile([1.0, 2.0, 3.0], 14)}


def law(name: str = "chinchilla", **changes: Any) -> Law:
    found = get_law(name).single
    assert found is not None
    return dataclasses.replace(found, **changes)


def points(table: dict[str, Any] = TABLE, of: Law | None = None, **how: Any) -> Points:
    return read_points(of or law(), table, **{"x": None, "cluster": None, "se": None, "log": True} | how)


# --- rows ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(42)))
def test_the_order_of_rows_is_forgotten(order: list[int]) -> None:
    one, other = points(), points(points_as_rows(TABLE, np.array(order)))
    assert (one.target == other.target).all()
    for name, values in one.variables.items():
        assert (values == other.variables[name]).all()
    assert digest_of(one.variables, one.target) == digest_of(other.variables, other.target)


def test_another_number_is_another_digest() -> None:
    one = points()
    moved = one.target.copy()
    moved[3] *= 1 + 1e-12
    assert digest_of(one.variables, one.target) != digest_of(one.variables, moved)


def test_variables_keep_the_order_of_the_table() -> None:
    assert (read_variables(law(), TABLE)["n_params"] == TABLE["n_params"]).all()
    assert (points().variables["n_tokens"] == np.sort(TABLE["n_tokens"])).all()
    assert (TABLE["n_tokens"] != np.sort(TABLE["n_tokens"])).any()


def test_a_free_variable_is_the_column_that_is_named() -> None:
    power = law("power_law")
    assert sources_of(power, "n_tokens") == {"x": "n_tokens"}
    assert (read_variables(power, TABLE, "n_tokens")["x"] == TABLE["n_tokens"]).all()
    with pytest.raises(FitError, match="power_law: say with --x which column x is"):
        sources_of(power, None)
    with pytest.raises(FitError, match="chinchilla: has no free variable for --x n_tokens"):
        sources_of(law(), "n_tokens")
    assert sources_of(law(), None) == {"n_params": "n_params", "n_tokens": "n_tokens"}


def test_a_target_without_a_logarithm_is_refused_only_where_one_is_taken() -> None:
    signed = law(target=dataclasses.replace(law().target, sign="any"))
    table = TABLE | {"loss": np.where(np.arange(42) == 4, -1.0, TABLE["loss"])}
    with pytest.raises(FitError, match="loss: -1 in row 5 has no logarithm; allowed: positive numbers, or --objective"):
        points(table, signed)
    assert points(table, signed, log=False).target.min() == -1


# --- weights ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.01, 1), min_size=42, max_size=42), st.booleans())
def test_weights_have_a_mean_of_one_and_know_no_unit(spread: list[float], log: bool) -> None:
    one = points(TABLE | {"se": np.array(spread)}, se="se", log=log)
    ten = points(TABLE | {"se": 10 * np.array(spread)}, se="se", log=log)
    assert one.weights.mean() == pytest.approx(1)
    assert one.weights == pytest.approx(ten.weights)


def test_half_the_error_is_four_times_the_weight() -> None:
    table = TABLE | {"se": np.where(np.arange(42) == 0, 0.05, 0.1)}
    weights = np.sort(points(table, se="se", log=False).weights)
    assert weights[-1] / weights[0] == pytest.approx(4)
    relative = points(table, se="se", log=True).weights
    assert np.ptp(relative) > np.ptp(weights)  # of a logarithm the error is a share of the target
    assert set(points().weights) == {1.0}


# --- what a bootstrap draws ------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "cluster", "unit"), [
    ({}, None, "rows"),
    ({}, "curve", "curves"),
    ({"cluster": "curve"}, None, "curves"),
    ({"strata": "curve"}, None, "rows within each curve"),
])  # fmt: skip
def test_what_is_drawn_is_said(changes: dict[str, Any], cluster: str | None, unit: str) -> None:
    of = points(CURVES, law(**changes), cluster=cluster)
    assert of.unit == unit
    weights = of.draw(50, seed=0)
    assert weights.shape == (50, 42)
    assert weights.sum(1) == pytest.approx(42)
    assert (weights == of.draw(50, seed=0)).all()
    assert (weights != of.draw(50, seed=1)).any()


def test_few_curves_are_drawn_in_blocks_but_not_if_a_person_asked_for_them() -> None:
    few = CURVES | {"curve": np.repeat(["a", "b"], 21), "step": np.tile(np.arange(1.0, 22.0), 2)}
    assert points(few, law(cluster="curve")).unit == "blocks of consecutive points of each curve"
    with pytest.raises(FitError, match="--cluster curve: has 2 values; allowed: at least 8 to draw from"):
        points(few, cluster="curve")


def test_a_draw_keeps_the_weights_of_points() -> None:
    table = TABLE | {"se": np.geomspace(0.01, 0.1, 42)}
    weighted, plain = points(table, se="se"), points()
    assert weighted.draw(20, seed=0) == pytest.approx(plain.draw(20, seed=0) * weighted.weights)


# --- enough of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "fixed", "enough"), [
    (5, {}, False), (6, {}, True), (5, {"E": 1.8}, True), (4, {"E": 1.8}, False),
])  # fmt: skip
def test_there_must_be_more_points_than_free_constants(n: int, fixed: dict[str, float], enough: bool) -> None:
    some = points(points_as_rows(TABLE, np.arange(n) * 5))
    if enough:
        check_points(law(), some, fixed)
    else:
        with pytest.raises(FitError, match=f"{n} points cannot determine {5 - len(fixed)} parameters; at least"):
            check_points(law(), some, fixed)


def test_an_exponent_needs_a_range_unless_its_coefficient_is_held() -> None:
    flat = points(TABLE | {"n_params": np.full(42, 1e6)})
    with pytest.raises(FitError, match=r"n_params: is 1e\+06 in every row; its exponent needs a range of values"):
        check_points(law(), flat, {})
    check_points(law(), flat, {"A": 400.0})


# --- small facts -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=9))
def test_what_is_explained_is_at_most_all(residuals: list[float]) -> None:
    target = np.arange(float(len(residuals)))
    share = explained(target, np.array(residuals))
    assert share <= 1
    assert explained(target, np.zeros(len(target))) == 1
    assert explained(target, target - target.mean()) == pytest.approx(0)
    assert explained(np.ones(4), np.ones(4)) == 0  # nothing to explain


def test_ranges_are_of_plain_columns() -> None:
    variables = {"n": np.array([3.0, 1.0, 2.0]), "shares": np.ones((3, 2))}
    assert ranges_of(variables) == {"n": (1.0, 3.0)}


def test_an_option_that_a_law_does_not_have_names_those_that_it_has() -> None:
    choices = (Option("breaks", "how many", 1), Option("base", "of the logarithm"))
    check_options("bnsl", {}, choices)
    check_options("bnsl", {"base": 2, "breaks": 3}, choices)
    with pytest.raises(FitError, match="bnsl: has no option cracks; there are: breaks, base"):
        check_options("bnsl", {"cracks": 2}, choices)
    with pytest.raises(FitError, match="plain: has no option cracks; there are: none"):
        check_options("plain", {"cracks": 2}, ())

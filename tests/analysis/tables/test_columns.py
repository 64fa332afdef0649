"""Columns as a law reads them: finite numbers of the allowed sign, or one line that says which row is at fault."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.tables.columns import Column, FitError, read_column, read_labels, table_names
from analysis.tables.curves import Curves

Sign = Literal["positive", "non-negative", "any"]
ALLOWED: dict[Sign, tuple[float, ...]] = {"positive": (2.0,), "non-negative": (0.0, 2.0), "any": (-2.0, 0.0, 2.0)}


@pytest.mark.parametrize("sign", ALLOWED)
@pytest.mark.parametrize("value", [-2.0, 0.0, 2.0, np.inf, -np.inf, np.nan, 1e101])
def test_a_sign_allows_its_numbers_and_no_others(sign: Sign, value: float) -> None:
    column = Column("x", "", "", sign)
    table = {"x": np.array([1.0, value])}
    if value in ALLOWED[sign]:
        assert read_column(table, column).tolist() == [1.0, value]
        return
    what = "is missing or not a number" if np.isnan(value) else "is not allowed; allowed: "
    with pytest.raises(FitError, match=f"^x: .* in row 2 {what}.*leave rows out with --where"):
        read_column(table, column)


def test_a_column_named_alone_holds_positive_numbers() -> None:
    assert read_column({"se": [1.0]}, "se").tolist() == [1.0]
    with pytest.raises(FitError, match="allowed: positive numbers"):
        read_column({"se": [0.0]}, "se")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_a_frame_and_a_mapping_read_alike(values: list[int]) -> None:
    frame = pl.DataFrame({"n": values})
    for table in (frame, {"n": values}, {"n": np.array(values)}, {"n": np.array(values, dtype=object)}, Curves(frame)):
        read = read_column(table, "n")
        assert read.dtype == np.float64
        assert read.tolist() == values
        assert read_labels(table, "n").tolist() == [str(value) for value in values]


@pytest.mark.parametrize(("values", "message"), [
    (["1", "low", "2"], "x: not a column of numbers; row 2 is 'low'"),
    ([["a"], ["b"]], "x: not a column of numbers; row 1 is "),
    ([True, False], "x: not a column of numbers; row 1 is 'True'"),
    ([1.0, None], "x: nan in row 2 is missing"),
])  # fmt: skip
def test_what_holds_no_numbers_is_named_by_its_row(values: list[Any], message: str) -> None:
    with pytest.raises(FitError, match=message):
        read_column(pl.DataFrame({"x": values}), "x")


def test_a_column_that_is_not_there_says_which_are() -> None:
    for read in (read_column, read_labels):
        with pytest.raises(FitError, match=r"loss: no such column \(rename with --map loss=COLUMN\); there are: a, b"):
            read({"a": [1], "b": [2]}, "loss")


def test_a_name_reads_the_same_whether_its_column_holds_fractions_or_not() -> None:
    assert read_labels({"arm": [1, 2]}, "arm").tolist() == read_labels({"arm": [1.0, 2.0]}, "arm").tolist()
    assert read_labels({"arm": [1.5, 2.0]}, "arm").tolist() == ["1.5", "2"]
    assert read_labels({"arm": [True, "x"]}, "arm").tolist() == ["True", "x"]


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_an_entry_without_a_name_is_refused(nothing: object) -> None:
    with pytest.raises(FitError, match="arm: row 2 is empty; allowed: a name in every row"):
        read_labels({"arm": ["a", nothing]}, "arm")
    assert read_labels({"arm": ["a", ""]}, "arm").tolist() == ["a", ""]


def test_names_are_those_of_the_table() -> None:
    frame = pl.DataFrame({"a": [1], "b": [2]})
    assert table_names(frame) == table_names({"a": 1, "b": 2}) == table_names(Curves(frame)) == ["a", "b"]
    assert Curves({"a": [1]}).columns == ["a"]

"""A CSV file as a table, and what is asked of any table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.tables.csv import TableError, load_csv, numbers, reads_as, rename, where

NAMES = st.text("abcdefgh", min_size=1, max_size=4)
TABLE = pl.DataFrame({"n": [1, 2, 3], "optim.lr": [0.1, 0.01, 0.001], "lr": [1.0, 2.0, 3.0], "arm": ["a", "B", None]})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(text)
    return path


# --- files -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
)
def test_a_table_survives_its_file(
    names: list[str], values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = pl.DataFrame({name: [value + k for value in values] for k, name in enumerate(names)})
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    table.write_csv(path)
    assert load_csv(path).equals(table)


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "NA", "null"])
def test_every_way_to_say_nothing_is_null(nothing: str, tmp_path: Path) -> None:
    table = load_csv(written(tmp_path, f"n,loss\n1,2.5\n2,{nothing}\n"))
    assert table["loss"].to_list() == [2.5, None]
    assert table["loss"].dtype == pl.Float64


def test_another_word_makes_a_column_of_words(tmp_path: Path) -> None:
    assert load_csv(written(tmp_path, "n,loss\n1,2.5\n2,none\n"))["loss"].dtype == pl.String


def test_the_type_of_a_column_follows_from_all_of_its_rows(tmp_path: Path) -> None:
    rows = "".join(f"{k}\n" for k in range(200))
    assert load_csv(written(tmp_path, f"n\n{rows}"))["n"].dtype == pl.Int64
    assert load_csv(written(tmp_path, f"n\n{rows}0.5\n"))["n"].dtype == pl.Float64


def test_spaces_around_a_name_are_no_part_of_it(tmp_path: Path) -> None:
    assert load_csv(written(tmp_path, " n , loss\n1,2\n")).columns == ["n", "loss"]
    assert load_csv(written(tmp_path, "my loss,n\n1,2\n")).columns == ["my loss", "n"]


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "n,loss,loss\n1,2,3\n")
    with pytest.raises(TableError, match="has two columns loss; allowed: one of each name"):
        load_csv(path)
    # the name alone is no fault
    assert load_csv(written(tmp_path, "n,loss_duplicated_0\n1,2\n")).columns == ["n", "loss_duplicated_0"]


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="Is a directory"):
        load_csv(tmp_path)


# --- other names and some rows ---------------------------------------------------------------------------


def test_two_columns_may_change_places() -> None:
    swapped = rename(TABLE, {"lr": "optim.lr", "optim.lr": "lr"})
    assert swapped["lr"].to_list() == TABLE["optim.lr"].to_list()
    assert swapped["optim.lr"].to_list() == TABLE["lr"].to_list()
    assert rename(TABLE, {}).equals(TABLE)
    assert swapped.columns == TABLE.columns


def test_a_name_with_dots_is_a_column_and_no_table() -> None:
    assert where(TABLE, "optim.lr < 0.05")["n"].to_list() == [2, 3]
    assert where(TABLE, "lr < 2.5 and optim.lr < 0.05")["n"].to_list() == [2]
    assert where(TABLE, "optim.lr < 0.05 or lr == 1")["n"].to_list() == [1, 2, 3]


def test_text_within_quotes_is_left_alone() -> None:
    table = pl.DataFrame({"model.width": [1, 2], "path": ["model.width", "a==b"]})
    assert where(table, "path == 'model.width'")["model.width"].to_list() == [1]
    assert where(table, "model.width == 2")["path"].to_list() == ["a==b"]


@pytest.mark.parametrize(("condition", "kept"), [
    ("n >= 2", [2, 3]),
    ("n <= 2", [1, 2]),
    ("n <> 2", [1, 3]),
    ("arm is null", [3]),
    ("arm is not null", [1, 2]),
    ("not n == 2", [1, 3]),
    ("n in (1, 3)", [1, 3]),
    ("n between 2 and 3", [2, 3]),
    ("lower(arm) = 'b'", [2]),
    ("arm = 'b' or arm = 'a'", [1]),
])  # fmt: skip
def test_conditions_are_sql(condition: str, kept: list[int]) -> None:
    assert where(TABLE, condition)["n"].to_list() == kept


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.integers(-5, 5))
def test_a_condition_and_its_contrary_part_a_table(values: list[int], at: int) -> None:
    table = pl.DataFrame({"n": values})
    kept = [_kept(table, condition) for condition in (f"n == {at}", f"n != {at}")]
    assert [*kept[0], *kept[1]] == [n for n in values if n == at] + [n for n in values if n != at]


def _kept(table: pl.DataFrame, condition: str) -> list[int]:
    try:
        return where(table, condition)["n"].to_list()
    except TableError as error:
        assert "leaves none of" in str(error)  # noqa: PT017  # a table without rows is refused
        return []


def test_a_refusal_names_the_option_and_the_condition() -> None:
    with pytest.raises(TableError, match=r"^A 'n > 9': leaves none of 3 rows$"):
        where(TABLE, "n > 9", "A")
    with pytest.raises(TableError, match=r"^--where 'n > 9': leaves none of 3 rows$"):
        where(TABLE, "n > 9")


# --- columns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("column", "found"), [
    ([1, 2, 3], [1, 2, 3]),
    ([1.5, None, 2.5], [1.5, np.nan, 2.5]),
    (["1e3", "x", ""], [1000, np.nan, np.nan]),
    ([True, False, None], [1, 0, np.nan]),
    ([None, None, None], [np.nan] * 3),
    ([[1], [2], [3]], [np.nan] * 3),
])  # fmt: skip
def test_a_column_of_any_type_is_numbers_or_nan(column: list[object], found: list[float]) -> None:
    np.testing.assert_equal(numbers(pl.DataFrame({"x": column}), "x"), np.array(found, dtype=float))
    assert np.isnan(numbers(pl.DataFrame({"x": column}), "y")).all()


def test_words_are_read_in_any_letters_and_types() -> None:
    table = pl.DataFrame({"state": ["Diverged", "finished", None], "dirty": [True, False, None], "n": [1, 2, 3]})
    assert reads_as(table, "state", ("diverged", "failed")).tolist() == [True, False, False]
    assert reads_as(table, "dirty", ("true",)).tolist() == [True, False, False]
    assert reads_as(table, "n", ("2",)).tolist() == [False, True, False]
    assert reads_as(table, "state", ("dive",)).tolist() == [False] * 3  # whole words
    assert reads_as(table, "nothing", ("diverged",)).tolist() == [False] * 3


@pytest.mark.parametrize("header", ["loss, loss", "loss,loss", " loss,loss "])
def test_names_that_differ_by_spaces_alone_are_the_same_name(tmp_path: Path, header: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(f"{header}\n1,2\n")
    with pytest.raises(TableError, match="has two columns loss; allowed: one of each name"):
        load_csv(path)
    path.write_text("loss, loss_2\n1,2\n")
    assert load_csv(path).columns == ["loss", "loss_2"]

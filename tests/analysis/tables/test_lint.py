"""Each defect is found in a table that has it, in no clean one, and at the rows that have it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from analysis.tables.lint import FINDINGS, lint, rows_of

RATES = (1e-4, 3e-4, 1e-3, 3e-3)


def sweep(**changes: list[Any]) -> pl.DataFrame:
    """Two sizes times four learning rates, each with its best rate inside; `changes` replace columns."""
    bowl = [3.2, 3.0, 3.1, 3.4]
    columns: dict[str, Any] = {
        "folder": [f"runs/{k}" for k in range(8)],
        "n_params": [1e6] * 4 + [4e6] * 4,
        "lr": [*RATES, *RATES],
        "loss": [*bowl, *(level - 0.3 for level in bowl)],
        "state": ["finished"] * 8,
        "lr_final": [0.0] * 8,
        "data_fingerprint": ["f00d"] * 8,
        "code_commit": ["c0de"] * 8,
        "code_dirty": [False] * 8,
    }
    return pl.DataFrame(columns | changes)


def but(value: Any, other: Any, *rows: int) -> list[Any]:
    return [other if row in rows else value for row in range(8)]


PLANTED: dict[str, tuple[pl.DataFrame, tuple[int, ...]]] = {
    "diverged": (sweep(state=but("finished", "diverged", 3)), (3,)),
    "unfinished": (sweep(state=but("finished", "running", 0, 5)), (0, 5)),
    "lr_edge": (sweep(loss=[3.2, 3.0, 3.1, 3.4, 2.9, 2.8, 2.7, 2.6]), (7,)),
    "not_annealed": (sweep(lr_final=[0.0, 0.0, 0.2e-3, *[0.0] * 5]), (2,)),
    "mixed_data": (sweep(data_fingerprint=but("f00d", "beef", 1)), (1,)),
    "mixed_code": (sweep(code_commit=but("c0de", "01d", 6, 7)), (6, 7)),
    # Row 1 continues a model of its own FLOPs per token, rows 2 and 3 another's.
    "grown": (
        sweep(
            flops_per_token=[6e6] * 4 + [24e6] * 4,
            n_tokens_inherited=[0, 100, 100, 100, None, 0, 0, 0],
            flops_inherited=[0.0, 600e6, 150e6, 700e6, None, 0.0, 0.0, 0.0],
        ),
        (2, 3),
    ),
}


def test_a_table_that_knows_what_grew_is_taken_at_its_word() -> None:
    """A model of the same FLOPs per token can be another one, as where shared blocks are untied."""
    alike = {"flops_per_token": 6e6, "n_tokens_inherited": 100, "flops_inherited": 600e6}
    assert lint(sweep(**{name: [value] * 8 for name, value in alike.items()})) == []
    (found,) = lint(sweep(**{name: [value] * 8 for name, value in alike.items()}, model_grew=but(False, True, 4)))
    assert (found.name, found.rows) == ("grown", (4,))


def test_a_clean_table_has_no_finding() -> None:
    assert lint(sweep()) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found_where_it_is(name: str) -> None:
    table, rows = PLANTED[name]
    (found,) = lint(table)
    assert (found.name, found.rows) == (name, rows)
    assert str(len(rows)) in found.sentence
    assert list(rows_of([found], 8).nonzero()[0]) == list(rows)


def test_rows_that_repeat_are_found_wherever_they_lie() -> None:
    (found,) = lint(pl.concat([sweep(), sweep()[2:4].with_columns(folder=pl.lit("runs/copy"))]))
    assert (found.name, found.rows) == ("duplicate", (8, 9))
    assert lint(pl.concat([sweep(), sweep()[2:4].with_columns(loss=pl.col("loss") + 0.001)])) == []  # a replicate


def test_every_finding_has_a_test() -> None:
    assert set(FINDINGS) == {*PLANTED, "duplicate"}


# --- learning rates --------------------------------------------------------------------------------------


def test_replicates_of_a_rate_count_by_their_mean() -> None:
    """The lowest single loss lies at the edge, the lowest mean inside."""
    table = pl.DataFrame({"lr": [1e-4, 1e-4, 1e-3, 1e-3, 1e-2], "loss": [2.5, 3.3, 2.6, 2.61, 3.0]})
    assert lint(table) == []
    (found,) = lint(table.with_columns(loss=pl.Series([2.5, 2.5, 2.6, 2.61, 3.0])).with_row_index())
    assert found.rows == (0, 1)
    assert found.sentence == "1 optimum at the edge of the learning rates tried"


def test_two_rates_are_no_sweep() -> None:
    assert lint(pl.DataFrame({"lr": [1e-4, 1e-3], "loss": [3.0, 2.0]})) == []


def test_what_has_no_loss_is_no_optimum() -> None:
    table = sweep(loss=[3.2, 3.0, 3.1, None, 2.9, 2.7, 2.8, None])
    assert lint(table) == []
    assert [one.name for one in lint(sweep(loss=[3.2, 3.0, 2.9, None, 2.9, 2.7, 2.8, None]))] == ["lr_edge"]


@pytest.mark.parametrize(("shape", "floor", "floor_is", "found"), [
    ("cosine", 0.0, "relative", False),
    ("cosine", 0.1, "relative", False),
    ("cosine", 0.2, "relative", True),
    ("wsd", 0.2, "absolute", True),  # far above the peak of 1e-3 to come down
    ("wsd", 5e-5, "absolute", False),
    ("constant", 0.0, "relative", True),
    ("inverse_sqrt", 0.0, "relative", True),
])  # fmt: skip
def test_a_schedule_tells_where_it_ends(shape: str, floor: float, floor_is: str, found: bool) -> None:
    table = pl.DataFrame(
        {"lr": [1e-3], "schedule.shape": [shape], "schedule.floor": [floor], "schedule.floor_is": [floor_is]}
    )
    assert [one.name for one in lint(table)] == ["not_annealed"] * found
    assert lint(table, curves=True) == []  # along a curve the rate is what is studied


# --- versions --------------------------------------------------------------------------------------------


def test_edited_files_are_a_mixture_only_beside_others() -> None:
    assert lint(sweep(code_dirty=[True] * 8)) == []
    (found,) = lint(sweep(code_dirty=but(False, True, 4)))
    assert (found.name, found.rows) == ("mixed_code", (4,))


def test_points_of_a_curve_are_one_run() -> None:
    table = pl.DataFrame(
        {"curve": ["a"] * 3 + ["b"] * 2, "step": [1, 2, 3, 1, 2], "data_fingerprint": ["x"] * 3 + ["y"] * 2}
    )
    (found,) = lint(table, curves=True)
    assert found.sentence == "1 run on other data than most (data_fingerprint)"
    assert found.rows == (3, 4)


def test_a_trunk_that_stands_in_several_curves_is_one_measurement() -> None:
    table = pl.DataFrame(
        {
            "curve": ["long", "long", "short", "short"],
            "measured_by": ["trunk", "long", "trunk", "short"],
            "step": [4, 8, 4, 8],
            "loss": [3.0, 2.0, 3.0, 2.1],
        }
    )
    (found,) = lint(table, curves=True)
    assert (found.name, found.rows) == ("duplicate", (2,))
    assert lint(table.drop("measured_by"), curves=True) == []


# --- tables from elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [
    {"state": [1, 2, 3]},  # American states, say
    {"state": ["NY", "CA", None]},
    {"lr": ["low", "high", "low"], "loss": [1.0, 2.0, 3.0]},
    {"lr": [1e-3, 1e-2, 1e-1], "loss": ["a", "b", "c"]},
    {"lr": [1e-3, 1e-3, 1e-3], "lr_final": ["none", None, "0"], "loss": [1.0, 2.0, 3.0]},
    {"schedule.shape": ["cosine", "linear", "wsd"]},
    {"code_dirty": ["no", "no", "no"], "code_version": [None, None, None], "loss": [1, 2, 3]},
])  # fmt: skip
def test_columns_that_mean_something_else_find_nothing(columns: dict[str, list[Any]]) -> None:
    assert lint(pl.DataFrame(columns).with_row_index()) == []


def test_words_read_from_a_csv_are_found() -> None:
    """`True` in a CSV is text, and states may be written large."""
    table = sweep(code_dirty=but("False", "True", 2), state=but("finished", "Diverged", 1))
    assert [(one.name, one.rows) for one in lint(table)] == [("diverged", (1,)), ("mixed_code", (2,))]

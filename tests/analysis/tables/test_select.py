"""Which runs count: by their loss, by the rate at which they end, by their size."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from analysis.tables import select
from analysis.tables.lineage import trace
from analysis.tables.lint import lint
from tests.analysis.tables.test_lineage import row

STATES = ("finished", "finished", "diverged", "failed", "running")


def test_a_loss_counts_of_runs_that_finished_and_have_one() -> None:
    runs = pl.DataFrame(
        {"state": STATES, "loss": [2.0, None, 9.0, 2.0, 2.0], "capped_loss": [2.0, None, 5.5, None, None]}
    )
    assert select.with_loss(runs)["loss"].to_list() == [2.0]
    assert select.with_loss(runs, "capped_loss")["capped_loss"].to_list() == [2.0, 5.5]
    assert select.with_loss(runs.rename({"loss": "mine"}), "mine")["mine"].to_list() == [2.0]


@pytest.mark.parametrize(("settings", "low"), [
    (("cosine", 0.0, "relative"), True),
    (("linear", 0.1, "relative"), True),
    (("cosine", 0.3, "relative"), False),
    (("wsd", 0.11, "relative"), False),
    (("wsd", 1e-4, "absolute"), True),
    (("wsd", 2e-4, "absolute"), False),
    (("constant", 0.0, "relative"), False),
    (("inverse_sqrt", 0.0, "relative"), False),
])  # fmt: skip
def test_one_rule_tells_a_fit_and_a_comparison_what_is_annealed(settings: tuple[Any, ...], low: bool) -> None:
    """The finding is the rule's contrary, and what has grown is told by the same."""
    columns = dict(zip(("schedule.shape", "schedule.floor", "schedule.floor_is"), settings, strict=True)) | {"lr": 1e-3}
    table = pl.DataFrame(columns | {"loss": 3.0})
    assert select.annealed(table).to_list() == [low]
    assert [finding.name for finding in lint(table)] == ([] if low else ["not_annealed"])
    assert trace(pl.DataFrame([row("run", **columns)], infer_schema_length=None))["annealed"].to_list() == [low]


def test_what_a_table_does_not_tell_is_neither() -> None:
    for unknown in ({"loss": [3.0]}, {"schedule.shape": ["cosine"]}, {"lr": [1e-3], "lr_final": [None]}):
        table = pl.DataFrame(unknown)
        assert select.annealed(table).to_list() == [None]
        assert lint(table) == []
    some = select.annealed(pl.DataFrame({"lr": [1.0, 1.0, None], "lr_final": [0.1, 0.2, 0.0]}))
    assert some.to_list() == [True, False, None]


def test_the_largest_run_is_held_out_with_its_replicates() -> None:
    """By the tokens that were planned: the last one broke after 5 of its 20."""
    planned = {"n_tokens_planned": [90, 10, 20, 20]}
    runs = pl.DataFrame(
        {"n_params": [1, 2, 2, 2], "n_tokens": [90, 10, 20, 5], "loss": [4.0, 3.0, 2.0, 2.1], **planned}
    )
    others, held = select.hold_out_largest(runs)
    assert others["loss"].to_list() == [4.0, 3.0]
    assert held["loss"].to_list() == [2.0, 2.1]

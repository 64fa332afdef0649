"""Every metric is declared once, and what is not declared cannot be written."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.roles import Role
from train.record.metrics import MATRIX_NAME, METRICS, TABLE_NAME, Cadence, block_name, check_declared

LAYERS = st.integers(0, 200)


def test_each_metric_says_what_it_is() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.cadence for metric in METRICS} == set(get_args(Cadence))
    for metric in METRICS:
        assert all([metric.unit, metric.reduction, metric.doc]), metric.name


@settings(max_examples=30, deadline=None)
@given(LAYERS, st.integers(1, 99), st.sampled_from(Role), st.sampled_from(["query", "up", "gate", "down"]))
def test_names_with_any_numbers_are_declared(layer: int, n: int, role: Role, matrix: str) -> None:
    tensor = f"{block_name(layer)}/{matrix}"
    fill = {"{l}": str(layer), "{n}": str(n), "{role}": role.value, "{tensor}": tensor}
    for metric in METRICS:
        name = metric.name
        for placeholder, value in fill.items():
            name = name.replace(placeholder, value)
        check_declared([name])
        with pytest.raises(KeyError, match=r"a metric that `train.record.metrics` does not declare"):
            check_declared([f"{name}_"])
    assert re.fullmatch(MATRIX_NAME, tensor)


@pytest.mark.parametrize(
    "name",
    ["", "loss", "train_loss ", "block/output_rms", "block-1/output_rms", "blockl/output_rms", "block{l}/output_rms",
     "angle/1/0", "angle/1", "block1/query/output_rms", "Query/update_rms", "block1/norm/staleness"],
)  # fmt: skip
def test_what_is_near_a_name_is_none(name: str) -> None:
    with pytest.raises(KeyError, match="does not declare"):
        check_declared(["step", name])


def test_a_table_is_no_matrix() -> None:
    assert re.fullmatch(MATRIX_NAME, TABLE_NAME) is None
    check_declared([f"{TABLE_NAME}/adam_rms", "readout/adam_rms"])
    check_declared([])

"""The algebra of grids, and that a cell means the same to Hydra as to the study."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.compose import compose
from sweeps.cells.grid import GridError, cross, overrides, product, under, where, zipped

VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@given(st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1))
def test_a_product_has_every_combination_once(axes):
    cells = product(axes)
    assert len(cells) == math.prod(map(len, axes.values()))
    assert all(cell.keys() == axes.keys() for cell in cells)
    assert cells == cross(*(product({key: values}) for key, values in axes.items()))


@given(VALUES)
def test_zipped_axes_walk_together(values):
    cells = zipped({"a": values, "b": [-value for value in values]})
    assert [cell["a"] for cell in cells] == values
    assert all(cell["b"] == -cell["a"] for cell in cells)


def test_where_keeps_the_order():
    cells = product({"a": [3, 1, 2]})
    assert where(cells, lambda cell: cell["a"] > 1) == [{"a": 3}, {"a": 2}]


def test_crossing_with_one_empty_cell_changes_nothing():
    cells = product({"a": [1, 2]})
    assert cross(cells, [{}]) == cells
    assert cross(cells, []) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: zipped({"a": [1, 2], "b": [1]}), "a has 2, b has 1"),
        (lambda: cross([{"a": 1}], [{"a": 2}]), "a: set to 1 and to 2"),
        (lambda: cross([{"a": 1}], [{"a": 1}]), "a: set to 1 and to 1"),
        (lambda: product({"a": []}), "a: the axis has no values"),
        (lambda: product({"a": "xyz"}), "a: the axis is the text 'xyz'"),
        (lambda: overrides({"a": [1]}), "a: [1] is a list"),
        (lambda: overrides({"a": "${b}"}), "a: '${b}' is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, words):
    with pytest.raises(GridError) as refusal:
        make()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TRICKY = st.text("ab '\"\\,=%/{}[]()$:#\t\n", max_size=12)


@given(st.one_of(TEXT, TRICKY, st.sampled_from(["null", "true", "1e3", "nan", ""])).filter(lambda s: "${" not in s))
@settings(max_examples=300, deadline=None)
def test_any_text_survives_hydras_grammar(text):
    (override,) = overrides({"data.path": text})
    assert OverridesParser.create().parse_override(override).value() == text


@given(st.one_of(st.floats(allow_nan=False), st.integers(-(2**63), 2**63), st.booleans(), st.none()))
@settings(max_examples=300, deadline=None)
def test_any_number_survives_hydras_grammar(number):
    (override,) = overrides({"optim.lr": number})
    read = OverridesParser.create().parse_override(override).value()
    assert (type(read), read) == (type(number), number)


@given(
    path=TRICKY.filter(lambda s: s and "${" not in s),
    lr=st.floats(1e-12, 1e6),
    seed=st.integers(0, 2**63 - 1),
    softcap=st.one_of(st.none(), st.floats(1e-3, 1e3)),
)
@settings(max_examples=20, deadline=None)
def test_a_cell_composes_to_its_own_values(path, lr, seed, softcap):
    cell = {"data": "text", "data.path": path, "optim.lr": lr, "seed": seed, "model.softcap": softcap}
    config = compose(overrides(cell | {"train.duration": "5%".replace("%", "steps"), "schedule.warmup": "5%"}))
    assert (config.data.path, config.optim.lr, config.seed, config.model.softcap) == (path, lr, seed, softcap)
    assert config.schedule.warmup == "5%"


def test_without_quotes_a_value_would_be_another():
    assert compose(overrides({"data": "text", "data.path": "null"})).data.path == "null"
    with pytest.raises(ValueError, match=r"data\.path: null"):
        compose(["data=text", "data.path=null"])


def test_numpy_numbers_are_numbers():
    assert overrides({"a": np.float64(0.1), "b": np.int64(3)}) == ["a=0.1", "b=3"]


def test_every_cell_is_under_every_arm():
    arms, cells = [{"param": "mup"}, {"param": "standard", "seed": 9}], [{"seed": 0}, {"seed": 1}]
    assert under(arms, cells) == [
        {"seed": 0, "param": "mup"},
        {"seed": 1, "param": "mup"},
        {"seed": 9, "param": "standard"},  # an arm's setting replaces the cell's
        {"seed": 9, "param": "standard"},
    ]
    assert under([], cells) == under(arms, []) == []
    assert under([{}], cells) == cells

"""A cell: equal whatever the order, merged key by key, read back from what it says of itself; and what it refuses."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.compose import compose
from sweeps.cells.cell import Cell, CellError
from sweeps.cells.graph import cost_of, grown
from sweeps.cells.grid import overrides

VALUES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-1e3, 1e3), st.text("ab,'1", max_size=3))
SETTINGS = st.dictionaries(st.sampled_from(["optim.lr", "model.width", "data", "seed", "grow.depth"]), VALUES)
SCRATCH = st.builds(Cell, SETTINGS)
IDS = st.text("0123456789abcdef", min_size=16, max_size=16)
STEPS = st.integers(0, 99)
CELLS = st.recursive(
    st.one_of(SCRATCH, st.builds(Cell, SETTINGS, IDS, STEPS)),
    lambda bases: st.builds(Cell, SETTINGS, bases, STEPS),
    max_leaves=4,
)


@given(CELLS)
def test_a_cell_is_read_back_from_its_plain_values_and_from_json(cell):
    assert Cell.of(cell.plain) == Cell.of(json.loads(json.dumps(cell.plain))) == Cell.of(cell) == cell
    as_text = cell.plain
    if isinstance(cell.base, Cell):
        as_text["grow.base"] = json.dumps(cell.base.plain)
    assert Cell.of(as_text) == cell


@given(CELLS)
def test_the_order_of_the_settings_does_not_matter(cell):
    backwards = replace(cell, settings=dict(reversed(cell.settings.items())))
    assert backwards == cell
    assert hash(backwards) == hash(cell)
    assert len({backwards, cell}) == 1


@given(CELLS, SETTINGS)
def test_merging_replaces_settings_and_keeps_the_base(cell, settings):
    merged = cell | settings
    assert merged.settings == {**cell.settings, **settings}
    assert (merged.base, merged.step) == (cell.base, cell.step)
    assert (settings | cell).settings == {**settings, **cell.settings}
    assert merged.without(*settings) == cell.without(*settings)


def test_cells_that_differ_are_not_equal():
    cell = grown({"model.depth": 2}, 5, {"model.depth": 4})
    others = [
        cell | {"seed": 1},
        cell.without("model.depth"),
        grown({"model.depth": 2}, 6, {"model.depth": 4}),
        grown({"model.depth": 1}, 5, {"model.depth": 4}),
        replace(cell, base="0" * 16),
        Cell(cell.settings),
    ]
    assert len({cell, *others}) == 1 + len(others)


def test_a_cell_cannot_be_changed():
    settings = {"seed": 0}
    cell = Cell(settings)
    settings["seed"] = 1
    assert cell.settings["seed"] == 0
    with pytest.raises(TypeError):
        cell.settings["seed"] = 2
    with pytest.raises(FrozenInstanceError):
        cell.step = 3


def test_growing_takes_the_settings_of_the_base_but_not_how_it_grew():
    first = Cell({"optim.lr": 0.1, "seed": 3})
    second = grown(first, 5, {"model.depth": 8, "grow.depth": "zero"})
    third = grown(second, 7)
    assert third.settings == {"optim.lr": 0.1, "seed": 3, "model.depth": 8}
    assert (third.base, third.step) == (second, 7)
    assert third.base.base == first
    assert grown(first.plain, 5, {"model.depth": 8, "grow.depth": "zero"}) == second


def test_overrides_name_the_base_once_it_has_an_id():
    cell = grown({"model.depth": 2}, 5, {"model.depth": 4})
    with pytest.raises(CellError, match=r"grow\.base: is a cell"):
        cell.overrides()
    named = replace(cell, base="0" * 16)
    assert named.overrides() == overrides(named.plain)
    config = compose(named.overrides())
    assert (config.model.depth, config.grow.base, config.grow.step) == (4, "0" * 16, 5)


@pytest.mark.parametrize("step", ["5", 5.0, True, [5]])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(CellError, match=r"grow\.step: .* is not allowed; allowed: integer"):
        Cell.of({"grow.base": {"seed": 0}, "grow.step": step})


@pytest.mark.parametrize("base", ["0123", "[1]", "null and void", 3, [{"seed": 0}]])
def test_a_base_is_a_cell_or_the_id_of_a_run(base):
    with pytest.raises(CellError, match="allowed: the base's own cell, as JSON, or the id of a run"):
        Cell.of({"grow.base": base, "grow.step": 5})


def test_settings_hold_no_base():
    for key in ("grow.base", "grow.step"):
        with pytest.raises(CellError, match=f"{key}: is no setting of a cell"):
            Cell({key: None})
        with pytest.raises(CellError, match=f"{key}: is no setting of a cell"):
            Cell({}) | {key: 5}


def test_what_a_run_costs_on_a_base_that_is_there_is_not_known_from_its_cell():
    with pytest.raises(CellError, match=r"allowed: the base's own cell, as JSON$"):
        cost_of(Cell({}, base="0" * 16, step=5))

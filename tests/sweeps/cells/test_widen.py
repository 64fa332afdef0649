"""Widening: interior optima are left alone, those at an end move, and the records alone say what was added."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.compose import compose
from conf.config import resolve
from sweeps.__main__ import main
from sweeps.cells.cell import Cell
from sweeps.cells.grid import cross, product
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen, WidenError, next_value, widened
from sweeps.engines import machine
from sweeps.engines.base import Ended, Engine, Launch
from sweeps.engines.machine import this_machine
from sweeps.engines.registry import ENGINES
from sweeps.plan.plan import make_plan
from train.record.edge import best_value
from train.record.manifest import Manifest
from train.record.run import write_run


def grid(axes):
    return [Cell(settings) for settings in product(axes)]


GRID = grid({"model.width": [32], "optim.lr": [1e-3, 1e-2], "seed": [0, 1]})


def valley(bottom: float, *, diverges_above: float = math.inf):
    """Final losses with their minimum at `bottom`; each seed shifts them a little."""

    def final_loss(cell):
        if cell.settings["optim.lr"] > diverges_above:
            return math.inf
        return 2 + math.log10(cell.settings["optim.lr"] / bottom) ** 2 + 0.01 * cell.settings["seed"]

    return final_loss


def values(cells):
    return sorted({cell.settings["optim.lr"] for cell in cells})


def test_the_grid_grows_towards_the_optimum_until_it_is_interior():
    up = widened(GRID, Widen(), valley(9e-2))
    assert values(up.cells) == [0.1, 1.0]
    assert [str(one) for one in up.extensions] == [
        "optim.lr: the largest value 0.01 is best so far; added 0.1 (2 runs)",
        "optim.lr: the largest value 0.1 is best so far; added 1 (2 runs)",
    ]
    assert all(cell.settings["model.width"] == 32 for cell in up.cells)
    assert sorted(cell.settings["seed"] for cell in up.cells) == [0, 0, 1, 1]
    down = widened(GRID, Widen(), valley(1.1e-4))
    assert values(down.cells) == [1e-5, 1e-4]
    assert up.at_the_edge == down.at_the_edge == ()


def test_an_interior_optimum_is_left_alone():
    inner = grid({"optim.lr": [1e-3, 1e-2, 1e-1], "seed": [0]})
    assert widened(inner, Widen(), valley(1e-2)).cells == []
    assert widened(inner, Widen(), valley(1e-1)).cells != []


def test_at_most_ends_it_with_a_line():
    end = widened(GRID, Widen(at_most=2), valley(1e9))
    assert values(end.cells) == [0.1, 1.0]
    assert end.at_the_edge == ("optim.lr: the best value 1 is still the largest after 2 extensions",)
    none = widened(GRID, Widen(at_most=0), valley(1e9))
    assert (none.cells, len(none.at_the_edge)) == ([], 1)


def test_a_diverged_value_bounds_the_grid_and_all_diverged_means_less():
    assert values(widened(GRID, Widen(), valley(1.0, diverges_above=0.5)).cells) == [0.1, 1.0]
    assert values(widened(GRID, Widen(), valley(1.0, diverges_above=5e-4)).cells) == [1e-5, 1e-4]


def test_one_diverged_seed_makes_its_value_no_optimum():
    def final_loss(cell):
        return math.inf if (cell.settings["optim.lr"], cell.settings["seed"]) == (1e-2, 1) else valley(1e-2)(cell)

    assert values(widened(GRID, Widen(), final_loss).cells)[-1] == 1e-4


def test_each_grid_has_its_own_optimum_and_its_own_seeds():
    cells = grid({"model.width": [32, 64], "optim.lr": [1e-3, 1e-2, 1e-1], "seed": [0]})
    cells += [Cell({"model.width": 64, "optim.lr": 1e-2, "seed": 5})]

    def final_loss(cell):
        return valley(1e-2 if cell.settings["model.width"] == 32 else 1e-4)(cell)

    found = widened(cells, Widen(), final_loss)
    assert values(found.cells) == [1e-5, 1e-4]
    assert {(cell.settings["model.width"], cell.settings["seed"]) for cell in found.cells} == {(64, 0), (64, 5)}
    assert str(found.extensions[0]).startswith("model.width=64: optim.lr: the smallest value 0.001")


def test_a_grid_waits_for_its_runs_and_not_for_others():
    cells = grid({"model.width": [32, 64], "optim.lr": [1e-3, 1e-2], "seed": [0]})

    def final_loss(cell):
        waits = cell.settings["model.width"] == 32 and cell.settings["optim.lr"] == 1e-3
        return None if waits else valley(5.0)(cell)

    assert {cell.settings["model.width"] for cell in widened(cells, Widen(), final_loss).cells} == {64}


def test_what_has_no_step_is_left_alone():
    assert widened([Cell({"optim.lr": 0.1}), Cell({"seed": 1})], Widen(), valley(1)).extensions == ()
    for value in ("a", True, None, 0, -1.0, math.inf):
        with pytest.raises(WidenError, match=r"optim\.lr: .* cannot be widened; allowed: a number above 0"):
            widened([Cell({"optim.lr": value})], Widen(), valley(1))


@given(st.floats(1e-8, 1e4), st.floats(1.05, 50), st.integers(0, 3))
def test_rounds_one_by_one_end_where_all_at_once_do(bottom, ratio, at_most):
    """The same records give the same cells, however many of them there were when it was asked before."""
    cells = grid({"optim.lr": [1e-3, 1e-3 * ratio, 1e-3 * ratio**2], "seed": [0]})
    widen, ended = Widen(at_most=at_most), set(cells)
    whole = widened(cells, widen, valley(bottom))

    def known(cell):
        return valley(bottom)(cell) if cell in ended else None

    for _ in range(20):
        found = widened(cells, widen, known)
        assert found.cells == whole.cells[: len(found.cells)]
        ended.update(found.cells)
    assert found == whole
    steps = [math.log(b / a) for a, b in itertools.pairwise(values([*cells, *found.cells]))]
    assert steps == pytest.approx([math.log(ratio)] * len(steps), rel=1e-3)
    if not whole.at_the_edge:
        losses = {
            value: valley(bottom)(Cell({"optim.lr": value, "seed": 0})) for value in values([*cells, *found.cells])
        }
        assert best_value(losses)[1] is None


def test_the_next_value_keeps_the_ratio_at_its_end():
    assert next_value([1e-3, 3e-3, 1e-2], "largest") == 0.0333333
    assert next_value([1e-3, 3e-3, 1e-2], "smallest") == 0.000333333


# --- a whole sweep, with an engine that writes the records ------------------------------------------------

CELLS = product({"train.duration": ["4steps"], "optim.lr": [1e-3, 1e-2], "seed": [0, 1]})


def engine_of(final_loss, calls):
    def engine(plan, trainer, console):
        del trainer, console
        calls.append(len(plan.missing))
        ended = []
        for run in plan.missing:
            loss = final_loss(run.cell)
            if loss is None:
                ended.append(Ended(run, "failed", "broke"))
                continue
            run.folder.mkdir(parents=True)
            end = {"state": "finished", "val_loss": loss, "val_loss_se": 0.0, "seconds": 1.0}
            if math.isinf(loss):
                end = {"state": "diverged", "diverged_at_step": 1, "seconds": 1.0}
            write_run(run.folder, {"run_id": run.run_id, **end})
            ended.append(Ended(run, end["state"], None))
        return Launch(ended)

    return engine


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """`sweep(final_loss, …)` runs the command on the study: status, what it said, and the sizes of its launches."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)

    def go(final_loss, *, command="run", widen=Widen(at_most=2), profile="cpu", cells=CELLS):  # noqa: B008  # frozen
        study = Study("fake/wide", "Wide.", lambda _: cells, widen=widen)
        calls: list[int] = []
        monkeypatch.setitem(ENGINES, "local", Engine(this_machine, engine_of(final_loss, calls)))
        argv = [command, study.name, "--profile", profile, "--runs-dir", str(tmp_path)]
        return main(argv, studies={study.name: study}), capsys.readouterr().out, calls

    return go


def test_a_sweep_goes_on_until_the_optimum_is_interior(sweep, tmp_path):
    status, said, calls = sweep(valley(0.09))
    assert (status, calls) == (0, [4, 2, 2])
    assert said.count("is best so far; added") == 2
    assert len(Manifest.read(tmp_path, "fake/wide", "cpu").run_ids) == 8
    for command in ("plan", "status"):
        status, said, _ = sweep(valley(0.09), command=command)
        assert status == 0
        assert "1.0" in said
        assert said.count(" finished ") == 8
    status, said, calls = sweep(valley(0.09))
    assert (status, calls, said.count("added")) == (0, [], 0)


def test_a_sweep_that_ends_at_the_edge_says_so(sweep):
    line = "optim.lr: the best value 1 is still the largest after 2 extensions"
    for command in ("run", "plan", "status"):
        status, said, _ = sweep(valley(1e6), command=command)
        assert status == 0
        assert said.count(line) == 1


def test_no_widening_where_the_study_does_not_want_it(sweep):
    assert sweep(valley(0.09), profile="smoke")[2] == [4]
    assert sweep(valley(0.09), widen=None)[2] == []  # those four are all
    assert sweep(valley(0.09))[2] == [2, 2]


def test_a_failed_run_is_not_started_twice_and_holds_its_grid_alone(sweep):
    shared = {"train.duration": "4steps", "model.heads": 2, "seed": 0}
    two = cross([shared], product({"model.width": [32, 64], "optim.lr": [1e-3, 1e-2]}))

    def final_loss(cell):
        return None if (cell.settings["model.width"], cell.settings["optim.lr"]) == (32, 1e-3) else valley(0.05)(cell)

    status, said, calls = sweep(final_loss, cells=two)
    assert (status, calls) == (1, [4, 1, 1])
    assert "1 run failed" in said
    assert "model.width=64: optim.lr" in said


def test_an_interrupt_ends_the_sweep_before_it_is_widened(tmp_path, monkeypatch, capsys):
    def interrupted(plan, trainer, console):
        return replace(engine_of(valley(0.09), [])(plan, trainer, console), stopped_by=2)

    monkeypatch.setitem(ENGINES, "local", Engine(this_machine, interrupted))
    study = Study("fake/wide", "Wide.", lambda _: CELLS, widen=Widen())
    assert main(["run", study.name, "--runs-dir", str(tmp_path)], studies={study.name: study}) == 130
    assert "added" not in capsys.readouterr().out
    assert len(Manifest.read(tmp_path, "fake/wide", "cpu").run_ids) == 4


def test_runs_that_another_study_has_are_linked_before_and_after_the_grid_is_widened(tmp_path, monkeypatch, capsys):
    calls: list[int] = []
    monkeypatch.setitem(ENGINES, "local", Engine(this_machine, engine_of(valley(0.09), calls)))
    for name in ("fake/one", "fake/two"):
        study = Study(name, "Wide.", lambda _: CELLS, widen=Widen())
        assert main(["run", name, "--runs-dir", str(tmp_path)], studies={name: study}) == 0
    assert sum(calls) == 8
    assert "4 runs linked" in capsys.readouterr().out
    assert len(Manifest.read(tmp_path, "fake/two", "cpu").run_ids) == 8


def test_the_added_runs_are_those_of_a_wider_study(tmp_path):
    """A cell that was added has the id that the study would give it, had it been in the grid."""
    study = Study("fake/wide", "Wide.", lambda _: CELLS, widen=Widen())
    engine_of(valley(0.03), [])(make_plan(study, "cpu", runs_dir=tmp_path), None, None)
    added = make_plan(study, "cpu", runs_dir=tmp_path).missing
    wide = replace(study, widen=None, cells=lambda _: [cell | {"optim.lr": 0.1} for cell in CELLS[:2]])
    assert [run.run_id for run in added] == [run.run_id for run in make_plan(wide, "cpu", runs_dir=tmp_path).runs]
    assert resolve(compose(added[0].overrides), cuda=False) == added[0].config

"""The graph of runs: bases come first, are shared, and keep what others start from."""

from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

from conf.schema import UserError
from models.count import RunCost, Spent
from sweeps.graph import Node, base_of, grown, kept_steps, lines, sharing
from sweeps.launch import TRAINER, local
from sweeps.plan import make_plan
from sweeps.study import Study
from train.record import checkpoint_at, read_run, write_run

SMALL = {
    "data": "markov",
    "data.vocab_size": 16,
    "data.context": 16,
    "data.n_tokens": 20000,
    "model.depth": 2,
    "model.width": 16,
    "model.heads": 2,
    "train.batch_size": 8,
    "train.duration": "20steps",
    "eval.sequences": 16,
}
DEEP = {"model.depth": 4, "train.duration": "10steps"}


def a_study(*cells):
    return Study("fake/graph", "A graph.", lambda profile: [dict(cell) for cell in cells])  # noqa: ARG005


def a_plan(tmp_path, *cells, **how):
    cache = f"runtime.cache_dir={tmp_path}/cache"
    return make_plan(a_study(*cells), "smoke", runs_dir=tmp_path / "runs", extra=[cache], **how)


def test_a_base_is_planned_once_and_keeps_what_its_children_need(tmp_path):
    children = [grown(SMALL, step, DEEP) for step in (5, 10, 20)]
    plan = a_plan(tmp_path, *children)
    base, *rest = plan.runs
    assert len(rest) == 3
    assert {run.base for run in rest} == {base.run_id}
    assert base.config.model.depth == 2
    assert [run.config.grow.step for run in rest] == [5, 10, 20]
    assert "train.keep='5,10'" in base.overrides  # the last checkpoint stays anyway
    assert base.run_id not in plan.wanted
    assert [run.cost.inherited.tokens for run in rest] == [step * 8 * 16 for step in (5, 10, 20)]
    assert rest[0].cell["grow.base"] == base.run_id
    # Keeping checkpoints is no other run.
    assert a_plan(tmp_path, SMALL).runs[0].run_id == base.run_id


def test_a_base_of_another_setting_makes_another_run(tmp_path):
    slow, fast = (
        a_plan(tmp_path, grown(SMALL | {"optim.lr": lr}, 5, DEEP | {"optim.lr": 1e-3})) for lr in (1e-3, 1e-2)
    )
    assert slow.runs[1].run_id != fast.runs[1].run_id


def test_growing_twice_is_a_chain(tmp_path):
    once = grown(SMALL, 10, DEEP)
    twice = grown(once, 10, {"model.depth": 8})
    plan = a_plan(tmp_path, twice, once)
    assert [run.config.model.depth for run in plan.runs] == [2, 4, 8]
    assert "grow.base" not in (base_of(base_of(twice)) or {})
    assert plan.chain(plan.runs[2]) == list(plan.runs)
    assert plan.seconds_left >= sum(run.seconds for run in plan.runs) * 0.99  # however many cores, one after the other


def test_a_base_must_be_a_cell(tmp_path):
    for base in ("0123456789abcdef", "[1]"):
        with pytest.raises(UserError, match=r"grow\.base: .* as JSON"):
            a_plan(tmp_path, SMALL | {"grow.base": base, "grow.step": 3})


def node(base: str | None, step: int, n_steps: int, inherited: int = 0) -> Node:
    cost = RunCost(1, 1, n_steps, 10 * n_steps, 10 * n_steps, Spent(step, step, inherited, inherited))
    return Node(base, step, cost)


def test_sharing_counts_every_base_once():
    nodes = {"a": node(None, 0, 100), "b": node("a", 50, 10, 500), "c": node("a", 100, 10, 1000), "d": node(None, 0, 5)}
    found = sharing(nodes, wanted=["b", "c", "d"])
    assert (found.n_bases, found.n_grown) == (1, 2)
    assert found.shared == 1000 + 100 + 100 + 50
    assert found.apart == (500 + 100) + (1000 + 100) + 50
    assert found.saved == pytest.approx(1 - 1250 / 1750)
    assert kept_steps(nodes) == {"a": [50]}
    assert lines(nodes) == ["a (100 steps)", "  step 50: b", "  step 100: c"]


def test_children_run_after_their_base_and_a_failed_base_takes_them_along(tmp_path):
    good, bad = grown(SMALL, 5, DEEP), grown(SMALL | {"seed": 1}, 5, DEEP | {"seed": 1})
    plan = a_plan(tmp_path, good, grown(good, 10, {"model.depth": 8}), bad, jobs=2)
    broken = next(run for run in plan.runs if run.cell.get("seed") == 1 and run.base is None)
    broken.folder.mkdir(parents=True)
    (broken.folder / "run.json").mkdir()  # which no run can write
    launched = local(plan, TRAINER, Console(quiet=True))
    states = {outcome.run.run_id: outcome for outcome in launched.outcomes}
    assert [states[run.run_id].state for run in plan.runs[:3]] == ["finished"] * 3
    orphan = next(run for run in plan.runs if run.base == broken.run_id)
    assert states[orphan.run_id].problem == f"its base {broken.run_id[:8]} has not ended"
    assert not orphan.folder.exists()
    order = [outcome.run.run_id for outcome in launched.outcomes]
    assert order.index(plan.runs[0].run_id) < order.index(plan.runs[1].run_id) < order.index(plan.runs[2].run_id)


def test_a_finished_base_without_the_checkpoint_is_run_again_for_it(tmp_path):
    local(a_plan(tmp_path, SMALL), TRAINER, Console(quiet=True))
    plan = a_plan(tmp_path, grown(SMALL, 5, DEEP))
    base, child = plan.runs
    assert base.state == "lacks checkpoint"
    before = read_run(base.folder)
    local(plan, TRAINER, Console(quiet=True))
    assert read_run(base.folder) == before
    assert (read_run(child.folder) or {})["state"] == "finished"
    assert [run.state for run in a_plan(tmp_path, grown(SMALL, 5, DEEP)).runs] == ["finished"] * 2
    shutil.rmtree(base.folder / "kept")
    assert checkpoint_at(base.folder, 5) is None
    assert a_plan(tmp_path, grown(SMALL, 5, DEEP)).runs[0].state == "lacks checkpoint"


def test_a_base_that_diverged_before_the_step_is_not_run_again(tmp_path):
    plan = a_plan(tmp_path, grown(SMALL, 5, DEEP))
    folder = plan.runs[0].folder
    folder.mkdir(parents=True)
    record = {"run_id": folder.name, "state": "diverged", "diverged_at_step": 3, "seconds": 1.0}
    write_run(folder, record)
    assert a_plan(tmp_path, grown(SMALL, 5, DEEP)).runs[0].state == "diverged"


def test_grown_takes_the_bases_settings_but_not_its_growth():
    once = grown(SMALL | {"optim.lr": 0.01}, 3, DEEP | {"grow.depth": "zero"})
    again = grown(once, 4, {"model.depth": 8})
    assert again["optim.lr"] == 0.01
    assert "grow.depth" not in again
    assert json.loads(str(again["grow.base"]))["grow.depth"] == "zero"

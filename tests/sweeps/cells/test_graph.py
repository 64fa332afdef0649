"""The graph of runs: bases come first, are shared, and keep what others start from."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import Any

import pytest
from rich.console import Console

from conf.schema import UserError
from sweeps.__main__ import main
from sweeps.cells.graph import Node, grown, lines, sharing
from sweeps.cells.study import Study
from sweeps.engines.base import TRAINER
from sweeps.engines.local import local
from sweeps.engines.machine import this_machine
from sweeps.plan.cost import run_seconds
from sweeps.plan.plan import make_plan
from tests.helpers import EXPLODING
from train.__main__ import main as train
from train.record.checkpoints import checkpoint_at, step_name
from train.record.manifest import Manifest
from train.record.run import locked, read_run, write_run
from train.timetable.cost import RunCost, Spent

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
    return Study(name="fake/graph", claim="A graph.", cells=lambda profile: cells)  # noqa: ARG005


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
    assert "train.keep='5,10,20'" in base.overrides
    assert base.run_id not in plan.wanted
    assert [run.cost.inherited.tokens for run in rest] == [step * 8 * 16 for step in (5, 10, 20)]
    assert rest[0].cell.base == base.run_id
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
    total = sum(run.seconds for run in plan.runs)
    assert list(plan.seconds_behind) == [run.run_id for run in plan.runs]
    assert plan.seconds_behind[plan.runs[0].run_id] == pytest.approx(total)
    assert plan.seconds_left == pytest.approx(total)  # however many cores, one after the other


def test_a_base_must_be_a_cell_or_a_run_that_is_there(tmp_path):
    for base, words in (("0123456789abcdef", "is no run under"), ("[1]", "as JSON, or the id of a run")):
        with pytest.raises(UserError, match=rf"grow\.base: .* {words}"):
            a_plan(tmp_path, SMALL | {"grow.base": base, "grow.step": 3})


def test_a_run_that_is_there_can_be_the_base_of_a_sweep(tmp_path, capsys):
    """By its id or its folder; it is linked, makes up for the checkpoint, and is not trained again."""
    small = [f"{key}={value}" for key, value in SMALL.items()]
    where = [f"runtime.runs_dir={tmp_path}/runs", f"runtime.cache_dir={tmp_path}/cache", "runtime.device=cpu"]
    assert train([*small, *where, "runtime.threads=1", "study=mine"]) == 0
    (folder,) = (tmp_path / "runs" / "mine").glob("*")
    record = read_run(folder)
    grow = {"grow.step": 7, **SMALL, **DEEP}
    cells = [{"grow.base": folder.name, **grow}, {"grow.base": f"{folder}/", **grow, "grow.depth": "zero"}]
    file = tmp_path / "cells.json"
    file.write_text(json.dumps({"study": "planned/mine", "cells": cells}))
    set_cache = ["--set", f"runtime.cache_dir={tmp_path}/cache"]
    capsys.readouterr()
    assert main(["plan", "--cells", str(file), "--profile", "cpu", "--runs-dir", f"{tmp_path}/runs", *set_cache]) == 0
    assert "1 of these have ended in another study, and will only be linked" in capsys.readouterr().out
    assert main(["run", "--cells", str(file), "--profile", "cpu", "--runs-dir", f"{tmp_path}/runs", *set_cache]) == 0
    assert "1 run linked: another study has them already" in capsys.readouterr().out
    assert read_run(folder) == record
    assert checkpoint_at(folder, 7) is not None
    assert (tmp_path / "runs" / "planned" / "mine" / folder.name).is_symlink()
    capsys.readouterr()
    assert main(["plan", "--cells", str(file), "--profile", "cpu", "--runs-dir", f"{tmp_path}/runs", *set_cache]) == 0
    assert "data.vocab" not in capsys.readouterr().out, "the base's cell tells what is not the default"
    for base, words in (
        (f"/elsewhere/{folder.name}", "is no run under"),
        (f"{tmp_path}/runs/other/{folder.name}", "is no run under"),
    ):
        with pytest.raises(UserError, match=words):
            a_plan(tmp_path, {"grow.base": base, **grow})
    write_run(folder, record | {"state": "running"})
    with pytest.raises(UserError, match="has not ended; allowed: a run that has"):
        a_plan(tmp_path, {"grow.base": folder.name, **grow})
    write_run(folder, record)
    by_hand = a_plan(tmp_path, grown(SMALL, 7, DEEP))
    assert by_hand.runs[0].run_id == folder.name
    assert (tmp_path / "runs" / "planned" / "mine" / by_hand.runs[1].run_id / "run.json").exists()


def node(base: str | None, step: int, n_steps: int, inherited: int = 0, *what: Any) -> Node:
    """Of 10 FLOPs a step; `what` is seed and settings."""
    cost = RunCost(1, 1, n_steps, 10 * n_steps, 10 * n_steps, Spent(step, step, inherited, inherited))
    return Node(base, step, cost, *what)


def test_sharing_counts_every_base_once():
    nodes = {"a": node(None, 0, 100), "b": node("a", 50, 10, 500), "c": node("a", 100, 10, 1000), "d": node(None, 0, 5)}
    found = sharing(nodes, wanted=["b", "c", "d"])
    assert (found.n_bases, found.n_grown) == (1, 2)
    assert found.spent == 1000 + 100 + 100 + 50
    assert found.unused == 0
    assert found.apart == (500 + 100) + (1000 + 100) + 50
    assert found.saved == pytest.approx(1 - 1250 / 1750)


def test_trees_that_differ_by_seed_alone_are_drawn_once():
    def trees(**settings):
        nodes = {}
        for seed in range(3):
            own = ((("optim.lr", settings.get(f"lr{seed}", 0.1)),),)
            nodes |= {
                f"a{seed}": node(None, 0, 100, 0, seed, *own),
                f"b{seed}": node(f"a{seed}", 50, 10, 500, seed),
                f"c{seed}": node(f"a{seed}", 100, 10, 1000, seed),
                f"d{seed}": node(f"c{seed}", 10, 10, 1000, seed),
            }
        return lines(nodes)

    one = ["    50: b0", "    100: c0", "        10: d0"]
    assert trees() == ["a0 (100 steps; seeds 0, 1, 2)", *one]
    two = trees(lr1=0.2)
    assert two[0] == "a0 (100 steps; seeds 0, 2)"
    assert two[4] == "a1 (100 steps)"


def test_children_run_after_their_base_and_a_failed_base_takes_them_along(tmp_path):
    good, bad = grown(SMALL, 5, DEEP), grown(SMALL | {"seed": 1}, 5, DEEP | {"seed": 1})
    plan = a_plan(tmp_path, good, grown(good, 10, {"model.depth": 8}), bad, capacity=partial(this_machine, jobs=2))
    broken = next(run for run in plan.runs if run.cell.settings.get("seed") == 1 and run.base is None)
    broken.folder.mkdir(parents=True)
    (broken.folder / "run.json").mkdir()  # which no run can write
    launch = local(plan, TRAINER, Console(quiet=True))
    states = {outcome.run.run_id: outcome for outcome in launch.ended}
    assert [states[run.run_id].state for run in plan.runs[:3]] == ["finished"] * 3
    orphan = next(run for run in plan.runs if run.base == broken.run_id)
    assert states[orphan.run_id].problem == f"its base {broken.run_id[:8]} has not ended"
    assert not orphan.folder.exists()
    order = [outcome.run.run_id for outcome in launch.ended]
    assert order.index(plan.runs[0].run_id) < order.index(plan.runs[1].run_id) < order.index(plan.runs[2].run_id)


def test_what_a_failed_base_keeps_from_beginning_does_not_hold_up_the_analysis(tmp_path, capsys):
    late = grown(SMALL | {"seed": 1}, 5, DEEP)
    study = a_study(SMALL, late, grown(late, 5, {"model.depth": 8}))
    where = ["--runs-dir", str(tmp_path / "runs"), "--profile", "smoke", "--set", f"runtime.cache_dir={tmp_path}/cache"]
    broken = a_plan(tmp_path, late).runs[0]
    broken.folder.mkdir(parents=True)
    (broken.folder / "run.json").mkdir()  # which no run can write
    assert main(["run", study.name, *where], studies={study.name: study}) == 1
    assert "2 runs among them that a failed base kept from beginning" in capsys.readouterr().out
    plan = a_plan(tmp_path, SMALL, late, grown(late, 5, {"model.depth": 8}))
    left = Manifest.read(tmp_path / "runs", study.name, "smoke").run_ids
    assert left == tuple(run.run_id for run in plan.runs if run.base is None)
    (broken.folder / "run.json").rmdir()
    assert main(["run", study.name, *where], studies={study.name: study}) == 0
    assert Manifest.read(tmp_path / "runs", study.name, "smoke") == plan.manifest


def test_a_base_that_cannot_make_up_for_a_checkpoint_keeps_them_from_beginning_too(tmp_path, capsys):
    child = grown(SMALL, 5, DEEP)
    study = a_study(SMALL, child, grown(child, 5, {"model.depth": 8}))
    where = ["--runs-dir", str(tmp_path / "runs"), "--profile", "smoke", "--set", f"runtime.cache_dir={tmp_path}/cache"]
    local(a_plan(tmp_path, SMALL), TRAINER, Console(quiet=True))
    base = a_plan(tmp_path, SMALL).runs[0]
    rows = (base.folder / "metrics.jsonl").read_text()
    (base.folder / "metrics.jsonl").write_text(rows.replace('"train_loss": ', '"train_loss": 1'))
    assert main(["run", study.name, *where], studies={study.name: study}) == 1
    assert "3 runs failed" in capsys.readouterr().out
    assert Manifest.read(tmp_path / "runs", study.name, "smoke").run_ids == (base.run_id,)


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
    assert a_plan(tmp_path, grown(SMALL, 5, DEEP)).missing == []  # nobody needs it
    base, done, new = a_plan(tmp_path, grown(SMALL, 5, DEEP), grown(SMALL, 10, DEEP)).runs
    assert [base.state, done.state, new.state] == ["lacks checkpoint", "finished", "planned"]
    assert "train.keep='10'" in base.overrides  # and not that of the run that is finished
    assert (base.until, base.cost.n_steps) == (10, 20)
    assert base.seconds < run_seconds(base.config, base.cost, plan.capacity.speed)


def test_the_last_checkpoint_of_a_base_is_made_again_too(tmp_path):
    local(a_plan(tmp_path, SMALL), TRAINER, Console(quiet=True))
    (base,) = a_plan(tmp_path, SMALL).runs
    last = grown(SMALL, 20, DEEP)
    assert [run.state for run in a_plan(tmp_path, last).runs] == ["finished", "planned"]  # `checkpoint/` will do
    shutil.rmtree(base.folder / "checkpoint")
    plan = a_plan(tmp_path, last)
    assert [run.state for run in plan.runs] == ["lacks checkpoint", "planned"]
    local(plan, TRAINER, Console(quiet=True))
    assert a_plan(tmp_path, last).missing == []


def test_a_run_under_way_gives_nobody_its_own_checkpoint(tmp_path):
    """It deletes it when it saves the next one."""
    kept, last = (tmp_path / name / step_name(5) for name in ("kept", "checkpoint"))
    last.mkdir(parents=True)
    for state, usable in (("running", False), ("failed", False), ("finished", True), ("diverged", True)):
        write_run(tmp_path, ANYTHING | {"state": state})
        assert checkpoint_at(tmp_path, 5) == (last if usable else None)
    kept.mkdir(parents=True)
    write_run(tmp_path, ANYTHING | {"state": "running"})
    assert checkpoint_at(tmp_path, 5) == kept


def test_a_base_that_another_process_runs_is_waited_for_by_its_children_alone(tmp_path):
    child = grown(SMALL, 5, DEEP)
    plan = a_plan(tmp_path, child, grown(child, 5, {"model.depth": 8}), SMALL | {"seed": 1})
    base, first, second, other = plan.runs
    with locked(base.folder):
        write_run(base.folder, ANYTHING | {"run_id": base.run_id, "state": "running"})
        plan = a_plan(tmp_path, child, grown(child, 5, {"model.depth": 8}), SMALL | {"seed": 1})
        assert [run.state for run in plan.runs] == ["running", "planned", "planned", "planned"]
        outcomes = {outcome.run.run_id: outcome for outcome in local(plan, TRAINER, Console(quiet=True)).ended}
    assert outcomes[first.run_id].problem == f"its base {base.run_id[:8]} is run by another process"
    assert outcomes[second.run_id].problem == f"its base {first.run_id[:8]} has not ended"
    assert outcomes[other.run_id].state == "finished"
    assert not first.folder.exists()


# --- bases that diverge ----------------------------------------------------------------------------------

ANYTHING = {"run_id": "x", "val_loss": 1.0, "val_loss_se": 0.1, "seconds": 1.0, "diverged_at_step": 8, "error": "it"}
WILD = SMALL | EXPLODING
TAME = DEEP | {"train.diverged_above": 3.0}


def test_a_base_that_diverged_leaves_its_later_children_out(tmp_path):
    late = grown(SMALL, 8, DEEP)
    cells = [grown(SMALL, 7, DEEP), late, grown(late, 5, {"model.depth": 8})]
    base = a_plan(tmp_path, *cells).runs[0]
    base.folder.mkdir(parents=True)
    write_run(base.folder, ANYTHING | {"state": "diverged"})
    plan = a_plan(tmp_path, *cells)
    assert [run.state for run in plan.runs] == ["lacks checkpoint", "planned", "base diverged", "base diverged"]
    assert [run.run_id for run in plan.missing] == list(plan.manifest.run_ids) == [run.run_id for run in plan.runs[:2]]
    assert "train.keep='7'" in plan.runs[0].overrides


def test_a_sweep_ends_well_though_a_base_diverged(tmp_path, capsys):
    late = grown(WILD, 18, TAME)
    study = a_study(late, grown(late, 5, {"model.depth": 8}), SMALL)
    where = ["--runs-dir", str(tmp_path / "runs"), "--profile", "smoke", "--set", f"runtime.cache_dir={tmp_path}/cache"]

    def sweeps(command):
        status = main([command, study.name, *where], studies={study.name: study})
        return status, capsys.readouterr().out

    for _ in range(2):
        status, said = sweeps("run")
        assert (status, "failed" in said) == (0, False)
        assert "4 runs: 2 done, 2 whose base diverged, 0 to start" in said
    manifest = Manifest.read(tmp_path / "runs", study.name, "smoke")
    states = [read_run(tmp_path / "runs" / study.name / name)["state"] for name in manifest.run_ids]
    assert states == ["diverged", "finished"]
    status = sweeps("status")[1]
    assert status.count("base diverged") == 2
    assert "at step 1, exploded: " in " ".join(status.split())
    assert sweeps("plan")[1].count("base diverged") == 3  # two rows and the sum


# --- what a plan refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.depth": 5}, "model.depth: 5 is no multiple"),
        ({"model.depth": 1}, "model.depth: 1 is less"),
        ({"model.norm": "layernorm"}, "model.norm"),
        ({"grow.width": "learn"}, "grow.width: 'learn' has nothing to learn"),
        ({"grow.depth": "templates"}, "grow.depth: 'templates' is not allowed"),
        ({"seed": 1}, "seed: 1 is not the base's"),
        ({"data.context": 20}, "data.context: 20 is not the base's"),
        ({"data.n_tokens": 30000}, "data.n_tokens: 30000 is not the base's"),
        ({"grow.depth": "random", "grow.ramp": "200steps"}, "grow.ramp: '200steps' is 200 of the run's"),
        ({"schedule.warmup": "200steps"}, "schedule.warmup: '200steps' is 200 of"),
        (
            {"schedule": "wsd", "schedule.cooldown": "12steps", "grow.schedule": "continue"},
            "schedule.cooldown: '12steps' is 12 steps, of which this run makes only",
        ),
    ],
)
def test_what_cannot_grow_is_seen_before_the_base_is_trained(tmp_path, capsys, settings, words):
    a_plan(tmp_path, grown(SMALL, 5, DEEP))  # is possible
    study = a_study(grown(SMALL, 5, DEEP | settings))
    argv = ["run", study.name, "--runs-dir", str(tmp_path / "runs"), "--profile", "smoke"]
    assert main(argv, studies={study.name: study}) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words}")
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_step_in_the_ramp_of_the_base_is_seen_too(tmp_path):
    ramped = grown(SMALL, 5, DEEP | {"grow.depth": "random", "grow.ramp": "8steps"})
    a_plan(tmp_path, grown(ramped, 8))
    with pytest.raises(UserError, match=r"grow\.step: 7 lies in the base's grow\.ramp"):
        a_plan(tmp_path, grown(ramped, 7))


# --- what it costs ---------------------------------------------------------------------------------------


def test_the_tuning_of_a_learned_growth_is_in_every_price(tmp_path):
    few, many = (
        a_plan(tmp_path, grown(SMALL, 5, DEEP | {"grow.depth": "learn", "grow.learn_steps": steps})).runs[1]
        for steps in (10, 200)
    )
    assert few.cost.flops == many.cost.flops
    assert many.cost.executed.flops == many.cost.flops + many.cost.tuning.flops > 5 * few.cost.executed.flops
    assert many.cost.spent(10) == many.cost.inherited + many.cost.executed
    plan = a_plan(tmp_path, SMALL)
    assert many.seconds - few.seconds > 190 * plan.capacity.speed.step_seconds
    found = sharing({"a": Node(None, 0, plan.runs[0].cost), "b": Node("a", 5, many.cost)}, wanted=["b"])
    assert found.spent - found.unused == found.apart == plan.runs[0].cost.flops // 4 + many.cost.executed.flops


def test_a_base_is_charged_up_to_the_last_step_that_is_used(tmp_path, capsys):
    nodes = {"a": node(None, 0, 100), "b": node("a", 50, 10, 500), "c": node("a", 20, 10, 200)}
    found = sharing(nodes, wanted=["b", "c"])
    assert (found.spent, found.unused, found.apart) == (1000 + 100 + 100, 500, 600 + 300)
    assert found.saved == 1 - 1200 / 900  # the base goes on for others
    whole = sharing(nodes, wanted=["a", "b", "c"])
    assert (whole.spent, whole.unused, whole.apart) == (1000 + 100 + 100, 0, 1000 + 600 + 300)

    for cells, goes_on in (([grown(SMALL, 5, DEEP)], True), ([SMALL, grown(SMALL, 5, DEEP)], False)):
        study = a_study(*cells)
        argv = ["plan", study.name, "--runs-dir", str(tmp_path / "runs"), "--profile", "smoke"]
        assert main(argv, studies={study.name: study}) == 0
        said = capsys.readouterr().out
        assert ("if every run made its own way; this takes" in said) == goes_on
        assert ("of the bases" in said) == goes_on
        assert ("; sharing saves" in said) != goes_on


def test_grown_takes_the_bases_settings_but_not_its_growth():
    once = grown(SMALL | {"optim.lr": 0.01}, 3, DEEP | {"grow.depth": "zero"})
    again = grown(once, 4, {"model.depth": 8})
    assert again.settings["optim.lr"] == 0.01
    assert "grow.depth" not in again.settings
    assert again.base == once
    assert once.settings["grow.depth"] == "zero"

"""What a plan promises: each run once, ids that depend on what is measured only, and an honest price."""

from __future__ import annotations

from functools import partial

import pytest

from conf.schema import UserError
from sweeps.cells.study import Study
from sweeps.engines import machine
from sweeps.engines.machine import this_machine
from sweeps.plan.capacity import one_at_a_time
from sweeps.plan.plan import make_plan
from sweeps.studies.registry import MODULES, STUDIES
from train.record.manifest import PROFILES
from train.record.run import locked, write_run


def a_study(*cells):
    return Study("fake/plan", "A plan.", lambda profile: [dict(cell) for cell in cells])  # noqa: ARG005


def ids(plan):
    return [run.run_id for run in plan.runs]


ENDS = {
    "failed": {"error": "it broke"},
    "diverged": {"diverged_at_step": 3, "seconds": 7.0},
    "finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0},
}
ONE = {"model.width": 32, "model.heads": 2, "train.duration": "10steps"}


def test_ids_depend_on_what_is_measured_only(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    study = a_study(ONE, ONE | {"seed": 1})
    plain = ids(make_plan(study, "cpu", runs_dir=tmp_path))
    assert plain == ids(
        make_plan(study, "cpu", runs_dir=tmp_path / "elsewhere", capacity=partial(this_machine, jobs=1))
    )
    eight = partial(this_machine, jobs=8)
    assert plain == ids(make_plan(study, "smoke", runs_dir=tmp_path, extra=["runtime.cache_dir=/x"], capacity=eight))
    assert plain != ids(make_plan(a_study(ONE | {"optim.lr": 0.5}), "cpu", runs_dir=tmp_path))


def test_cells_of_the_same_run_are_one_run(tmp_path):
    plan = make_plan(a_study(ONE, ONE | {"optim.beta1": 0.9}, ONE | {"seed": 1}), "smoke", runs_dir=tmp_path)
    assert (plan.n_cells, len(plan.runs)) == (3, 2)
    assert len(set(ids(plan))) == 2
    assert plan.manifest.run_ids == tuple(ids(plan))


def test_the_varied_keys_tell_the_runs_apart(tmp_path):
    plan = make_plan(a_study(ONE, ONE | {"seed": 1, "optim.lr": 0.1}), "smoke", runs_dir=tmp_path)
    assert plan.varied == ["seed", "optim.lr"]
    plan = make_plan(a_study(ONE, ONE | {"optim.clip": None}), "smoke", runs_dir=tmp_path)
    assert plan.varied == ["optim.clip"]  # null is a value


def test_an_extra_setting_wins_over_the_cell(tmp_path):
    study = a_study({"eval.batch_size": 8})
    plan = make_plan(study, "smoke", runs_dir=tmp_path, extra=["eval.batch_size=4"])
    assert plan.runs[0].config.eval.batch_size == 4


@pytest.mark.parametrize("extra", ["optim.lr=0.1", "model=gpt_10k", "seed=1"])
def test_an_extra_setting_cannot_make_another_study(tmp_path, extra):
    with pytest.raises(UserError, match="another study"):
        make_plan(a_study(ONE), "smoke", runs_dir=tmp_path, extra=[extra])


@pytest.mark.parametrize("key", ["study=a", "runtime.runs_dir=a", "runtime.threads=1"])
def test_what_the_sweep_sets_itself_is_refused(tmp_path, key):
    with pytest.raises(UserError, match=key.partition("=")[0]):
        make_plan(a_study(ONE), "smoke", runs_dir=tmp_path, extra=[key])


def test_a_folder_tells_the_state(tmp_path):
    def state():
        return make_plan(a_study(ONE), "smoke", runs_dir=tmp_path).runs[0].state

    folder = make_plan(a_study(ONE), "smoke", runs_dir=tmp_path).runs[0].folder
    assert state() == "planned"
    with locked(folder):
        assert state() == "running"
        write_run(folder, {"run_id": "x", "state": "running"})
        assert state() == "running"
    assert state() == "interrupted"
    for said, how in ENDS.items():
        write_run(folder, {"run_id": "x", "state": said, **how})
        assert state() == said


@pytest.mark.parametrize("content", ["{", "{}", '{"record_version": 1, "state": "finished", "run_id": "x"}'])
def test_a_record_that_cannot_be_read_fails_its_run_alone(tmp_path, content):
    study = a_study(ONE, ONE | {"seed": 1})
    first, _ = make_plan(study, "smoke", runs_dir=tmp_path).runs
    first.folder.mkdir(parents=True)
    (first.folder / "run.json").write_text(content)
    broken, whole = make_plan(study, "smoke", runs_dir=tmp_path).runs
    assert (broken.state, whole.state) == ("failed", "planned")
    assert "delete the folder" in broken.problem


def test_a_finished_run_costs_what_it_took_and_is_not_missing(tmp_path):
    study = a_study(ONE, ONE | {"seed": 1})
    before = make_plan(study, "smoke", runs_dir=tmp_path)
    before.runs[0].folder.mkdir(parents=True)
    write_run(before.runs[0].folder, {"run_id": "x", "state": "finished", **ENDS["finished"], "seconds": 1234.5})
    after = make_plan(study, "smoke", runs_dir=tmp_path)
    assert after.runs[0].seconds == 1234.5
    assert [run.run_id for run in before.missing] == ids(before)
    assert [run.run_id for run in after.missing] == ids(before)[1:]


def test_a_plan_measures_no_machine_and_asks_once_for_what_is_missing(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(machine, "core_rate", refuse)
    monkeypatch.setattr(machine, "usable_cores", refuse)
    asked = []

    def offer(n_runs, device):
        asked.append((n_runs, device))
        return one_at_a_time(n_runs, device)

    study = a_study(ONE, ONE | {"seed": 1})
    plan = make_plan(study, "smoke", runs_dir=tmp_path, capacity=offer)
    assert plan == make_plan(study, "smoke", runs_dir=tmp_path)
    plan.runs[0].folder.mkdir(parents=True)
    write_run(plan.runs[0].folder, {"run_id": "x", "state": "finished", **ENDS["finished"]})
    for profile in ("smoke", "gpu"):
        make_plan(study, profile, runs_dir=tmp_path, capacity=offer)
    assert asked == [(2, "cpu"), (1, "cpu"), (2, "cuda")]  # on a GPU they are other runs
    with pytest.raises(AssertionError, match="measured"):
        make_plan(study, "smoke", runs_dir=tmp_path, capacity=this_machine)


def test_more_work_is_estimated_to_take_longer(tmp_path):
    short, long = make_plan(a_study(ONE, ONE | {"train.duration": "100steps"}), "smoke", runs_dir=tmp_path).runs
    assert short.seconds < long.seconds


def test_every_study_is_registered_once():
    assert len(STUDIES) == sum(len(module.STUDIES) for module in MODULES)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_composes_and_keeps_to_its_time(name, profile, tmp_path):
    plan = make_plan(STUDIES[name], profile, runs_dir=tmp_path)
    assert len(plan.wanted) == plan.n_cells > 0
    device = {run.config.runtime.device for run in plan.runs}
    assert device == {"cuda" if profile == "gpu" else "cpu"}
    if profile == "smoke":
        assert all(run.cost.n_steps <= 50 for run in plan.runs)

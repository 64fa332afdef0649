"""What a plan promises: each run once, ids that depend on what is measured only, and an honest price."""

from __future__ import annotations

import pytest

from conf.schema import UserError
from sweeps.cells.study import Study
from sweeps.plan import plan as plan_module
from sweeps.plan.cost import makespan
from sweeps.plan.machine import core_rate, share_cores, speed
from sweeps.plan.plan import make_plan
from sweeps.studies.find import find_study, studies
from train.record.manifest import PROFILES
from train.record.run import locked, write_run


def a_study(*cells):
    return Study(name="fake/plan", claim="A plan.", cells=lambda profile: [dict(cell) for cell in cells])  # noqa: ARG005


def ids(plan):
    return [run.run_id for run in plan.runs]


ENDS = {
    "failed": {"error": "it broke"},
    "diverged": {"diverged_at_step": 3, "seconds": 7.0},
    "finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0},
}
ONE = {"model.width": 32, "model.heads": 2, "train.duration": "10steps"}


def test_ids_depend_on_what_is_measured_only(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 8)
    study = a_study(ONE, ONE | {"seed": 1})
    plain = ids(make_plan(study, "cpu", runs_dir=tmp_path))
    assert plain == ids(make_plan(study, "cpu", runs_dir=tmp_path / "elsewhere", jobs=1))
    assert plain == ids(make_plan(study, "smoke", runs_dir=tmp_path, extra=["runtime.cache_dir=/x"], jobs=8))
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


def test_a_gpu_that_is_not_here_is_planned_with_the_cores_of_a_machine_that_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "usable_cores", lambda: 2)
    study = a_study(*(ONE | {"seed": seed} for seed in range(20)))
    for here, jobs in ((False, plan_module.GPU_JOBS), (True, 2)):
        monkeypatch.setattr(plan_module, "has_gpu", lambda here=here: here)
        assert make_plan(study, "gpu", runs_dir=tmp_path).jobs == jobs
        assert make_plan(study, "cpu", runs_dir=tmp_path).jobs == 2


@pytest.mark.parametrize("cores", [1, 2, 5, 16])
@pytest.mark.parametrize("n_runs", [0, 1, 3, 100])
def test_jobs_times_threads_never_exceed_the_cores(n_runs, cores):
    for asked in (None, *range(1, cores + 1)):
        jobs, threads = share_cores(n_runs, jobs=asked, cores=cores)
        assert threads >= 1
        assert 1 <= jobs * threads <= cores
        assert jobs <= max(1, n_runs)
    for bad in (0, -1, cores + 1):
        with pytest.raises(UserError, match="--jobs"):
            share_cores(n_runs, jobs=bad, cores=cores)


def test_more_work_is_estimated_to_take_longer(tmp_path):
    short, long = make_plan(a_study(ONE, ONE | {"train.duration": "100steps"}), "smoke", runs_dir=tmp_path).runs
    assert short.seconds < long.seconds
    assert speed("cuda", jobs=2, threads=1).flops_per_second < speed("cuda", jobs=1, threads=1).flops_per_second


def test_the_matmul_rate_is_one_of_a_real_machine():
    assert 1e8 < core_rate() < 1e13


def test_makespan():
    assert makespan([], 2) == 0
    assert makespan([1, 1, 1, 3], 1) == 6
    assert makespan([1, 1, 1, 3], 2) == 3  # and not 4, as in the order given


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", studies())
def test_every_study_composes_and_keeps_to_its_time(name, profile, tmp_path):
    plan = make_plan(find_study(name), profile, runs_dir=tmp_path)
    assert len(plan.wanted) == plan.n_cells > 0
    device = {run.config.runtime.device for run in plan.runs}
    assert device == {"cuda" if profile == "gpu" else "cpu"}
    if profile == "smoke":
        assert all(run.cost.n_steps <= 50 for run in plan.runs)

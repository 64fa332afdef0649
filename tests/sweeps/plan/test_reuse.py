"""A run that another study has already is linked: same id, same folder, nothing trained twice."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from sweeps.__main__ import main
from sweeps.cells.study import Study
from sweeps.plan.plan import make_plan
from sweeps.plan.reuse import adopt
from tests.sweeps import fake_train
from train.record.manifest import find_runs
from train.record.run import write_run

ONE = {"model.width": 32, "model.heads": 2, "train.duration": "10steps"}
TWO = ONE | {"seed": 1}


def plan_of(name, cells, tmp_path):
    return make_plan(Study(name=name, claim="A study.", cells=lambda _: cells), "smoke", runs_dir=tmp_path)


def end(run, state="finished"):
    run.folder.mkdir(parents=True)
    ends = {"finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0}, "failed": {"error": "it broke"}}
    write_run(run.folder, {"run_id": run.run_id, "state": state, **ends[state]})


def test_a_run_that_has_ended_elsewhere_is_linked(tmp_path):
    first = plan_of("paper/one", [ONE], tmp_path)
    end(first.runs[0])
    assert adopt(plan_of("paper/two", [ONE, TWO], tmp_path), tmp_path) == 1
    shared, own = plan_of("paper/two", [ONE, TWO], tmp_path).runs
    assert (shared.state, own.state) == ("finished", "planned")
    assert shared.folder.resolve() == first.runs[0].folder.resolve()
    assert adopt(plan_of("paper/two", [ONE, TWO], tmp_path), tmp_path) == 0


@pytest.mark.parametrize("state", ["failed", None])
def test_a_run_that_has_not_ended_is_not(tmp_path, state):
    first = plan_of("paper/one", [ONE], tmp_path)
    if state is not None:
        end(first.runs[0], state)
    assert adopt(plan_of("paper/two", [ONE], tmp_path), tmp_path) == 0


def test_what_has_begun_here_is_not_replaced(tmp_path):
    end(plan_of("paper/one", [ONE], tmp_path).runs[0])
    mine = plan_of("paper/two", [ONE], tmp_path).runs[0]
    mine.folder.mkdir(parents=True)
    (mine.folder / "log.txt").write_text("half way")
    assert adopt(plan_of("paper/two", [ONE], tmp_path), tmp_path) == 0
    assert (mine.folder / "log.txt").exists()


def test_a_link_to_nowhere_goes(tmp_path):
    first = plan_of("paper/one", [ONE], tmp_path)
    end(first.runs[0])
    adopt(plan_of("paper/two", [ONE], tmp_path), tmp_path)
    shutil.rmtree(first.runs[0].folder)
    again = plan_of("paper/two", [ONE], tmp_path)
    assert again.runs[0].state == "planned"
    assert adopt(again, tmp_path) == 0
    assert not again.runs[0].folder.is_symlink()


def test_a_linked_run_is_found_once_and_from_either_study(tmp_path):
    end(plan_of("paper/one", [ONE], tmp_path).runs[0])
    adopt(plan_of("paper/two", [ONE], tmp_path), tmp_path)
    assert len(find_runs([tmp_path])) == 1
    assert len(find_runs([tmp_path / "paper" / "two"])) == 1


def test_a_sweep_trains_only_what_no_other_study_has(tmp_path, capsys):
    """Two studies that share a run: the second says so, trains its own and counts the shared one as done."""
    one, two = fake_train.study(fake_train.FINISH), fake_train.study(fake_train.FINISH, fake_train.DIVERGE)
    studies = {"fake/one": replace(one, name="fake/one"), "fake/two": replace(two, name="fake/two")}
    for name, started in (("fake/one", 1), ("fake/two", 1)):
        arguments = ["run", name, "--profile", "smoke", "--runs-dir", str(tmp_path)]
        assert main(arguments, studies=studies, trainer=fake_train.TRAINER) == 0
        out = capsys.readouterr().out
        assert f"{started} to start" in out
    assert "1 run linked" in out
    assert len(find_runs([tmp_path])) == 2

"""Which run comes next, what becomes of one whose base failed, and what children are given."""

from __future__ import annotations

import os

import pytest

from sweeps.cells.graph import grown
from sweeps.cells.study import Study
from sweeps.engines.base import LOG, Ended, child_environment, last_log_line, left_out_by, next_to_start
from sweeps.plan.plan import make_plan
from train.record.checkpoints import KEPT, step_name
from train.record.run import locked, write_run

ROOT = {"model.depth": 2, "model.width": 16, "model.heads": 2, "train.duration": "10steps"}
CHILD = grown(ROOT, 5, {"model.depth": 4})
GRANDCHILD = grown(CHILD, 5, {"model.depth": 8})
ENDS = {
    "finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0},
    "diverged": {"diverged_at_step": 3, "seconds": 7.0},
    "failed": {"error": "it broke"},
}


@pytest.fixture
def chain(tmp_path):
    study = Study(name="fake/chain", claim="A chain.", cells=lambda _: [GRANDCHILD])
    return make_plan(study, "smoke", runs_dir=tmp_path).runs


def test_a_run_waits_for_its_base_alone(chain):
    root, child, grandchild = chain
    assert [run.base for run in chain] == [None, root.run_id, child.run_id]
    assert next_to_start([grandchild, child, root], []) is root
    assert next_to_start([grandchild, child], [root]) is None
    assert next_to_start([grandchild, child], []) is child
    assert next_to_start([grandchild], []) is grandchild
    assert next_to_start([], [root]) is None
    assert next_to_start([root, root], []) is root


def test_runs_start_in_the_order_given_where_none_waits(chain):
    started, waiting = [], list(reversed(chain))
    while (run := next_to_start(waiting, [])) is not None:
        waiting.remove(run)
        started.append(run)
    assert (started, waiting) == (list(chain), [])


def test_a_run_can_start_from_scratch_or_where_the_checkpoint_is(chain):
    root, child, _ = chain
    assert left_out_by(root, []) is None
    assert left_out_by(child, []) is not None
    (root.folder / KEPT / step_name(5)).mkdir(parents=True)
    assert left_out_by(child, []) is None


@pytest.mark.parametrize(
    ("state", "why"),
    [(None, "has not ended"), ("failed", "has not ended"), ("finished", "keeps no checkpoint of step 5")],
)
def test_a_base_without_the_checkpoint_is_told_in_one_line(chain, state, why):
    root, child, _ = chain
    root.folder.mkdir(parents=True)
    if state is not None:
        write_run(root.folder, {"run_id": root.run_id, "state": state, **ENDS[state]})
    assert left_out_by(child, []) == Ended(child, "planned", f"its base {root.run_id[:8]} {why}")


def test_a_base_whose_record_is_damaged_has_not_ended(chain):
    root, child, _ = chain
    root.folder.mkdir(parents=True)
    (root.folder / "run.json").write_text("{")
    assert left_out_by(child, []) == Ended(child, "planned", f"its base {root.run_id[:8]} has not ended")


def test_a_base_that_runs_elsewhere_is_not_counted_as_failed(chain):
    root, child, _ = chain
    with locked(root.folder):
        end = left_out_by(child, [])
    assert end is not None
    assert "process" in end.problem


def test_a_base_that_diverged_before_the_step_takes_all_that_grows_out_of_it_along(chain):
    root, child, grandchild = chain
    root.folder.mkdir(parents=True)
    write_run(root.folder, {"run_id": root.run_id, "state": "diverged", **ENDS["diverged"]})
    lost = left_out_by(child, [])
    assert lost == Ended(child, "base diverged", None)
    assert left_out_by(grandchild, [lost]) == Ended(grandchild, "base diverged", None)
    assert left_out_by(grandchild, []).state == "planned"  # the control: nothing is known of its base
    write_run(root.folder, {"run_id": root.run_id, "state": "diverged", **ENDS["diverged"], "diverged_at_step": 6})
    assert left_out_by(child, []).state == "planned"  # it diverged later, and its checkpoint can be made up for


@pytest.mark.parametrize(
    ("text", "line"),
    [("", None), ("\n \n", None), ("one", "one"), ("one\n  two  \n\n", "two"), ("10%\r20%\n", "20%")],
)
def test_the_last_line_that_says_something(tmp_path, text, line):
    assert last_log_line(tmp_path) is None
    (tmp_path / LOG).write_bytes(text.encode())
    assert last_log_line(tmp_path) == line


def test_bytes_that_are_no_text_do_not_hide_the_line(tmp_path):
    (tmp_path / LOG).write_bytes(b"whole\n\xff odd\n")
    assert last_log_line(tmp_path) == "\ufffd odd"


def test_children_find_the_package_and_wait_without_spinning(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("PYTHONPATH", "before")
    given = child_environment()
    first, second = given["PYTHONPATH"].split(os.pathsep)
    assert os.path.isdir(os.path.join(first, "sweeps"))  # noqa: PTH112, PTH118
    assert (second, given["OMP_WAIT_POLICY"]) == ("before", "PASSIVE")
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert child_environment() == {"PYTHONPATH": first, "OMP_WAIT_POLICY": "ACTIVE"}

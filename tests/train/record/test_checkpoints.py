"""Where a checkpoint is, and from which of them another run may start."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.record.checkpoints import CHECKPOINT, KEPT, checkpoint_at, step_name
from train.record.run import write_run

ENDS = {
    "running": {},
    "failed": {"error": "odd"},
    "finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0},
    "diverged": {"diverged_at_step": 900, "seconds": 7.0},
}


def test_names_are_in_the_order_of_steps() -> None:
    steps = [0, 9, 10, 99, 100, 10**8, 10**9 - 1]
    assert sorted(map(step_name, reversed(steps))) == [step_name(step) for step in steps]
    assert sorted(["step-9", "step-10"]) == ["step-10", "step-9"]  # as they would be without zeros


@pytest.mark.parametrize("state", [None, *ENDS])
def test_what_is_kept_is_there_in_any_state_and_the_last_one_of_a_run_that_has_ended(
    tmp_path: Path, state: str | None
) -> None:
    if state is not None:
        write_run(tmp_path, {"run_id": "x", "state": state, **ENDS[state]})
    kept, last = tmp_path / KEPT / step_name(200), tmp_path / CHECKPOINT / step_name(300)
    assert checkpoint_at(tmp_path, 200) is None
    for folder in (kept, last):
        folder.mkdir(parents=True)
    assert checkpoint_at(tmp_path, 200) == kept
    assert checkpoint_at(tmp_path, 300) == (last if state in {"finished", "diverged"} else None)
    assert checkpoint_at(tmp_path, 250) is None
    (tmp_path / KEPT / step_name(300)).mkdir()
    assert checkpoint_at(tmp_path, 300) == tmp_path / KEPT / step_name(300)


def test_a_checkpoint_that_is_not_complete_is_none(tmp_path: Path) -> None:
    (tmp_path / KEPT / f".{step_name(200)}").mkdir(parents=True)
    (tmp_path / KEPT / step_name(100)).write_text("")
    assert checkpoint_at(tmp_path, 200) is checkpoint_at(tmp_path, 100) is None

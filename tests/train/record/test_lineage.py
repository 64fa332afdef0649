"""Where the run lies that another one grows out of."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.record.checkpoints import KEPT, step_name
from train.record.lineage import base_folder, folders_of, runs_dir_of

RUN = "0123456789abcdef"


def made(folder: Path, *steps: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    for step in steps:
        (folder / KEPT / step_name(step)).mkdir(parents=True)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    made(tmp_path / "runs" / "a" / "study" / RUN)
    made(tmp_path / "runs" / "b" / RUN, 200)
    made(tmp_path / "runs" / "b" / RUN[::-1], 200)
    return tmp_path / "runs"


def test_every_folder_of_a_run_and_no_other(runs: Path) -> None:
    a, b = runs / "a" / "study" / RUN, runs / "b" / RUN
    assert list(folders_of(RUN, below=runs)) == [a, b]
    assert next(folders_of(RUN, beside=[runs / "b"], below=runs)) == b
    assert list(folders_of("f" * 16, below=runs)) == []


def test_a_base_lies_where_the_step_is_kept(runs: Path) -> None:
    a, b = runs / "a" / "study" / RUN, runs / "b" / RUN
    assert base_folder(RUN, 200, beside=[a.parent], below=runs) == b
    assert base_folder(RUN, 100, beside=[a.parent], below=runs) == a  # as good as the other
    assert base_folder("f" * 16, 200, beside=[a.parent], below=runs) is None


def test_the_folder_of_all_runs_is_told_by_the_study(runs: Path) -> None:
    run = runs / "a" / "study" / RUN
    assert runs_dir_of(run, "a/study") == runs.resolve()
    assert runs_dir_of(run, "another") == run.parent.resolve()  # it was moved
    link = runs / "c" / RUN
    link.parent.mkdir()
    link.symlink_to(run)
    assert runs_dir_of(link, "a/study") == runs.resolve()

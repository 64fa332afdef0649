"""Manifests read back or say what is wrong, and every run below a folder is found once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.record.manifest import PROFILES, Manifest, find_runs
from train.record.run import RecordError

IDS = ("0123456789abcdef", "fedcba9876543210")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("ids", [(), IDS, IDS[::-1]], ids=str)
def test_a_manifest_reads_back_in_order(tmp_path: Path, profile: str, ids: tuple[str, ...]) -> None:
    manifest = Manifest("paper/figure", profile, ids)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path, "paper/figure", profile) == manifest
    assert Manifest.path(tmp_path, "paper/figure", profile) == tmp_path / "paper" / "figure" / f"{profile}.json"
    manifest.write(tmp_path)  # a folder that is there is no obstacle
    for other in set(PROFILES) - {profile}:
        with pytest.raises(RecordError, match=f"`python -m sweeps run paper/figure --profile {other}` first"):
            Manifest.read(tmp_path, "paper/figure", other)


@pytest.mark.parametrize("key", ["study", "profile", "run_ids"])
def test_a_manifest_that_lacks_anything_is_none(tmp_path: Path, key: str) -> None:
    Manifest("paper/figure", "cpu", IDS).write(tmp_path)
    path = Manifest.path(tmp_path, "paper/figure", "cpu")
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=f"not a study manifest .*{key}"):
        Manifest.read(tmp_path, "paper/figure", "cpu")


@pytest.mark.parametrize("content", ["", "{", "3", "[]", "null", '{"study": "a", "profile": "cpu", "run_ids": null}'])
def test_damage_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cpu.json").write_text(content)
    with pytest.raises(RecordError, match=r"^[^\n]*cpu\.json: not a study manifest [^\n]*$"):
        Manifest.read(tmp_path, "a", "cpu")


# --- the runs below a folder ------------------------------------------------------------------------------


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def link(place: Path, to: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(to, target_is_directory=True)
    return place


def test_runs_are_found_at_any_depth_in_order_and_once(tmp_path: Path) -> None:
    runs = [made(tmp_path / where) for where in ("a/1", "a/b/c/2", "z/0")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "cpu.json").write_text("{}")
    assert find_runs([tmp_path]) == runs
    assert find_runs([tmp_path / "z", tmp_path / "a", tmp_path]) == find_runs([tmp_path])
    assert find_runs([runs[1]]) == [runs[1]]  # a run's own folder
    assert find_runs([tmp_path / "empty", tmp_path / "nothing"]) == find_runs([]) == []


def test_nothing_within_a_run_is_another(tmp_path: Path) -> None:
    outer = made(tmp_path / "a")
    made(outer / "kept" / "b")
    assert find_runs([tmp_path]) == [outer]
    assert find_runs([outer / "kept"]) == [outer / "kept" / "b"]  # unless it is asked for


def test_a_linked_run_counts_once_wherever_the_walk_meets_it_first(tmp_path: Path) -> None:
    real = made(tmp_path / "m" / "1")
    before, after = link(tmp_path / "a" / "1", real), link(tmp_path / "z" / "1", real)
    assert len(find_runs([tmp_path])) == 1
    for study in (real.parent, before.parent, after.parent):
        assert find_runs([study]) == [study / "1"]  # each study has it
    assert find_runs([after.parent, before.parent]) == [after]
    made(tmp_path / "z" / "2")
    assert len(find_runs([tmp_path])) == 2


def test_a_link_to_a_study_is_followed_and_one_to_nowhere_is_not(tmp_path: Path) -> None:
    real = made(tmp_path / "real" / "1")
    study = link(tmp_path / "other" / "study", real.parent)
    link(tmp_path / "other" / "gone", tmp_path / "nowhere")
    assert find_runs([tmp_path / "other"]) == [study / "1"]


@pytest.mark.parametrize("content", [b"\xff", b'{"study": "a", "profile": "cpu", "run_ids": "abc"}', b"[]", b"3"])
def test_a_file_that_is_no_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cpu.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"cpu\.json: not a study manifest"):
        Manifest.read(tmp_path, "a", "cpu")

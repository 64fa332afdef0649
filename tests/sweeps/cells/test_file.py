"""A study from a file: its cells run, resume and are found by their manifest; a bad file runs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeps.__main__ import main
from sweeps.cells.file import read_study
from sweeps.cells.graph import grown
from sweeps.plan.plan import make_plan
from sweeps.studies.registry import STUDIES
from tests.sweeps.fake_train import FINISH, RAISE, TRAINER
from train.record.manifest import Manifest

GOOD = {
    "study": "planned/ends",
    "claim": "Two runs end.",
    "cells": [
        {"train.duration": "4steps", "model.width": 16, "model.heads": 2, "seed": FINISH},
        {"train.duration": "4steps", "model.width": 24, "model.heads": 3, "seed": FINISH},
    ],
    "expected": {"alpha": {"sd": 0.1}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(content: object) -> str:
    Path("plan.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return "plan.json"


def test_the_cells_of_a_file_are_planned_run_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["--cells", written(GOOD)]
    assert main(["plan", *cells]) == 0
    assert "2 runs: 0 done, 2 to start" in capsys.readouterr().out
    assert not (folder / "runs").exists()

    assert main(["run", *cells], trainer=TRAINER) == 0
    manifest = Manifest.read(folder / "runs", "planned/ends", "cpu")
    records = [folder / "runs/planned/ends" / name / "run.json" for name in manifest.run_ids]
    assert [json.loads(path.read_text())["state"] for path in records] == ["finished", "finished"]
    before = [path.stat().st_mtime_ns for path in records]
    assert main(["run", *cells], trainer=TRAINER) == 0
    assert before == [path.stat().st_mtime_ns for path in records]

    capsys.readouterr()
    assert main(["status", *cells]) == 0
    assert capsys.readouterr().out.count("finished") == 2


def test_a_base_is_an_object_or_text(folder: Path) -> None:
    """And comes to the cells that `sweeps.cells.graph.grown` makes, over any number of bases."""
    small = {"train.duration": "20steps", "model.width": 16, "model.heads": 2, "model.depth": 2}
    own = {"train.duration": "20steps", "model.width": 16, "model.heads": 2}
    once = grown(small, 5, {"model.depth": 4})
    twice = grown(once, 8, {"model.depth": 8})
    first = own | {"grow.base": small, "grow.step": 5, "model.depth": 4}
    second = own | {"grow.base": first, "grow.step": 8, "model.depth": 8}
    study = read_study(
        Path(written(GOOD | {"cells": [first, second, first | {"grow.base": json.dumps(small)}]})), taken=()
    )
    assert list(study.cells("cpu")) == [once, twice, once]
    runs = make_plan(study, "cpu", runs_dir=folder / "runs").runs
    assert [run.config.model.depth for run in runs] == [2, 4, 8]


def test_a_run_that_fails_is_said_and_the_other_ends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = [GOOD["cells"][0], GOOD["cells"][1] | {"seed": RAISE}]
    assert main(["run", "--cells", written(GOOD | {"cells": failing})], trainer=TRAINER) == 1
    assert "1 run failed" in capsys.readouterr().out
    assert (folder / "runs/planned/ends/cpu.json").exists()


CELL = {"model.width": 16}


def based(base: object) -> dict[str, object]:
    return {"grow.base": base, "grow.step": 3}


BAD_FILES = {
    "not JSON": ("{", "not JSON"),
    "a list": ([CELL], "holds a list"),
    "no study": ({"cells": [CELL]}, "study is None"),
    "bad name": (GOOD | {"study": "../up"}, "study: '../up'"),
    "another study": (GOOD | {"study": next(iter(STUDIES))}, "another study's folder"),
    "inside another": (GOOD | {"study": f"{next(iter(STUDIES))}/more"}, "another study's folder"),
    "no cells": (GOOD | {"cells": []}, "cells is empty"),
    "cells missing": ({"study": "planned/x"}, "cells is null"),
    "a cell of text": (GOOD | {"cells": ["model.width=16"]}, "cell 1 is a text"),
    "a claim of numbers": (GOOD | {"claim": 3}, "claim is a number"),
    "a value of lists": (GOOD | {"cells": [CELL, {"seed": [1]}]}, "cell 2: seed is a list"),
    "another folder": (GOOD | {"cells": [CELL | {"study": "x"}]}, "study is no part of a cell"),
    "a device": (GOOD | {"cells": [CELL | {"runtime.device": "cpu"}]}, "runtime.device is no part of a cell"),
    "an override": (GOOD | {"cells": [{"+model.width": 16}]}, "is no setting"),
    "unknown key": (GOOD | {"cells": [{"model.widht": 16}]}, "did you mean model.width?"),
    "impossible run": (GOOD | {"cells": [{"model.width": 16, "model.heads": 3}]}, "does not divide"),
    "a base's device": (
        GOOD | {"cells": [based({"runtime.device": "cpu"})]},
        "cell 1: grow.base: runtime.device is no",
    ),
    "a device in text": (
        GOOD | {"cells": [based('{"runtime.device": "cpu"}')]},
        "grow.base: runtime.device is no part",
    ),
    "a base of lists": (GOOD | {"cells": [based({"seed": [1]})]}, "cell 1: grow.base: seed is a list"),
    "a base by its id": (GOOD | {"cells": [based("0123456789abcdef")]}, "is no run under runs"),
    "impossible growth": (
        GOOD | {"cells": [based({"model.depth": 2}) | {"model.depth": 5}]},
        "model.depth: 5 is no mul",
    ),
    "not a number": (GOOD | {"cells": [{"optim.lr": float("nan")}]}, "optim.lr"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_runs_nothing(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, words = BAD_FILES[name]
    assert main(["run", "--cells", written(content)], trainer=TRAINER) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert words in said
    assert [path.name for path in folder.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--cells", "none.json"], "none.json"),
        (["run", "demo/ladder", "--cells", "plan.json"], "one of the two"),
        (["run", "--cells", "plan.json", "--profile", "smoke"], "allowed: cpu, gpu"),
        (["run"], "names no study"),
        (["reproduce", "--cells", "plan.json"], "--cells"),
        (["status", "--cells", "plan.json"], "no profile was run"),
    ],
)
def test_a_mistaken_command_is_one_line(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(GOOD)
    assert main(arguments, trainer=TRAINER) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said
    assert not (folder / "runs").exists()

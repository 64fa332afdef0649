"""Every study from plan to claims, at its smoke profile."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import analysis.figures
import sweeps.studies
from analysis.commands.claims import as_markdown, read_results
from analysis.figures.find import figures, find_figure
from conf.schema import UserError
from sweeps.__main__ import main
from sweeps.cells.study import Study
from sweeps.studies.find import StudyError, find_study, studies
from tests.smoke import Smoke


@pytest.fixture(scope="module")
def smoke() -> Iterator[Smoke]:
    server = Smoke()
    yield server
    server.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all studies, as a user has it: a run that two of them ask for is made once."""
    return tmp_path_factory.mktemp("studies")


def test_every_study_has_its_figures_and_the_other_way_round() -> None:
    assert list(studies()) == figures()


def test_a_study_is_one_command(tmp_path: Path, cache_dir: Path) -> None:
    """As a user starts it; the other tests do the same in a process that has torch and matplotlib loaded already."""
    options = ["demo/ladder", "--profile", "smoke", "--set", f"runtime.cache_dir={cache_dir}"]
    command = [sys.executable, "-m", "sweeps", "reproduce", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "results/demo/ladder/smoke/claims.json").exists()


@pytest.mark.parametrize("study", studies())
def test_a_study_runs_from_plan_to_claims(study: str, folder: Path, cache_dir: Path, smoke: Smoke) -> None:
    settings = ["--set", f"runtime.cache_dir={cache_dir}", "--set", "train.checkpoint_every=100%"]
    run = ["run", study, "--profile", "smoke", *settings]
    for module, command in (("sweeps", run), ("analysis", ["figure", study, "--profile", "smoke"])):
        status, output = smoke.run(folder, module, *command)
        assert status == 0, output

    results = folder / "results" / study / "smoke"
    claims = json.loads((results / "claims.json").read_text())["claims"]
    assert claims
    assert any(claim["estimate"] is not None for claim in claims), "smoke never reaches what the study is about"
    for claim in claims:
        assert {"sentence", "statistic", "estimate", "interval", "threshold", "n_seeds", "n_runs", "verdict"} <= set(
            claim
        )
        assert claim["verdict"] in {"reproduced", "not reproduced", "inconclusive"}
    pictures = sorted(results.glob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size > 10_000
        assert picture.with_suffix(".svg").exists()
        assert len(pl.read_csv(picture.with_suffix(".csv")))

    records = sorted((folder / "runs" / study).glob("*/run.json"))
    before = [path.stat().st_mtime_ns for path in records]
    status, output = smoke.run(folder, "sweeps", *run)
    assert status == 0, output
    assert before == [path.stat().st_mtime_ns for path in records], "a finished study was run again"


# --- by name ---------------------------------------------------------------------------------------------

CELLS = """
from sweeps.cells.study import Study

def cells(profile):
    return [{"seed": 0}]
"""


def new_files(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Files of a paper `dropped`, in a folder beside those of the studies and figures that there are."""
    (folder / "dropped").mkdir()
    for name, text in texts.items():
        (folder / "dropped" / f"{name}.py").write_text(text)
    for package in (sweeps.studies, analysis.figures):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    importlib.invalidate_caches()
    for module in [name for name in sys.modules if ".dropped" in name]:  # of an earlier test's files
        del sys.modules[module]


def test_a_new_file_is_a_study_if_it_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, drawn = list(studies()), figures()
    study = f'{CELLS}\nSTUDY = Study(claim="It is seen.", cells=cells)\n'
    picture = '"""A picture."""\n\n\ndef draw(runs, folder):\n    return []\n'
    new_files(tmp_path, monkeypatch, seen=study, recipe=CELLS, picture=picture)
    assert list(studies()) == sorted([*before, "dropped/seen"])
    assert (find_study("dropped/seen").name, find_study("dropped/seen").claim) == ("dropped/seen", "It is seen.")
    with pytest.raises(UserError, match=r"'dropped/recipe' is unknown; .*dropped/seen"):
        find_study("dropped/recipe")
    assert figures() == sorted([*drawn, "dropped/picture"])
    assert find_figure("dropped/picture")(pl.DataFrame(), tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name", "sweeps/studies/dropped/broken.py: ModuleNotFoundError: No module named"),
        ("def cells(", "sweeps/studies/dropped/broken.py: SyntaxError: "),
        ("raise SystemExit(3)", "sweeps/studies/dropped/broken.py: SystemExit: 3"),
        ("STUDY = {}", "sweeps/studies/dropped/broken.py: STUDY is a dict; allowed: a Study"),
    ],
)
def test_a_broken_file_leaves_the_other_studies_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(studies())
    assert capsys.readouterr().err == ""
    new_files(tmp_path, monkeypatch, broken=text)
    assert list(studies()) == before
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    with pytest.raises(StudyError, match=r"dropped/broken\.py"):
        find_study("dropped/broken")


def test_a_study_whose_cells_cannot_be_made_leaves_the_others_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {
        "x/broken": Study("It breaks.", lambda _: 1 / 0, name="x/broken"),
        "demo/ladder": find_study("demo/ladder"),
    }
    options = ["--runs-dir", str(tmp_path)]
    assert main(["list", *options, "--results-dir", str(tmp_path)], studies=known) == 0
    listed = capsys.readouterr()
    assert "demo/ladder" in listed.out
    assert listed.err.startswith("left out: x/broken: its cells at profile smoke: ZeroDivisionError")
    assert main(["plan", "x/broken", *options], studies=known) == 2
    assert capsys.readouterr().err.startswith("error: x/broken: its cells at profile cpu: ZeroDivisionError")
    assert main(["plan", "demo/ladder", "--profile", "smoke", *options], studies=known) == 0


def test_a_broken_figure_says_so_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures()
    draws = "def draw(runs, folder):\n    return []\n"
    new_files(tmp_path, monkeypatch, missing=f"import nothing_of_this_name\n{draws}", helper="SIZE = 1\n")
    (tmp_path / "dropped" / "bytes.py").write_bytes(b"\xff\xfe")
    assert figures() == sorted([*before, "dropped/missing"])
    with pytest.raises(UserError, match=r"^analysis/figures/dropped/missing.py: ModuleNotFoundError: No module named"):
        find_figure("dropped/missing")
    with pytest.raises(UserError, match=r"^analysis/figures/dropped/helper.py: draws nothing"):
        find_figure("dropped/helper")
    with pytest.raises(UserError, match=r"'dropped/nowhere' is unknown; .*demo/ladder"):
        find_figure("dropped/nowhere")
    assert callable(find_figure("demo/ladder"))


def test_the_page_of_verdicts_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regenerate with `python -m analysis claims --markdown > docs/studies.md`."""
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    found = read_results(root / "results", "cpu")
    page = "\n".join(as_markdown(found, Path("results"))) + "\n"
    assert page == (root / "docs" / "studies.md").read_text(encoding="utf-8")

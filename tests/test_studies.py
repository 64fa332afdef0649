"""Every study from plan to claims, at its smoke profile, as a user would start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from analysis.figures.registry import FIGURES
from sweeps.registry import STUDIES


def sweeps(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweeps", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_study_has_its_figures_and_the_other_way_round() -> None:
    assert set(STUDIES) == set(FIGURES)


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_a_study_runs_from_plan_to_claims(study: str, tmp_path: Path, cache_dir: Path) -> None:
    options = [study, "--profile", "smoke", "--set", f"runtime.cache_dir={cache_dir}"]
    first = sweeps(tmp_path, "reproduce", *options)
    assert first.returncode == 0, first.stdout + first.stderr

    results = tmp_path / "results" / study / "smoke"
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

    records = sorted((tmp_path / "runs" / study).glob("*/run.json"))
    before = [path.stat().st_mtime_ns for path in records]
    second = sweeps(tmp_path, "run", *options)
    assert second.returncode == 0, second.stdout + second.stderr
    assert before == [path.stat().st_mtime_ns for path in records], "a finished study was run again"

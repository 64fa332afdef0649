"""A verdict follows from the interval and the region alone."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims.claim import Claim, write_claims

WITHIN = Claim(
    sentence="It is near zero.",
    statistic="a number",
    estimate=0.0,
    interval=(-0.01, 0.01),
    threshold="within -0.02 and 0.02",
    low=-0.02,
    high=0.02,
    n_seeds=1,
    n_runs=15,
)


@pytest.mark.parametrize(("interval", "verdict"), [
    ((-0.01, 0.01), "reproduced"),
    ((-0.02, 0.02), "reproduced"),
    ((-0.01, 0.03), "inconclusive"),
    ((-0.03, 0.03), "inconclusive"),
    ((0.02, 0.03), "inconclusive"),
    ((0.021, 0.03), "not reproduced"),
    ((-9.0, -0.021), "not reproduced"),
])  # fmt: skip
def test_the_verdict_compares_interval_and_region(interval: tuple[float, float], verdict: str) -> None:
    assert dataclasses.replace(WITHIN, interval=interval).verdict == verdict


@pytest.mark.parametrize(("interval", "verdict"), [
    ((-0.01, 0.015), "reproduced"),
    ((0.005, 0.015), "not reproduced"),  # within the region, and yet it excludes the truth
    ((-0.015, -0.001), "not reproduced"),
    ((0.0, 0.015), "reproduced"),
    ((-0.01, 0.03), "inconclusive"),  # too wide to say anything
    ((-9.0, 9.0), "inconclusive"),
    ((0.021, 0.03), "not reproduced"),
])  # fmt: skip
def test_a_known_truth_must_be_contained_by_a_narrow_interval(interval: tuple[float, float], verdict: str) -> None:
    known = dataclasses.replace(WITHIN, truth=0.0, interval=interval)
    assert known.verdict == verdict
    assert known.to_json()["truth"] == 0.0


@given(st.floats(-1, 1), st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_the_point_has_no_say(estimate: float, ends: tuple[float, float]) -> None:
    interval = (min(ends), max(ends))
    moved = dataclasses.replace(WITHIN, estimate=estimate, interval=interval)
    assert moved.verdict == dataclasses.replace(WITHIN, interval=interval).verdict


def test_a_one_sided_region() -> None:
    above = dataclasses.replace(WITHIN, low=0.5, high=math.inf)
    assert dataclasses.replace(above, interval=(0.6, 100.0)).verdict == "reproduced"
    assert dataclasses.replace(above, interval=(0.4, 100.0)).verdict == "inconclusive"
    assert dataclasses.replace(above, interval=(0.1, 0.4)).verdict == "not reproduced"
    assert above.to_json()["high"] is None


def test_without_an_estimate_there_is_a_reason_and_no_verdict() -> None:
    silent = dataclasses.replace(WITHIN, estimate=None, interval=None, reason="too few runs")
    assert silent.verdict == "inconclusive"
    assert silent.to_json()["reason"] == "too few runs"


@pytest.mark.parametrize("changes", [
    {"interval": (1.0, -1.0)},
    {"interval": (math.nan, math.nan)},
    {"interval": None},
    {"estimate": None, "interval": None},
    {"low": 1.0, "high": -1.0},
    {"truth": 0.03},
    {"truth": math.nan},
    {"reason": "none needed"},
])  # fmt: skip
def test_a_claim_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"interval|region|estimate"):
        dataclasses.replace(WITHIN, **changes)


def test_claims_are_written_with_all_that_the_verdict_needs(tmp_path: Path) -> None:
    write_claims(tmp_path / "claims.json", "demo/ladder", "smoke", [WITHIN])
    found = json.loads((tmp_path / "claims.json").read_text())
    assert (found["study"], found["profile"]) == ("demo/ladder", "smoke")
    assert found["claims"][0] == {
        "sentence": "It is near zero.",
        "statistic": "a number",
        "estimate": 0.0,
        "interval": [-0.01, 0.01],
        "threshold": "within -0.02 and 0.02",
        "low": -0.02,
        "high": 0.02,
        "n_seeds": 1,
        "n_runs": 15,
        "reason": None,
        "verdict": "reproduced",
    }

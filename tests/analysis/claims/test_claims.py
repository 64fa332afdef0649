"""A verdict follows from the interval and the region alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims.claim import Claim, write_claims
from analysis.claims.region import Region, above, around, between
from analysis.claims.sample import Measured, Sample

NEAR_ZERO = Claim(
    "It is near zero.",
    of=Measured(estimate=0.0, interval=(-0.01, 0.01), n_seeds=1, n_runs=15),
    statistic="a number",
    accept=between(-0.02, 0.02),
)


def measured(interval: tuple[float, float], *, accept: Region = NEAR_ZERO.accept, estimate: float = 0.0) -> Claim:
    of = Measured(estimate=estimate, interval=interval, n_seeds=1, n_runs=15)
    return dataclasses.replace(NEAR_ZERO, of=of, accept=accept)


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
    assert measured(interval).verdict == verdict


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
    known = measured(interval, accept=around(0.0, 0.02))
    assert known.verdict == verdict
    assert known.to_json()["truth"] == 0.0


@given(st.floats(-1, 1), st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_the_point_has_no_say(estimate: float, ends: tuple[float, float]) -> None:
    interval = (min(ends), max(ends))
    assert measured(interval, estimate=estimate).verdict == measured(interval).verdict


def test_a_one_sided_region() -> None:
    assert measured((0.6, 100.0), accept=above(0.5)).verdict == "reproduced"
    assert measured((0.4, 100.0), accept=above(0.5)).verdict == "inconclusive"
    assert measured((0.1, 0.4), accept=above(0.5)).verdict == "not reproduced"
    assert measured((0.1, 0.4), accept=above(0.5)).to_json()["high"] is None


def test_seeds_that_agree_on_the_border_say_nothing() -> None:
    assert measured((0.5, 0.5), accept=above(0.5)).verdict == "inconclusive"
    assert measured((0.6, 0.6), accept=above(0.5)).verdict == "reproduced"


def test_the_verdict_on_values_of_seeds_is_that_on_their_interval() -> None:
    claim = dataclasses.replace(NEAR_ZERO, of=Sample.of([-0.001, 0.001], 4))
    assert (claim.verdict, claim.measured.n_seeds, claim.measured.n_runs) == ("reproduced", 2, 4)


def test_without_an_estimate_there_is_a_reason_and_no_verdict() -> None:
    silent = dataclasses.replace(NEAR_ZERO, of=Measured(reason="too few runs", n_seeds=1, n_runs=1))
    assert silent.verdict == "inconclusive"
    assert silent.to_json()["reason"] == "too few runs"
    assert silent.add_to_reason("one broke").measured.reason == "too few runs (one broke)"
    assert NEAR_ZERO.add_to_reason("one broke") == NEAR_ZERO


def test_a_bound_and_what_it_takes_are_written() -> None:
    of = Sample.of([1.0, 1.1], 2, bounds=("at least", None))
    written = dataclasses.replace(NEAR_ZERO, of=of, needs="larger models").to_json()
    assert (written["statistic"], written["scale"]) == ("a number (at least that in 1 of 2 seeds)", "larger models")
    assert written["interval"][1] is None


def test_claims_are_written_with_all_that_the_verdict_needs(tmp_path: Path) -> None:
    write_claims(tmp_path / "claims.json", "demo/ladder", "smoke", [NEAR_ZERO])
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

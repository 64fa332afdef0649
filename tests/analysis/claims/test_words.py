"""What is printed of claims: the verdict with what it follows from, or the reason why there is none."""

from __future__ import annotations

import math

import pytest

from analysis.claims.claim import Claim
from analysis.claims.region import above, around
from analysis.claims.sample import Measured, Sample
from analysis.claims.words import print_claims
from tests.analysis.helpers import said


def claim(of: Sample | Measured) -> Claim:
    return Claim("Larger is better.", of=of, statistic="loss apart, nats", accept=above(0.5))


@pytest.mark.parametrize(("values", "verdict"), [
    ([0.9, 0.91], "reproduced"),
    ([0.1, 0.11], "not reproduced"),
    ([0.4, 0.6], "inconclusive"),
])  # fmt: skip
def test_a_claim_is_said_with_its_interval_and_region(values: list[float], verdict: str) -> None:
    of = claim(Sample.of(values, 2))
    assert of.measured.interval is not None
    low, high = of.measured.interval
    assert said(print_claims, [of]).splitlines() == [
        f"{verdict}: Larger is better.",
        f"  loss apart, nats: {sum(values) / 2:.3g}, 95% interval {low:.3g} to {high:.3g}; accepted: above 0.5",
    ]


def test_without_an_interval_the_reason_is_said_and_no_number() -> None:
    text = said(print_claims, [claim(Sample.of([0.9], 1))])
    assert text.splitlines() == ["inconclusive: Larger is better.", "  1 seed; an interval needs at least 2"]
    assert "accepted" not in text


def test_a_bound_is_noted_with_its_open_end() -> None:
    text = said(print_claims, [claim(Sample.of([0.9, 0.91], 2, bounds=("at least", None)))])
    assert "loss apart, nats (at least that in 1 of 2 seeds): 0.905" in text
    assert "to inf;" in text
    assert "inf" not in said(print_claims, [claim(Sample.of([0.9, 0.91], 2))])


def test_claims_come_in_their_order_each_with_its_own_region() -> None:
    known = Measured(estimate=1.0, interval=(0.9, 1.1), n_seeds=1, n_runs=4)
    second = Claim("It is one.", of=known, statistic="exponent", accept=around(1.0, 0.25))
    lines = said(print_claims, [claim(Sample.of([math.nan, 1.0], 2)), second]).splitlines()
    assert [line.split(":")[0] for line in lines[::2]] == ["inconclusive", "reproduced"]
    assert lines[1] == "  a seed's value is no number: nan, 1"
    assert lines[3].endswith("accepted: contains 1, and within 0.25 of it")
    assert said(print_claims, []) == ""

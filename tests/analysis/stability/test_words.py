"""What is printed of an autopsy: each line where it is true, and not elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from analysis.stability.autopsy import Autopsy, Cause, Criterion
from analysis.stability.signals import Event
from analysis.stability.words import print_autopsy
from tests.analysis.helpers import said
from tests.analysis.stability.test_autopsy import examine, rows_of, spike

CRITERIA = (Criterion(0.6, True, "logits above 1000"), Criterion(0.4, False, "entropy fell"))
LIKELY = Cause("attention-logit growth", CRITERIA, step=12)
HEALTHY = examine(rows_of(n=40))


def words(*causes: Cause, record: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    facts = {**HEALTHY.signals.record, **(record or {})}
    signals = dataclasses.replace(HEALTHY.signals, **{"record": facts, **changes})
    return said(print_autopsy, Autopsy(signals, causes or (LIKELY,))).splitlines()


def test_a_healthy_run_says_what_was_read_and_that_nothing_rose() -> None:
    told = said(print_autopsy, HEALTHY).splitlines()
    assert told[:3] == [
        "run: finished, last step 40",
        "read: 40 rows of metrics.jsonl",
        "events: none, the loss never rose",
    ]
    assert told[-1] == "verdict: no instability found"


@pytest.mark.parametrize(("record", "line"), [
    ({"diverged_at_step": 7}, "diverged at step 7"),
    ({"diverged_at_step": 7, "diverged_because": "exploded: it is"}, "diverged at step 7, exploded: it is"),
])  # fmt: skip
def test_a_divergence_is_told_with_its_cause_if_the_record_knows_one(record: dict[str, Any], line: str) -> None:
    assert words(record=record)[1] == line
    assert not any(told.startswith("diverged") for told in words())


def test_each_file_and_each_event_is_named() -> None:
    told = words(
        sources={"metrics.jsonl": 4, "flight.jsonl": 9}, events=[Event(3, "spike", 2.5), Event(9, "rise", None)]
    )
    assert "read: 4 rows of metrics.jsonl, 9 rows of flight.jsonl" in told
    assert "events: spike at step 3 (loss 2.5); rise at step 9" in told


@pytest.mark.parametrize(("event", "text"), [
    (Event(3, "spike", 2.5), "spike at step 3 (loss 2.5)"),
    (Event(3, "rise", None, end=9), "rise at step 3"),
    (Event(3, "divergence", 8.123, end=9), "divergence at step 9, from step 3 on (loss 8.12)"),
    (Event(9, "divergence", 8.0, end=9), "divergence at step 9 (loss 8)"),
])  # fmt: skip
def test_an_event_says_when_it_was_and_since_when(event: Event, text: str) -> None:
    assert str(event) == text


def test_shifted_steps_are_told_to_be_no_events() -> None:
    assert "1 step of shifted data (data.shift_every): their losses are no events" in words(shifted={3})
    assert not any("shifted data" in line for line in words())


def test_a_cause_has_its_score_and_what_it_rests_on() -> None:
    told = words(LIKELY)
    at = told.index("0.60  attention-logit growth")
    assert told[at + 1 : at + 3] == ["      +0.60  logits above 1000", "          -  entropy fell"]
    assert told[-1] == "verdict: attention-logit growth (score 0.60), from step 12, though the loss never rose"


def test_a_cause_that_another_explains_says_so_if_it_has_a_score() -> None:
    below = dataclasses.replace(LIKELY, below="epsilon floor")
    assert "0.45  attention-logit growth, below epsilon floor, which explains it" in words(below)
    nothing = dataclasses.replace(below, criteria=(Criterion(0.6, False, "no"), Criterion(0.4, True, "yes")))
    assert "0.00  attention-logit growth" in words(nothing)


def test_what_could_not_be_seen_is_told_before_the_verdict() -> None:
    blind = Cause("epsilon floor", blind="no gradients of tensors")
    assert words(LIKELY, blind)[-2] == "could not see: no gradients of tensors"
    assert not any(line.startswith("could not see") for line in words())


def test_a_spike_without_a_cause_is_called_unknown() -> None:
    found = examine(rows_of(lambda row, step: spike(row, step, 200)))
    told = said(print_autopsy, found).splitlines()
    assert told[-1].startswith("verdict: unknown: a ")
    assert any(line.startswith("events: ") and "none" not in line for line in told)

"""What is printed of a difference: each sentence where it is true, and not elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from analysis.difference.difference import MOST_SEEDS, Difference, Units, difference
from analysis.difference.pairs import Pair, Pairs, Run, Unpaired
from analysis.difference.top_up import STUDIES, Decision, Look
from analysis.difference.words import print_difference, seeds_in_words, sentence, to_json, warnings_of
from tests.analysis.difference.test_difference import one_block
from tests.analysis.helpers import said

UNITS = one_block([-0.02, -0.021, -0.019])


def run(seed: int, *, study: str = "lab", state: str = "finished") -> Run:
    return Run(f"{study}-{seed}-longer-than-eight", f"runs/{study}/{seed}", state, seed, 2.0, {})


def pairs(n: int = 3, **changes: Any) -> Pairs:
    told = {"model.qk_norm": (["none"], ["head"])}
    same = tuple(Pair(seed, (), run(seed), run(seed)) for seed in range(n))
    return dataclasses.replace(Pairs(told, (), same, ()), **changes)


def words(
    of: Pairs | None = None,
    units: Units = UNITS,
    metric: str = "val_loss",
    decision: Decision | None = None,
    warnings: tuple[str, ...] = (),
    **changes: Any,
) -> str:
    result = dataclasses.replace(difference(units), **changes)
    return said(print_difference, of or pairs(), units, result, metric, warnings, decision)


# --- the verdict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "metric", "text"), [
    ("A", "val_loss", "A is better"),
    ("B", "capped_loss", "B is better"),
    ("B", "seconds", "B is lower"),  # of another metric nothing says that lower is better
    ("undecided", "val_loss", "undecided"),
    ("equal", "val_loss", "no difference larger than 0.05 nats"),
    ("equal", "seconds", "no difference larger than 0.05"),
])  # fmt: skip
def test_a_verdict_is_a_sentence(verdict: Any, metric: str, text: str) -> None:
    result = dataclasses.replace(difference(UNITS, margin=0.05), verdict=verdict, interval=(-0.09, -0.01))
    assert sentence(result, metric) == text
    assert f"verdict: {text}" in words(metric=metric, verdict=verdict, margin=0.05, interval=(-0.09, -0.01))


@pytest.mark.parametrize(("interval", "margin", "small"), [
    ((-0.04, -0.01), 0.05, True),
    ((-0.06, -0.01), 0.05, False),
    ((-0.04, -0.01), None, False),
])  # fmt: skip
def test_a_difference_within_the_margin_is_said_to_be_small(
    interval: tuple[float, float], margin: float | None, small: bool
) -> None:
    result = dataclasses.replace(difference(UNITS), verdict="B", interval=interval, margin=margin)
    assert sentence(result, "val_loss") == "B is better" + (", by no more than 0.05 nats" if small else "")


@pytest.mark.parametrize(("missing", "text"), [
    (None, f"more than {MOST_SEEDS} seeds are missing"),
    (0, "no seed is missing"),
    (1, "1 more seed is missing"),
    (2, "2 more seeds are missing"),
])  # fmt: skip
def test_missing_seeds_are_counted(missing: int | None, text: str) -> None:
    assert seeds_in_words(dataclasses.replace(difference(UNITS), missing_seeds=missing)) == text
    assert f"for the observed difference of 0.02 nats: {text}" in words(missing_seeds=missing)


# --- what was paired -------------------------------------------------------------------------------------


def test_the_sides_are_told_apart_by_their_settings() -> None:
    assert words().startswith("B against A: model.qk_norm none -> head\n3 pairs: 3 seeds\n")
    assert words(pairs(told_by={"a": ([None, 1], [2])})).startswith("B against A: a null, 1 -> 2\n")
    assert words(pairs(told_by={})).startswith("B against A: no setting tells them apart\n")


def test_cells_are_named_where_there_are_several() -> None:
    two = tuple(Pair(seed, (lr,), run(seed), run(seed)) for lr in (0.1, 0.2) for seed in (0, 1))
    assert "4 pairs: 2 seeds in 2 cells of optim.lr" in words(pairs(pairs=two, cell_names=("optim.lr",)))
    assert "cells" not in words()


def test_runs_without_a_partner_are_named_up_to_six() -> None:
    def left(n: int) -> tuple[Unpaired, ...]:
        return tuple(Unpaired("A", run(seed), "no partner") for seed in range(n))

    assert "1 run unpaired: A lab-0-lo (seed 0, no partner)\n" in words(pairs(unpaired=left(1)))
    told = words(pairs(unpaired=left(8)))
    assert told.count("no partner") == 6
    assert "8 runs unpaired: " in told
    assert ", and 2 more\n" in told
    assert "unpaired" not in words()
    assert "more\n" not in words(pairs(unpaired=left(6)))


def test_diverged_runs_are_counted_at_initialisation_only_in_a_loss() -> None:
    some = pairs(pairs=(*pairs().pairs, Pair(3, (), run(3, state="diverged"), run(3))))
    assert "1 of 8 runs diverged, counted at the loss at initialisation\n" in words(some)
    assert "1 of 8 runs diverged\n" in words(some, metric="seconds")
    assert "diverged" not in words()


# --- the numbers -----------------------------------------------------------------------------------------


def test_one_pair_has_no_interval_and_says_what_it_takes() -> None:
    told = words(pairs(1), one_block([-0.02]))
    assert "difference B - A: -0.02 nats (-1% of A); one pair shows no spread, so no interval" in told
    assert "with one more seed it has an interval" in told
    assert "detectable" not in told
    assert "one pair shows no spread" not in words()


@pytest.mark.parametrize(("metric", "subject", "unit"), [
    ("val_loss", "difference B - A: ", " nats"),
    ("train_loss", "difference B - A of train_loss: ", " nats"),
    ("seconds", "difference B - A of seconds: ", " ("),
])  # fmt: skip
def test_a_metric_is_named_unless_it_is_the_usual_one(metric: str, subject: str, unit: str) -> None:
    told = words(metric=metric)
    assert f"{subject}-0.02{unit}" in told
    assert ("nats" in told) == (unit == " nats")


def test_a_percentage_needs_something_to_be_of() -> None:
    nothing = one_block([-0.02, -0.021, -0.019], np.zeros(3))
    assert "% of A)" in words()
    assert "% of A)" not in words(units=nothing)


def test_pairing_is_told_where_both_sides_vary() -> None:
    vary = one_block([-0.02, -0.021, -0.019], np.array([2.0, 2.5, 3.0]))
    assert "pairing: the difference has" in words(units=vary)
    assert "pairing" not in words(variance_difference=0.0)


def test_a_margin_is_no_observed_difference() -> None:
    assert "for the observed difference of 0.02 nats" in words()
    assert "for the difference of 0.05 nats" in words(margin=0.05, effect=0.05)
    assert "for the" not in words(effect=0.0)


def test_the_level_of_the_interval_is_said() -> None:
    assert "95.0% interval" in words()
    assert "98.4% interval" in words(level=0.016)


@pytest.mark.parametrize(("ended_by", "text"), [
    ("verdict", "the verdict"), ("seeds", "the last planned look"), ("minutes", "the time limit"),
])  # fmt: skip
def test_a_decision_says_what_ended_it(ended_by: str, text: str) -> None:
    looks = (Look(3, -0.02, None, "undecided"), Look(4, -0.02, (-0.03, -0.01), "B"))
    decision = Decision(pairs(), UNITS, difference(UNITS), looks, 5, "difference/x", ended_by)
    assert f"ended by {text} after 2 looks of 5" in words(decision=decision)
    assert "ended by" not in words()
    written = to_json(pairs(), UNITS, difference(UNITS), "val_loss", [], decision)
    assert (written["until"]["ended_by"], len(written["until"]["looks"])) == (ended_by, 2)


# --- doubts ----------------------------------------------------------------------------------------------

SOUND = one_block([-0.02, -0.021], np.array([2.0, 2.1]))
DOUBTS: dict[str, tuple[Pairs, Units]] = {
    "no setting tells A from B": (pairs(told_by={}), SOUND),
    "losses at initialisation": (pairs(pairs=(Pair(0, (), run(0, state="diverged"), run(0)),)), SOUND),
    "pairs of one seed count as independent": (pairs(), dataclasses.replace(SOUND, block_U=np.array([0, 1]))),
    "equal to the last digit": (pairs(), one_block([0.0, 0.0])),
    "1 pair came from --until": (pairs(pairs=(Pair(0, (), run(0, study=STUDIES), run(0)), *pairs().pairs)), SOUND),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_each_doubt_is_told_alone_where_it_holds(doubt: str) -> None:
    (told,) = warnings_of(*DOUBTS[doubt], corrected=False)
    assert doubt in told
    assert f"warning: {told}" in words(*DOUBTS[doubt], warnings=(told,))


def test_a_sound_comparison_has_no_doubts() -> None:
    assert warnings_of(pairs(), SOUND, corrected=False) == []
    assert "warning" not in words()
    # one equal unit is chance, and a corrected level allows for more looks
    assert warnings_of(pairs(), one_block([0.0]), corrected=False) == []
    assert warnings_of(*DOUBTS["1 pair came from --until"], corrected=True) == []


def test_what_is_written_holds_all_that_is_printed() -> None:
    left = (Unpaired("B", run(9), "failed"),)
    of, result = pairs(unpaired=left), difference(UNITS)
    written = to_json(of, UNITS, result, "val_loss", ["so"], None)
    assert written["told_by"] == {"model.qk_norm": {"A": ["none"], "B": ["head"]}}
    assert written["warnings"] == ["so"]
    assert (written["mean"], written["verdict"]) == (result.mean, result.verdict)
    assert written["sentence"] == sentence(result, "val_loss")
    assert written["gain"] == result.gain
    assert [pair["seed"] for pair in written["pairs"]] == [0, 1, 2]
    assert written["pairs"][0].keys() == {"seed", "cell", "A", "B"}
    assert [(row["side"], row["reason"]) for row in written["unpaired"]] == [("B", "failed")]
    assert "until" not in written


def test_difference_is_of_the_result_that_is_given() -> None:
    assert isinstance(difference(UNITS), Difference)
    assert "verdict: B is better" in words()
    assert "verdict: A is better" in words(units=one_block([0.02, 0.021, 0.019]))

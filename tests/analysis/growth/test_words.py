"""What is printed of growth: a row for each arm and budget, and each doubt where it holds."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from analysis.growth.gain import COLUMNS, left_out, used
from analysis.growth.speed_up import SCRATCH
from analysis.growth.words import BOUNDS, print_growth
from tests.analysis.helpers import said

GROWN: dict[str, Any] = {
    "arm": "4x32 to 8x32, stacked",
    "seed": 0,
    "run_id": "grown",
    "flops": 10**12,
    "base_flops": 10**11,
    "n_tokens": 10**6,
    "loss": 3.0,
    "scratch_loss": 3.1,
    "gap": 0.1,
    "speedup": 0.25,
    "against": "s1 s2",
    "scratch_seed": "own",
}


def compared(*rows: dict[str, Any]) -> pl.DataFrame:
    """Grown runs, each with its changes, and one from scratch."""
    scratch = {"arm": SCRATCH, "seed": 0, "run_id": "s1", "flops": 10**12, "loss": 3.1}
    every = [*(GROWN | changes for changes in rows), scratch]
    return pl.DataFrame([{name: row.get(name) for name in COLUMNS} for row in every], schema=COLUMNS)


def kept(*changes: dict[str, Any], n: int = 1) -> pl.DataFrame:
    """`n` runs that are compared, and others that are not."""
    sound = {"state": "finished", "annealed": True, "unbroken": True}
    return pl.DataFrame([*[sound] * (n + 1), *(sound | change for change in changes)])


def words(*rows: dict[str, Any], of: pl.DataFrame | None = None) -> str:
    rows = rows or ({},)
    told = said(print_growth, kept(n=len(rows)) if of is None else of, compared(*rows))
    return "\n".join(" ".join(line.split()) for line in told.splitlines())


def row_of(*rows: dict[str, Any]) -> str:
    """The row of the first arm."""
    return words(*rows).split("\n")[2]


def test_the_title_counts_both_sides() -> None:
    assert words().startswith("1 grown run against 2 from scratch at equal total FLOPs\n")
    assert words({}, {"seed": 1, "against": "s2 s3"}).startswith("2 grown runs against 3 from scratch")
    assert used(compared({}, {"against": None})) == {"s1", "s2"}


def test_one_seed_is_a_number_without_an_interval() -> None:
    assert row_of() == "4x32 to 8x32, stacked 1 1T 100G (10%) 1M 3.0000 3.1000 +0.1000 +25.0%"


def test_seeds_are_a_mean_with_its_interval() -> None:
    told = row_of({}, {"seed": 1, "loss": 3.2, "gap": 0.12, "speedup": 0.35})
    assert told.startswith("4x32 to 8x32, stacked 2 1T")
    for cell in ("3.1000 ± 1.2706", "+0.1100 ± 0.1271", "+30.0% ± 63.5%"):
        assert cell in told
    assert "±" not in row_of()


def test_a_seed_without_a_number_is_counted() -> None:
    told = row_of({}, {"seed": 1, "gap": None, "scratch_loss": None, "speedup": None})
    assert "+0.1000 (1 seed)" in told
    assert "3.1000 (1 seed)" in told
    assert "(1 seed)" not in row_of()


def test_what_is_not_known_is_a_dash() -> None:
    told = row_of({"base_flops": None, "scratch_loss": None, "gap": None, "speedup": None, "against": None})
    assert told == "4x32 to 8x32, stacked 1 1T - 1M 3.0000 - - -"


def test_an_arm_is_named_once_and_has_a_row_for_each_budget() -> None:
    told = words({}, {"flops": 2 * 10**12}, {"arm": "another", "flops": 10**12}).split("\n")
    assert told[2].startswith("4x32 to 8x32, stacked 1 1T")
    assert told[3].startswith("1 2T")
    assert told[4].startswith("another 1 1T")


# --- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "side", "end"), [("at least", "above", "-"), ("at most", "below", "+")])
def test_a_bound_is_told_with_the_end_that_it_has(bound: str, side: str, end: str) -> None:
    assert f"{bound} +25.0%" in row_of({"bound": bound})
    assert side not in row_of({"bound": bound})
    both = row_of({"bound": bound}, {"bound": bound, "seed": 1, "speedup": 0.35})
    assert f"{bound} +30.0% ({side} {end}" in both
    equal = row_of({"bound": bound}, {"bound": bound, "seed": 1})
    assert f"{bound} +25.0%" in equal
    assert side not in equal
    assert f"{bound}: {BOUNDS[bound]} (1 run)" in words({"bound": bound})
    assert bound not in words()


def test_bounds_on_both_sides_are_no_number() -> None:
    assert row_of({"bound": "at least"}, {"bound": "at most", "seed": 1}).endswith("bounded both ways")


# --- doubts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "doubt"), [
    ({"missing": "no run of its size", "gap": None}, "1 run without a loss from scratch: no run of its size"),
    ({"speedup": None}, "1 run without a speed-up: seeds from scratch bound it on both sides"),
    ({"scratch_seed": "others"}, "warning: 1 run is compared with other seeds, whose own noise"),
    ({"differing": "optim.lr"}, "warning: 1 run and scratch differ in more than growth: optim.lr"),
])  # fmt: skip
def test_each_doubt_is_told_where_it_holds(changes: dict[str, Any], doubt: str) -> None:
    assert doubt in words(changes)
    assert doubt.split("1 run")[-1] not in words()


def test_a_run_without_anything_to_compare_with_has_no_doubtful_speed_up() -> None:
    assert "without a speed-up" not in words({"speedup": None, "against": None})


def test_runs_with_the_same_doubt_are_counted_together() -> None:
    told = words({"differing": "a"}, {"seed": 1, "differing": "a"}, {"seed": 2, "differing": "b"})
    assert "2 runs and scratch differ in more than growth: a" in told
    assert "1 run and scratch differ in more than growth: b" in told
    assert "2 runs are compared with other seeds" in words({"scratch_seed": "others"}, {"scratch_seed": "others"})


def test_what_is_left_out_is_told_with_its_reason() -> None:
    others = kept({"state": "diverged"}, {"annealed": False}, {"state": "running"}, {"unbroken": False})
    reasons = "1 diverged, 1 not annealed, 1 unfinished, 1 with other moments or settings than their trunk"
    assert left_out(others) == reasons
    assert f"4 of 6 runs left out: {reasons}" in words({}, of=others)
    assert left_out(kept()) == ""
    assert "left out: " not in words()

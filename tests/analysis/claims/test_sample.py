"""Values of seeds, the runs behind them, and the interval that they give."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.claims.sample import Measured, Sample, arms_apart, by_seed, count_runs, over_seeds, slopes

TABLE = pl.DataFrame(
    [(arm, size, seed, 10.0 * k + size * seed) for k, arm in enumerate("ab") for size in (1, 10) for seed in (0, 1, 2)],
    schema=["arm", "size", "seed", "loss"],
    orient="row",
)


# --- the interval ----------------------------------------------------------------------------------------


def test_the_interval_over_seeds_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    intervals = (over_seeds(rng.normal(1.0, 0.3, 3).tolist())[1] for _ in range(2000))
    assert sum(low <= 1.0 <= high for low, high in intervals) / 2000 == pytest.approx(0.95, abs=0.02)
    normal = sum(abs(x.mean() - 1) <= 1.96 * x.std(ddof=1) / 3**0.5 for x in rng.normal(1.0, 0.3, (2000, 3)))
    assert normal / 2000 < 0.9  # with three seeds the normal quantile would be far too small


def test_one_value_or_none_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        over_seeds([1.0])
    alone = Sample.of([1.0], 1).measured()
    assert (alone.estimate, alone.reason) == (None, "1 seed; an interval needs at least 2")
    broken = Sample.of([1.0, math.nan, 2.0], 3).measured()
    assert broken.reason == "a seed's value is no number: 1, nan, 2"


def test_values_in_steps_say_no_more_than_half_a_step() -> None:
    assert Sample.of([0.0, 0.0], 2).measured().interval == (0.0, 0.0)
    assert Sample.of([0.0, 0.0], 2).in_steps(0.2).measured().interval == (-0.1, 0.1)


def test_a_bound_takes_the_interval_its_end() -> None:
    values, known = [0.29, 0.3, 0.31], Sample.of([0.29, 0.3, 0.31], 3).measured()
    assert known.interval is not None
    beyond = Sample.of(values, 3, bounds=("at least", None, "at least")).measured()
    assert (beyond.interval, beyond.note) == ((known.interval[0], math.inf), " (at least that in 2 of 3 seeds)")
    below = Sample.of(values, 3, bounds=(None, None, "at most")).measured()
    assert below.interval == (-math.inf, known.interval[1])
    both = Sample.of(values, 3, bounds=("at least", None, "at most")).measured()
    assert both.reason == "only bounded: at least that in 1 of 3 seeds, at most that in 1 of 3 seeds"


def test_a_reason_is_asked_for_only_where_values_are_too_few() -> None:
    assert Sample.of([1.0, 2.0], 2).or_say("at an edge").measured().reason is None
    assert Sample.of([1.0], 2).or_say("at an edge").measured().reason == "at an edge"
    withheld = Sample.of([1.0, 2.0], 2).unless("nothing fails").measured()
    assert (withheld.reason, withheld.n_seeds, withheld.n_runs) == ("nothing fails", 0, 2)
    assert Sample.of([1.0, 2.0], 2).unless(None).measured().estimate == 1.5


@pytest.mark.parametrize("fields", [
    {"estimate": 0.0, "interval": (1.0, -1.0)},
    {"estimate": 0.0, "interval": (math.nan, math.nan)},
    {"estimate": 0.0},
    {},
    {"estimate": 0.0, "interval": (0.0, 1.0), "reason": "none needed"},
])  # fmt: skip
def test_an_estimate_without_an_interval_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"interval|estimate"):
        Measured(n_seeds=1, n_runs=1, **fields)  # type: ignore[arg-type]  # what is refused


# --- from tables -----------------------------------------------------------------------------------------


def test_seeds_that_lack_a_row_are_left_out_and_their_runs_count() -> None:
    whole = by_seed(TABLE, "loss", arm="a")
    assert (whole.values, whole.n_runs) == ({0: 0.0, 1: 5.5, 2: 11.0}, 6)
    lacking = TABLE.filter((pl.col("seed") != 1) | (pl.col("size") != 10))
    assert (by_seed(lacking, "loss", arm="a").values, by_seed(lacking, "loss").n_runs) == ({0: 0.0, 2: 11.0}, 10)
    null = TABLE.with_columns(pl.when(pl.col("seed") != 2).then("loss").alias("loss"))
    assert set(by_seed(null, "loss", arm="b").values) == {0, 1}


def test_arms_are_compared_seed_by_seed() -> None:
    apart = arms_apart(TABLE, "loss", "b", "a", size=10)
    assert (apart.values, apart.n_runs) == ({0: 10.0, 1: 10.0, 2: 10.0}, 6)
    lacking = TABLE.filter((pl.col("seed") != 1) | (pl.col("arm") != "a"))
    assert set(arms_apart(lacking, "loss", "b", "a").values) == {0, 2}


def test_samples_subtract_divide_and_scale() -> None:
    one, other = Sample({0: 1.0, 1: 4.0, 2: 9.0}, 3), Sample({2: 3.0, 0: 0.0, 3: 1.0}, 4)
    assert ((one - other).values, (one - other).n_runs) == ({0: 1.0, 2: 6.0}, 7)
    assert (one / other).values == {2: 3.0}  # not by 0
    assert (one * 2).values == {0: 2.0, 1: 8.0, 2: 18.0}


def test_slopes_are_of_seeds_with_every_setting() -> None:
    found = slopes(TABLE, "loss", arm="b")
    assert (found.values, found.n_runs) == (pytest.approx({0: 0, 1: 9, 2: 18}), 6)
    assert slopes(TABLE, "loss", log_against=False, arm="b").values == pytest.approx({0: 0, 1: 1, 2: 2})
    lacking = TABLE.filter((pl.col("seed") != 1) | (pl.col("size") != 10))
    assert set(slopes(lacking, "loss", arm="b").values) == {0, 2}
    assert slopes(TABLE.filter(pl.col("size") == 1), "loss").values == {}


def test_runs_are_counted_by_what_the_table_says() -> None:
    assert count_runs(TABLE) == 12
    assert count_runs(TABLE.with_columns(pl.lit(5).alias("n_runs"))) == 60
    assert count_runs(TABLE.with_columns(pl.col("seed").alias("run_id"))) == 3
    assert by_seed(TABLE, "loss").behind(TABLE.head(4)).n_runs == by_seed(TABLE, "loss").behind(4).n_runs == 4


# --- arithmetic ------------------------------------------------------------------------------------------

SAMPLES = st.builds(Sample, st.dictionaries(st.integers(0, 5), st.floats(-100, 100), max_size=6), st.integers(0, 20))


@settings(deadline=None)
@given(SAMPLES, SAMPLES)
def test_adding_and_subtracting_undo_each_other(one: Sample, other: Sample) -> None:
    both = one.values.keys() & other.values.keys()
    assert (one + other).values == (other + one).values
    assert {seed: -value for seed, value in (other - one).values.items()} == (one - other).values
    assert (one + other).values.keys() == (one - other).values.keys() == both
    again = ((one + other) - other).values
    assert again == pytest.approx({seed: one.values[seed] for seed in both}, abs=1e-9)
    assert (one + other).n_runs == one.n_runs + other.n_runs


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(0.1, 10), st.floats(-50, 50))
def test_an_interval_moves_and_scales_with_its_values(values: list[float], factor: float, shift: float) -> None:
    mean, (low, high) = over_seeds(values)
    moved, ends = over_seeds([factor * value + shift for value in values])
    assert low <= mean <= high
    assert (moved, *ends) == pytest.approx(
        (factor * mean + shift, factor * low + shift, factor * high + shift), abs=1e-6
    )
    assert over_seeds(values[::-1])[1] == pytest.approx((low, high))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(0, 10))
def test_steps_never_narrow_an_interval(values: list[float], resolution: float) -> None:
    mean, (low, high) = over_seeds(values)
    _, (lower, higher) = over_seeds(values, resolution=resolution)
    assert lower <= low <= high <= higher
    assert higher - mean >= resolution / 2 - 1e-9


def test_a_ratio_leaves_out_the_seeds_whose_divisor_is_no_size() -> None:
    ratio = Sample({0: 1.0, 1: 2.0, 2: 3.0}, 3) / Sample({0: -1.0, 1: 4.0, 2: 0.0}, 3)
    assert (ratio.values, ratio.n_runs) == ({1: 0.5}, 6)


def test_an_operation_forgets_what_was_true_of_one_side_alone() -> None:
    """A bound or a resolution of one side says nothing of a difference; scaling keeps a bound."""
    bounded = Sample.of([1.0, 2.0], 2, bounds=("at least", None)).in_steps(0.5)
    assert ((bounded - Sample.of([0.0, 0.0], 2)).bounds, (bounded * 2).bounds) == ((), ("at least", None))
    assert (bounded - Sample.of([0.0, 0.0], 2)).resolution == 0.0


def test_an_interval_of_bounded_seeds_holds_on_the_other_side() -> None:
    """Each truth lies at or above its value, so that the mean of the truths is above the lower end."""
    bounded = Sample.of([1.0, 1.2], 2, bounds=("at least", "at least")).measured()
    assert bounded.interval is not None
    assert bounded.interval[0] == over_seeds([1.0, 1.2])[1][0]
    assert bounded.interval[1] == math.inf
    assert Sample.of([1.0, 1.2], 2, bounds=(None, None)).measured().interval == over_seeds([1.0, 1.2])[1]


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(-3, 3), st.booleans())
def test_a_slope_is_that_of_the_line_or_power_that_made_it(exponent: float, level: float, log: bool) -> None:
    sizes = np.array([1.0, 10.0, 100.0, 1000.0])
    made = 10**level * sizes**exponent if log else level + exponent * np.log10(sizes)
    table = pl.DataFrame({"size": [*sizes, *sizes], "seed": [0] * 4 + [1] * 4, "loss": [*made, *made]})
    found = slopes(table, "loss", log_value=log)
    assert found.values == pytest.approx({0: exponent, 1: exponent}, abs=1e-9)


def test_a_mean_is_of_the_rows_that_agree() -> None:
    whole = by_seed(TABLE, "loss")
    assert whole.values == pytest.approx({seed: 5 + 5.5 * seed for seed in range(3)})
    assert by_seed(TABLE, "loss", arm="b", size=10).values == {0: 10.0, 1: 20.0, 2: 30.0}
    assert by_seed(TABLE, "loss", arm="none of these").values == {}


def test_measured_is_itself_and_not_copied() -> None:
    made = Measured(estimate=0.0, interval=(-math.inf, 1.0), n_seeds=2, n_runs=3)
    assert made.measured() is made

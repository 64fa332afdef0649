"""Sensitivity, the best rate and the failing rate of curves that are known, and what seeds say of them."""

from __future__ import annotations

import math

import polars as pl
import pytest

from analysis.stability.lr_sweep import best_lr, by_seed, differences, failing_lr, sensitivity, slopes

LRS = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def sweep(loss, *, sizes=(1e4, 1e5), seeds=(0, 1, 2), arms=("a",)):
    rows = [
        {"arm": arm, "size": size, "lr": lr, "seed": seed, "loss": loss(arm, size, lr, seed)}
        for arm in arms
        for size in sizes
        for lr in LRS
        for seed in seeds
    ]
    return pl.DataFrame(rows)


def test_sensitivity_is_the_mean_rise_above_the_lowest_loss():
    table = sensitivity(sweep(lambda _arm, _size, lr, _seed: {1e-2: 2.0}.get(lr, 2.5)))
    assert table["sensitivity"].to_numpy() == pytest.approx(0.5 * 4 / 5)
    assert set(table["lr_low"]) == {1e-3}
    assert set(table["lr_high"]) == {1e-1}


def test_a_flat_curve_has_none_and_a_shift_changes_nothing():
    assert sensitivity(sweep(lambda *_: 2.0))["sensitivity"].to_numpy() == pytest.approx(0)
    one = sensitivity(sweep(lambda _a, _s, lr, _e: math.log(lr) ** 2))["sensitivity"]
    other = sensitivity(sweep(lambda _a, _s, lr, _e: 7 + math.log(lr) ** 2))["sensitivity"]
    assert one.to_numpy() == pytest.approx(other.to_numpy())


@pytest.mark.parametrize("best", [2e-3, 7e-3, 2e-2, 5e-2])
def test_the_vertex_of_a_parabola_is_found_between_the_rates(best):
    table = best_lr(sweep(lambda _a, _s, lr, _e: 2 + math.log(lr / best) ** 2))
    assert table["lr_opt"].to_numpy() == pytest.approx(best)
    assert table["loss_opt"].to_numpy() == pytest.approx(2)
    assert not table["at_edge"].any()


@pytest.mark.parametrize("best", [1e-4, 1e0])
def test_an_optimum_at_the_edge_is_marked_and_not_quoted(best):
    table = best_lr(sweep(lambda _a, _s, lr, _e: 2 + math.log(lr / best) ** 2))
    assert table["at_edge"].all()
    assert table["lr_opt"].null_count() == len(table)


def test_the_failing_rate_is_where_the_loss_has_risen_so_far():
    table = failing_lr(sweep(lambda _a, _s, lr, _e: 2 + max(0.0, math.log10(lr / 1e-2))), rise=0.25)
    assert table["lr_fail"].to_numpy() == pytest.approx(10 ** (-2 + 0.25), rel=1e-6)
    never = failing_lr(sweep(lambda *_: 2.0), rise=0.25)
    assert never["censored"].all()
    assert set(never["lr_fail"]) == {1e-1}


def test_a_low_rate_that_learns_little_has_not_failed():
    table = failing_lr(sweep(lambda _a, _s, lr, _e: 2 + max(0.0, math.log10(3e-2 / lr))), rise=0.25)
    assert table["censored"].all()


def test_slopes_and_differences_are_made_for_each_seed():
    table = sensitivity(
        sweep(
            lambda arm, size, lr, seed: 2 + (lr == 1e-1) * (math.log10(size) + seed + (3 if arm == "b" else 0)),
            arms=("a", "b"),
        )
    )
    rises = slopes(table.filter(pl.col("arm") == "a"), "sensitivity")
    assert rises == pytest.approx({0: 0.2, 1: 0.2, 2: 0.2})
    gaps = differences(by_seed(table, "sensitivity", arm="b"), by_seed(table, "sensitivity", arm="a"))
    assert gaps == pytest.approx([0.6, 0.6, 0.6])


def test_a_seed_that_lacks_a_run_is_left_out():
    table = sensitivity(sweep(lambda _a, _s, lr, _e: 2 + lr))
    holed = table.filter(~((pl.col("seed") == 1) & (pl.col("size") == 1e5)))
    assert set(by_seed(holed, "sensitivity", arm="a")) == {0, 2}
    assert set(slopes(holed, "sensitivity")) == {0, 2}


def test_a_curve_that_lacks_a_rate_has_no_sensitivity():
    """Its mean would leave out the rate that costs most."""
    runs = sweep(lambda _a, _s, lr, _e: 2 + lr)
    table = sensitivity(runs.filter(~((pl.col("seed") == 1) & (pl.col("lr") == 1e-1) & (pl.col("size") == 1e5))))
    assert table.filter(pl.col("sensitivity").is_null()).select("seed", "size").rows() == [(1, 1e5)]
    assert set(by_seed(table, "sensitivity", arm="a")) == {0, 2}

"""Sensitivity, the best rate and the failing rate of curves that are known, and what seeds say of them."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from analysis.claims.sample import by_seed, slopes
from analysis.stability import lr_sweep
from analysis.stability.lr_sweep import arm_where, best_lr, curves_of, failing_lr, sensitivity, with_numbers
from analysis.tables.lint import lint
from train.record.metrics_file import MetricsWriter

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


@pytest.mark.parametrize(("losses", "k"), [
    ([3.0, 2.0, 2.5, 3.0, 3.0], 1),
    ([2.0, 2.0, 2.5, 3.0, 3.0], 1),  # a tie with the end brackets the optimum
    ([2.0, 2.5, 2.5, 2.5, 2.0], None),
    ([5.5, 2.0, 5.5, 5.5, 5.5], 1),
    ([5.5] * 5, None),  # all diverged
])  # fmt: skip
def test_ties_are_no_optimum_unless_they_bracket_one(losses, k):
    row = best_lr(sweep(lambda _a, _s, lr, _e: losses[LRS.index(lr)])).row(0, named=True)
    assert row["at_edge"] is (k is None)
    assert (row["lr_opt"] is None) is (k is None)
    if k is not None:
        assert LRS[k - 1] < row["lr_opt"] < LRS[k + 1]


def test_two_sizes_of_a_sweep_and_the_lint_of_a_table_agree_on_the_edge():
    rng = np.random.default_rng(0)
    for _ in range(50):
        losses = dict(zip(LRS, rng.integers(2, 5, len(LRS)).astype(float), strict=True))
        if len(set(losses.values())) == 1:
            continue
        table = sweep(lambda _a, _s, lr, _e, losses=losses: losses[lr], sizes=(1e4,), seeds=(0,))
        on_edge = [finding.name for finding in lint(table.select("lr", "loss"))] == ["lr_edge"]
        assert best_lr(table)["at_edge"].to_list() == [on_edge]


def test_the_metrics_of_a_run_are_read_once_for_all_numbers(tmp_path, monkeypatch):
    """And each number is of the values that were measured."""
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        writer = MetricsWriter(tmp_path / run, after_step=0)
        for step in range(4):
            writer.append({"step": step} | ({"logit": step, "norm": -step} if step % 2 and run == "a" else {}))
        writer.close()
    reads = []
    read = lr_sweep.read_curves
    monkeypatch.setattr(lr_sweep, "read_curves", lambda folders: reads.append(len(folders)) or read(folders))
    runs = pl.DataFrame({"run_id": ["a", "b"], "folder": [str(tmp_path / run) for run in ("a", "b")]})
    logit, norm = pl.col("logit").drop_nulls(), pl.col("norm").drop_nulls()
    table = with_numbers(runs, curves_of(runs), largest=logit.max(), first=logit.first(), mean=norm.mean())
    assert table.select("largest", "first", "mean").rows() == [(3, 1, -2.0), (None, None, None)]
    assert reads == [2]


def test_the_failing_rate_is_where_the_loss_has_risen_so_far():
    table = failing_lr(sweep(lambda _a, _s, lr, _e: 2 + max(0.0, math.log10(lr / 1e-2))), rise=0.25)
    assert table["lr_fail"].to_numpy() == pytest.approx(10 ** (-2 + 0.25), rel=1e-6)
    never = failing_lr(sweep(lambda *_: 2.0), rise=0.25)
    assert never["censored"].all()
    assert set(never["lr_fail"]) == {1e-1}


def test_a_low_rate_that_learns_little_has_not_failed():
    table = failing_lr(sweep(lambda _a, _s, lr, _e: 2 + max(0.0, math.log10(3e-2 / lr))), rise=0.25)
    assert table["censored"].all()


def test_a_curve_says_how_many_runs_are_behind_it():
    whole = sweep(lambda _a, _s, lr, _e: 2 + lr)
    for table in (sensitivity(whole), best_lr(whole), failing_lr(whole, rise=0.25)):
        assert table["n_runs"].to_list() == [len(LRS)] * 6
        assert by_seed(table.with_columns(one=pl.lit(1.0)), "one", size=1e4).n_runs == 3 * len(LRS)


def test_a_seed_that_lacks_a_curve_is_left_out():
    table = sensitivity(sweep(lambda _a, _s, lr, _e: 2 + lr))
    holed = table.filter(~((pl.col("seed") == 1) & (pl.col("size") == 1e5)))
    assert set(by_seed(holed, "sensitivity", arm="a").values) == {0, 2}
    assert set(slopes(holed, "sensitivity").values) == {0, 2}


def test_an_arm_is_the_first_whose_condition_is_met():
    table = pl.DataFrame({"clip": [None, 1.0, 1.0], "name": ["free", "tensor", "all"]})
    arm = arm_where({"free": pl.col("clip").is_null(), "tensor": pl.col("name") == "tensor"}, pl.lit("clip"))
    assert table.select(arm.alias("arm"))["arm"].to_list() == ["free", "tensor", "clip"]


def test_a_curve_that_lacks_a_rate_has_no_sensitivity():
    """Its mean would leave out the rate that costs most."""
    runs = sweep(lambda _a, _s, lr, _e: 2 + lr)
    table = sensitivity(runs.filter(~((pl.col("seed") == 1) & (pl.col("lr") == 1e-1) & (pl.col("size") == 1e5))))
    assert table.filter(pl.col("sensitivity").is_null()).select("seed", "size").rows() == [(1, 1e5)]
    assert set(by_seed(table, "sensitivity", arm="a").values) == {0, 2}

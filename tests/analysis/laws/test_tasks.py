"""Pass rates, attention logits, and sensitivity to the learning rate."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from analysis.laws import tasks
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit

SIZES = np.geomspace(1e6, 1e9, 7)

# --- pass rates ------------------------------------------------------------------------------------------


def expectation(estimator, p: float, *, until: int, limit: int) -> float:
    """Exact mean of an estimate over all ways in which sampling can end."""
    total = 0.0
    for draws in range(until, limit + 1):
        ways = comb(draws - 1, until - 1)
        total += ways * p**until * (1 - p) ** (draws - until) * estimator(until, draws)
    for successes in range(until):
        ways = comb(limit, successes)
        total += ways * p**successes * (1 - p) ** (limit - successes) * estimator(successes, limit)
    return total


@pytest.mark.parametrize(("until", "limit"), [(2, 5), (2, 40), (3, 12), (5, 100)])
@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_pass_rates_are_unbiased_with_and_without_censoring(p, until, limit):
    unbiased = expectation(
        lambda r, K: float(tasks.unbiased_pass_rate([r], [K], until=until)[0]), p, until=until, limit=limit
    )
    assert unbiased == pytest.approx(p, rel=1e-12)
    naive = expectation(lambda r, K: r / K, p, until=until, limit=limit)
    assert naive > p * (1 + 1e-4)  # the estimate of most likelihood is too large


@pytest.mark.parametrize(
    ("successes", "draws", "until", "message"),
    [
        ([1], [7], 1, "until: 1 is not allowed"),
        ([2, 3], [9, 9], 2, "item 2: 3 successes in 9 draws"),
        ([1], [0], 2, "item 1: 1 successes in 0 draws"),
        ([0], [0], 2, "item 1: 0 successes in 0 draws"),
        ([-1], [5], 2, "item 1: -1 successes"),
        ([1.5], [5], 2, "item 1: 1.5 successes"),
        ([np.nan], [5], 2, "item 1: nan successes"),
    ],
)
def test_impossible_counts_are_refused(successes, draws, until, message):
    with pytest.raises(FitError, match=message):
        tasks.unbiased_pass_rate(successes, draws, until=until)


def test_task_coordinate_is_a_line_in_ln_n_only_for_the_law():
    rate = tasks.pass_until({"n_params": SIZES}, c=500.0, alpha=0.3)
    F = tasks.task_coordinate(rate)
    assert np.diff(F) / np.diff(np.log(SIZES)) == pytest.approx(-0.3, rel=1e-9)
    steps = np.diff(tasks.task_coordinate(rate**2 + 0.1 * rate)) / np.diff(np.log(SIZES))
    assert np.ptp(steps) > 0.01
    assert np.isnan(tasks.task_coordinate([0.0, 1.0, -0.1, 1.1, np.nan])).all()


def test_pass_rate_rises_from_nothing_to_one():
    rate = tasks.pass_until({"n_params": np.geomspace(1, 1e40, 50)}, c=1e3, alpha=0.3)
    assert (np.diff(rate) >= 0).all()
    assert rate[0] == 0.0
    assert rate[-1] == pytest.approx(1, abs=1e-8)


def test_instances_are_recovered_and_their_mean_foretells_a_mixed_task_better():
    rng = np.random.default_rng(0)
    c, alpha = np.exp(rng.uniform(3, 9, 60)), rng.uniform(0.1, 0.5, 60)
    rate_IN = np.stack([tasks.pass_until({"n_params": SIZES}, c=a, alpha=b) for a, b in zip(c, alpha, strict=True)])
    few, held_out = slice(0, 5), SIZES[6:]
    found = tasks.fit_instances(SIZES[few], np.where(rate_IN > 1e-200, rate_IN, 0)[:, few])
    fitted = np.isfinite(found[0])
    assert fitted.sum() > 50
    assert found[0][fitted] == pytest.approx(c[fitted], rel=1e-6)
    assert found[1][fitted] == pytest.approx(alpha[fitted], rel=1e-6)

    truth = rate_IN[fitted, 6].mean()
    assert tasks.mean_pass_rate(held_out, *found)[0] == pytest.approx(truth, rel=1e-6)
    whole = tasks.fit_instances(SIZES[few], rate_IN[fitted].mean(axis=0)[None, few])
    assert tasks.mean_pass_rate(held_out, *whole)[0] != pytest.approx(truth, rel=0.01)


def test_items_without_two_usable_sizes_have_no_fit():
    c, alpha = tasks.fit_instances([1e6, 1e7, 1e8], [[0.0, 0.0, 0.1], [0.0, 0.01, 0.1], [1.0, 1.0, 1.0]])
    assert np.isfinite(c).tolist() == np.isfinite(alpha).tolist() == [False, True, False]
    with pytest.raises(FitError, match="no item has a fit"):
        tasks.mean_pass_rate([1e9], c[:1], alpha[:1])
    with pytest.raises(FitError, match=r"of shape \(3,\); allowed: \(items, 3\)"):
        tasks.fit_instances([1e6, 1e7, 1e8], [0.1, 0.2, 0.3])


# --- attention logits ------------------------------------------------------------------------------------


def test_logit_growth_is_the_quadratic_of_plain_ln_n():
    parameters = {"A": 40.0, "b": 0.4, "c": 0.08}
    plain = np.polyfit(np.log(SIZES), np.log(tasks.logit_growth({"n_params": SIZES}, **parameters)), 2)
    found = get_law("logit_growth").derived(parameters)
    assert plain == pytest.approx([0.08, found["slope_of_ln_N"], found["constant_of_ln_N"]], rel=1e-6)


@pytest.mark.parametrize(("b", "c"), [(0.4, 0.08), (0.4, 0.0), (0.4, 1e-13), (0.9, -0.02), (-0.2, 0.05)])
def test_the_unstable_size_is_where_the_logit_rises_through_1e4(b, c):
    size = float(get_law("logit_growth").derived({"A": 40.0, "b": b, "c": c})["n_params_unstable"])
    around = tasks.logit_growth({"n_params": size * np.array([0.99, 1.0, 1.01])}, A=40.0, b=b, c=c)
    assert around[1] == pytest.approx(1e4, rel=1e-9)
    assert around[0] < 1e4 < around[2]


def test_a_logit_that_never_gets_there_has_no_unstable_size():
    found = get_law("logit_growth").derived(
        {"A": np.array([40.0, 40.0, 40.0]), "b": np.array([0.4, 0.0, 0.4]), "c": np.array([-0.02, 0.0, 0.08])}
    )
    assert np.isnan(found["n_params_unstable"]).tolist() == [True, True, False]


# --- sensitivity to the learning rate --------------------------------------------------------------------

LR_GRID = np.geomspace(3e-4, 0.3, 7)


def sweep(*, seeds: int = 1, exponent: float = 0.25, noise: float = 0.0, rng=None) -> dict[str, np.ndarray]:
    """Five sizes, seven learning rates: parabolas in ln lr whose width gives S an exact power law in N."""
    sizes = np.array([2.4e6, 9.4e6, 1.9e7, 8.5e7, 3e8])
    n, lr, _ = (axis.ravel() for axis in np.meshgrid(sizes, LR_GRID, np.arange(seeds), indexing="ij"))
    loss = 1.5 + 30 * n**-0.25 + 0.02 * (n / 1e7) ** exponent * np.log(lr / LR_GRID[2]) ** 2
    if rng is not None:
        loss = loss * np.exp(noise * rng.standard_normal(len(loss)))
    return {"n_params": n, "lr": lr, "loss_at_init": np.full(len(n), 10.4), "loss": loss}


def estimate(table: dict[str, np.ndarray]):
    return tasks.lr_sensitivity(table, table["loss"], np.ones((1, len(table["loss"]))), {})


def test_sensitivity_by_hand():
    # Wortsman et al. 2023, section 2: the mean of (2, 1, 3, init 5) above the best, 1, is 1.75; and a size that is flat
    # but for one learning rate.
    table = {
        "n_params": np.repeat([1e6, 1e7], 4),
        "lr": np.tile([1e-4, 1e-3, 1e-2, 1e-1], 2),
        "loss_at_init": np.full(8, 5.0),
        "loss": np.array([2.0, 1.0, 3.0, 80.0, 1.0, 1.0, 1.0, 2.0]),
    }
    found = estimate(table)
    assert found.points["lr_sensitivity"] == pytest.approx([1.75, 0.25])
    assert found.points["loss_best"] == pytest.approx([1.0, 1.0])
    assert found.params["s"][0] == pytest.approx(np.log10(0.25 / 1.75))
    assert found.residuals == pytest.approx([0, 0], abs=1e-12)  # a line through two points


def test_a_diverged_run_counts_with_its_loss_at_initialisation():
    table = sweep()
    worst = np.flatnonzero(table["lr"] == LR_GRID[-1])
    values = []
    for loss in (10.4, 11.0, 1e9, 9.0):
        table["loss"][worst] = loss
        values.append(estimate(table).points["lr_sensitivity"])
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])
    assert (values[3] < values[0] - 0.1).all()  # a run that learnt something is not at its initialisation


def test_unequal_numbers_of_seeds_do_not_shift_the_sensitivity():
    table = sweep(seeds=2)
    again = np.flatnonzero(table["lr"] == LR_GRID[-1])
    more = {name: np.concatenate([values, values[again]]) for name, values in table.items()}
    assert estimate(more).points["lr_sensitivity"] == pytest.approx(estimate(table).points["lr_sensitivity"])


def test_the_law_of_the_sensitivity_is_recovered_and_predicted():
    found = estimate(sweep(exponent=0.25))
    assert found.params["s"][0] == pytest.approx(0.25, rel=1e-9)
    at = {name: values[:1, None] for name, values in found.params.items()}
    predicted = tasks.predict_sensitivity({"n_params": found.points["n_params"]}, **at)["lr_sensitivity"][0]
    assert predicted == pytest.approx(found.points["lr_sensitivity"], rel=1e-9)
    assert estimate(sweep(exponent=0.0)).params["s"][0] == pytest.approx(0, abs=1e-9)


def test_warnings_name_what_makes_sensitivities_incomparable():
    assert estimate(sweep(seeds=2)).warnings == ()
    assert "one seed" in estimate(sweep()).warnings[0]
    table = sweep(seeds=2)
    kept = ~((table["n_params"] == 3e8) & (table["lr"] < LR_GRID[3]))
    found = " ".join(estimate({name: values[kept] for name, values in table.items()}).warnings)
    assert "sizes differ in their learning rates" in found
    assert "best learning rate lies at the edge of the grid at n_params 3e+08" in found
    kept = np.isin(table["lr"], LR_GRID[[0, 2, 3, 4]])
    assert "not evenly spaced" in " ".join(estimate({n: values[kept] for n, values in table.items()}).warnings)


def test_too_few_sizes_or_learning_rates_are_refused():
    table = sweep()
    with pytest.raises(FitError, match="1 size cannot determine"):
        estimate({name: values[:7] for name, values in table.items()})
    with pytest.raises(FitError, match=r"2 learning rates at n_params 9.4e\+06"):
        estimate({name: values[:9] for name, values in table.items()})


def test_the_bootstrap_draws_seeds_and_its_interval_is_that_of_their_noise():
    found = fit("lr_sensitivity", sweep(seeds=4, noise=0.003, rng=np.random.default_rng(1)), bootstrap=200)
    low, high = found.params["s"].ci95
    assert low < 0.25 < high
    assert 0.005 < high - low < 0.05
    lone = fit("lr_sensitivity", sweep(noise=0.003, rng=np.random.default_rng(1)), bootstrap=200)
    assert np.ptp(lone.params["s"].ci95) > 0.2  # one seed each: the grid itself is drawn


@pytest.mark.slow
def test_intervals_of_the_sensitivity_cover_the_truth():
    hits = 0
    for k in range(200):
        table = sweep(seeds=10, noise=0.003, rng=np.random.default_rng(k))
        low, high = fit("lr_sensitivity", table, bootstrap=300, seed=k).params["s"].ci95
        hits += low <= 0.25 <= high
    assert 0.90 <= hits / 200 <= 0.98

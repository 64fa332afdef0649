"""Runs that could be made: sizes and lengths as they were asked for, at the trainer's own price."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.design.candidates import LEVELS, LR_STEP, columns_of, grid_of_rates, grid_of_sizes, widths_of_sizes
from analysis.design.prior import DRAWS, SPREAD, assumed_prior, prior_of_fit, single_formula
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from tests.analysis.design.test_plan import setting
from tests.analysis.helpers import chinchilla_points, fit

# --- sizes and lengths -----------------------------------------------------------------------------------


def test_a_grid_is_every_width_at_every_length() -> None:
    found = grid_of_sizes(setting(), (32, 16, 32), 8, (5.0, 200.0), math.inf)
    assert len(found) == 2 * LEVELS
    assert {candidate.place for candidate in found} == {(row, k) for row in (0, 1) for k in range(LEVELS)}
    assert [candidate.cell["model.width"] for candidate in found] == [16] * LEVELS + [32] * LEVELS
    ratios = np.array([candidate.columns["n_tokens"] / candidate.columns["n_params"] for candidate in found])
    assert ratios[:LEVELS] == pytest.approx(np.geomspace(5, 200, LEVELS), rel=0.05)  # whole steps


def test_one_ratio_is_one_length() -> None:
    assert len(grid_of_sizes(setting(), (16, 32), 8, (20.0, 20.0), math.inf)) == 2


@settings(deadline=None, max_examples=10)
@given(st.floats(1e5, 1e7))
def test_no_run_sees_more_tokens_than_allowed(most: float) -> None:
    every = grid_of_sizes(setting(), (16, 64), 8, (5.0, 200.0), math.inf)
    kept = grid_of_sizes(setting(), (16, 64), 8, (5.0, 200.0), most)
    asked = {candidate.place for candidate in kept}
    for candidate in every:
        inside = candidate.columns["n_tokens"] <= most
        assert inside == (candidate.place in asked) or candidate.columns["n_tokens"] == pytest.approx(most, rel=0.05)


def test_a_larger_run_costs_more() -> None:
    for row in range(2):
        flops = [c.flops for c in grid_of_sizes(setting(), (16, 64), 8, (5.0, 200.0), math.inf) if c.place[0] == row]
        assert flops == sorted(flops)
        assert len(set(flops)) == LEVELS
    small, large = (grid_of_sizes(setting(), (width,), 8, (20.0, 20.0), math.inf)[0] for width in (16, 64))
    assert large.flops > small.flops
    assert large.columns["n_params"] > small.columns["n_params"]


def test_a_cell_repeats_what_was_given_and_its_columns_add_up() -> None:
    (candidate,) = grid_of_sizes(setting(), (32,), 8, (20.0, 20.0), math.inf)
    assert setting().given.items() <= candidate.cell.items()
    assert candidate.cell["model.heads"] == 4
    columns = candidate.columns
    assert columns["n_params_vocab"] + columns["n_params_non_vocab"] == columns["n_params"]
    assert {name: values.tolist() for name, values in columns_of([candidate]).items()} == {
        name: [value] for name, value in columns.items()
    }


def test_a_width_that_cannot_be_cut_into_heads_is_refused() -> None:
    with pytest.raises(FitError, match="--widths: 30 cannot be cut into heads of 8; allowed: multiples"):
        setting().model(30, 8)
    assert setting().model(32, 8).model.heads == 4


def test_widths_of_sizes_are_within_them_and_even_in_logarithm() -> None:
    widths = widths_of_sizes(setting(), (3e4, 3e6), 8)
    sizes = [setting().n_params(setting().model(width, 8)) for width in widths]
    assert len(widths) <= LEVELS
    assert widths == sorted(set(widths))
    assert all(3e4 <= size <= 3e6 for size in sizes)
    assert np.diff(np.log(sizes)).max() < 2.5 * np.log(100) / LEVELS
    with pytest.raises(FitError, match=r"--sizes 10\.\.20: no width in steps of 8 gives so many parameters"):
        widths_of_sizes(setting(), (10.0, 20.0), 8)


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e-1), (1e-2, 2e-2), (1e-2, 1.01e-2)])
def test_rates_are_even_in_logarithm_and_reach_both_ends(low: float, high: float) -> None:
    found = grid_of_rates(setting(), 32, 8, 20.0, (low, high))
    rates = np.array([candidate.columns["lr"] for candidate in found])
    assert len(rates) >= 2
    assert (rates[0], rates[-1]) == pytest.approx((low, high), rel=1e-3)
    assert [candidate.place for candidate in found] == [(0, k) for k in range(len(found))]
    steps = np.diff(np.log(rates))
    assert steps == pytest.approx(steps.mean(), rel=0.05)
    assert steps.max() <= 1.5 * math.log(LR_STEP)
    assert len({candidate.flops for candidate in found}) == 1  # of one size and length


# --- what is believed ------------------------------------------------------------------------------------


def columns() -> dict[str, np.ndarray]:
    return columns_of(grid_of_sizes(setting(), (16, 32, 64), 8, (5.0, 200.0), math.inf))


def test_an_assumption_is_of_constants_within_their_spread() -> None:
    law = single_formula(find_law("chinchilla"))
    prior = assumed_prior(law, columns(), 0.005, seed=0)
    assert prior.basis == "assumed, each constant ±20 %"
    assert prior.draws.keys() == prior.values.keys() == set(law.names)
    for name in ("alpha", "beta", "E"):
        ratio = prior.draws[name] / prior.values[name]
        assert len(ratio) == DRAWS
        assert ((ratio >= 1 - SPREAD) & (ratio <= 1 + SPREAD)).all()
        assert np.ptp(ratio) > SPREAD
    assert (prior.noise, prior.fixed) == (0.005, {})


def test_an_assumption_is_a_function_of_its_seed_and_its_values_are_not() -> None:
    law = single_formula(find_law("chinchilla"))
    one, again, other = (assumed_prior(law, columns(), 0.005, seed=seed) for seed in (0, 0, 1))
    assert one.values == other.values
    assert (one.draws["alpha"] == again.draws["alpha"]).all()
    assert (one.draws["alpha"] != other.draws["alpha"]).any()


def test_the_loss_assumed_at_the_middle_is_that_of_a_small_model() -> None:
    law = single_formula(find_law("chinchilla"))
    values = assumed_prior(law, columns(), 0.005, seed=0).values
    middle = {name: np.exp(np.log(columns()[name]).mean(keepdims=True)) for name in ("n_params", "n_tokens")}
    assert law.function(middle, **values) == pytest.approx(1.2 + 0.4 + 0.4)


def test_a_best_rate_is_assumed_within_a_factor_of_two_of_the_middle() -> None:
    law = single_formula(find_law("lr_bowl"))
    of_rates = columns_of(grid_of_rates(setting(), 32, 8, 20.0, (1e-3, 1e-1)))
    prior = assumed_prior(law, of_rates, 0.005, seed=0)
    assert math.exp(prior.values["m"]) == pytest.approx(1e-2, rel=0.01)
    assert np.abs(prior.draws["m"] - prior.values["m"]).max() <= math.log(2) + 1e-9


def test_of_other_laws_nothing_is_assumed() -> None:
    law = single_formula(find_law("power_law"))
    with pytest.raises(FitError, match="power_law: there is no assumption about its constants; allowed: --fit, --runs"):
        assumed_prior(law, columns(), 0.005, seed=0)
    with pytest.raises(FitError, match="isoflop: is no single formula; allowed: a law with one"):
        single_formula(find_law("isoflop"))


def test_the_noise_of_a_fit_is_that_of_its_points() -> None:
    result = fit("chinchilla", chinchilla_points(noise=0.01), bootstrap=40, objective="lsq_log")
    prior = prior_of_fit(result, None, seed=0)
    assert prior.noise == pytest.approx(0.01, rel=0.4)
    assert prior_of_fit(result, 0.02, seed=0).noise == 0.02
    assert prior.values == result.values
    low, high = np.quantile(result.bootstrap["params"]["alpha"], [0.05, 0.95])
    assert 0 < len(prior.draws["alpha"]) <= DRAWS
    assert ((prior.draws["alpha"] >= low) & (prior.draws["alpha"] <= high)).all()
    assert prior.basis == f"a fit of 42 points, {len(prior.draws['alpha'])} of its resamples"


def test_a_fit_that_cannot_be_a_prior_says_why() -> None:
    points = chinchilla_points(noise=0.01)
    plain = fit("chinchilla", points, bootstrap=0, objective="lsq")
    with pytest.raises(FitError, match="--noise: is needed, since the fit's residuals are no logarithms"):
        prior_of_fit(plain, None, seed=0)
    given = prior_of_fit(plain, 0.01, seed=0)
    assert (given.noise, len(given.draws["E"])) == (0.01, 0)
    assert given.basis == "a fit of 42 points, no resamples"
    with pytest.raises(FitError, match="--noise: the fit has no residuals to take it from"):
        prior_of_fit(plain, 0.0, seed=0)

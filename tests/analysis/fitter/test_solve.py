"""Where a fit may start, how far it may go, and that no step leads uphill; changes of units that undo themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitter.fit import check_fixed, check_profiles, delta_of, optimise, problem_of
from analysis.fitter.law import Law
from analysis.fitter.points import Points, read_points
from analysis.fitter.refit import refit, refit_all, typical
from analysis.fitter.solve import LARGEST_GRID, Problem, Solution, huber, minimise, project, start_grid
from analysis.fitter.uncertainty import covariance, objective_value, standard_errors, to_params, to_theta
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import TRUTH, chinchilla_points

NAMES = ("chinchilla", "power_law", "power_law_no_offset", "frontier", "lr_bowl")
EQUAL = np.ones((1, 42))


def law(name: str = "chinchilla") -> Law:
    found = get_law(name).single
    assert found is not None
    return found


def points(noise: float = 0.01) -> Points:
    return read_points(law(), chinchilla_points(noise=noise), None, None, None, log=True)


def problem(noise: float = 0.01, fixed: dict[str, float] | None = None, *, log: bool = True) -> Problem:
    return problem_of(law(), points(noise), fixed or {}, log)


def made(name: str) -> Problem:
    """A law at points of its own; it need not fit them."""
    of = law(name)
    rng = np.random.default_rng(0)
    variables = {column.name: np.exp(rng.uniform(-1, 1, 12)) for column in of.columns}
    return Problem(of, variables, rng.uniform(2, 4, 12), log=True, centre=dict.fromkeys(of.centred, 1.0))


# --- residuals and their derivatives ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log", [True, False])
def test_derivatives_are_those_of_small_steps(name: str, log: bool) -> None:
    of = made(name)
    of = Problem(of.law, of.variables, of.target, log, of.centre)
    theta = start_grid(of)[:3] + 0.1
    J_SPN, h = of.jacobian(theta), 1e-6
    for k in range(theta.shape[1]):
        step = h * np.eye(theta.shape[1])[k]
        slope = (of.residuals(theta + step) - of.residuals(theta - step)) / (2 * h)
        assert J_SPN[:, k] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_residuals_are_of_logarithms_or_differences() -> None:
    exact = problem(noise=0.0)
    theta = to_theta(law(), np.array([[TRUTH[name] for name in law().names]]), exact.centre)
    assert exact.residuals(theta) == pytest.approx(0, abs=1e-12)
    twice = Problem(exact.law, exact.variables, exact.target / 2, True, exact.centre)
    assert twice.residuals(theta) == pytest.approx(math.log(2))
    plain = Problem(exact.law, exact.variables, exact.target / 2, False, exact.centre)
    assert plain.residuals(theta)[0] == pytest.approx(exact.target / 2)


@settings(deadline=None)
@given(st.floats(-5, 5), st.floats(1e-3, 3))
def test_hubers_loss_lies_between_a_line_and_a_parabola(residual: float, delta: float) -> None:
    r = np.array([residual])
    (loss,) = huber(r, delta)
    assert 0 <= loss <= residual**2 / 2 + 1e-12
    assert loss >= delta * (abs(residual) - delta / 2) - 1e-12  # its tangent
    assert huber(-r, delta) == huber(r, delta)
    assert huber(r, math.inf) == residual**2 / 2


@pytest.mark.parametrize(("objective", "delta"), [
    ("huber_log", 0.02), ("huber", 0.02), ("lsq", math.inf), ("lsq_log", math.inf),
])  # fmt: skip
def test_delta_has_a_say_in_hubers_loss_alone(objective: str, delta: float) -> None:
    assert delta_of(objective, 0.02, problem()) == delta


def test_absolute_deviations_turn_linear_at_once() -> None:
    assert 0 < delta_of("lad", 0.02, problem()) < 1e-4 * problem().typical


# --- limits and starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_start_lies_within_the_bounds(name: str) -> None:
    of = made(name)
    lower, upper = of.bounds()
    assert (lower < upper).all()
    theta_GP = start_grid(of)
    assert theta_GP.shape[1] == len(of.law.parameters)
    assert len(theta_GP) <= LARGEST_GRID
    assert ((theta_GP >= lower) & (theta_GP <= upper)).all()


def test_a_held_constant_cannot_move() -> None:
    held = problem(fixed={"E": 1.8})
    lower, upper = held.bounds()
    assert lower[0] == upper[0] == math.log(1.8)
    assert held.free == (1, 2, 3, 4)
    assert (start_grid(held)[:, 0] == lower[0]).all()
    assert (minimise(held, start_grid(held)[:4], EQUAL, 1e-3).theta[:, 0] == lower[0]).all()
    assert problem().free == (0, 1, 2, 3, 4)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(-30, 30), min_size=5, max_size=5), st.sampled_from([1e-3, 0.1, math.inf]))
def test_no_step_leads_uphill_or_out_of_bounds(start: list[float], delta: float) -> None:
    of = problem()
    lower, upper = of.bounds()
    begun = np.clip(np.array([start]), lower, upper)
    before = huber(of.residuals(begun), delta).sum()
    for steps in (1, 20):
        ended = minimise(of, np.array([start]), EQUAL, delta, max_iterations=steps)
        assert ended.cost[0] <= before * (1 + 1e-9)
        assert ((ended.theta >= lower) & (ended.theta <= upper)).all()
        assert ended.iterations[0] <= steps
        assert huber(of.residuals(ended.theta), delta).sum() == pytest.approx(ended.cost[0])


def test_a_row_that_is_held_stays_where_it_is() -> None:
    of = problem()
    held = np.full((2, 5), np.nan)
    held[1, 3] = 0.5
    start = np.repeat(optimise(of, EQUAL[0], 1e-3).theta[None], 2, axis=0)
    ended = minimise(of, start, EQUAL, 1e-3, held_SP=held)
    assert ended.theta[1, 3] == 0.5
    assert ended.theta[0, 3] != 0.5
    assert ended.cost[1] > ended.cost[0]


def test_a_start_is_converged_where_it_is_flat() -> None:
    assert Solution(np.zeros((2, 1)), np.zeros(2), np.array([1e-9, 1e-7]), np.zeros(2)).converged.tolist() == [
        True,
        False,
    ]


def test_coefficients_are_those_of_least_squares() -> None:
    of = problem(noise=0.01)
    theta_GP = start_grid(of)[:6]
    theta_RGP, best_RG = project(of, theta_GP, EQUAL)
    assert theta_RGP.shape == (1, 6, 5)
    for g in range(6):
        alpha, beta = theta_RGP[0, g, 3:]
        basis = np.stack([np.ones(42), of.variables["n_params"] ** -alpha, of.variables["n_tokens"] ** -beta], axis=1)
        free = np.linalg.lstsq(basis / of.target[:, None], np.ones(42), rcond=None)[0]
        if (free > 1e-2 * of.typical).all():
            assert np.exp(theta_RGP[0, g, :3]) == pytest.approx(free, rel=1e-5)
        rest = ((basis / of.target[:, None]) @ np.exp(theta_RGP[0, g, :3]) - 1) ** 2
        assert best_RG[0, g] <= rest.sum() * (1 + 1e-6) + 1e-9
    assert np.array_equal(theta_RGP[0, :, 3:], theta_GP[:, 3:])  # exponents are left alone


# --- units -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.1, 2), min_size=5, max_size=5), st.floats(1, 1e9), st.floats(1, 1e9))
def test_a_change_of_units_undoes_itself(values: list[float], n_params: float, n_tokens: float) -> None:
    centre = {"n_params": n_params, "n_tokens": n_tokens}
    theta = to_theta(law(), np.array([values]), centre)
    again = to_params(law(), theta, centre)
    assert [again[name][0, 0] for name in law().names] == pytest.approx(values, rel=1e-9)


def test_a_centred_coefficient_is_the_loss_it_adds_at_the_middle() -> None:
    centre = {"n_params": 1e7, "n_tokens": 1e8}
    theta = to_theta(law(), np.array([[TRUTH[name] for name in law().names]]), centre)[0]
    assert math.exp(theta[1]) == pytest.approx(TRUTH["A"] * 1e7 ** -TRUTH["alpha"])
    assert math.exp(theta[2]) == pytest.approx(TRUTH["B"] * 1e8 ** -TRUTH["beta"])
    assert (theta[3], theta[4]) == (TRUTH["alpha"], TRUTH["beta"])


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.floats(0.1, 10))
def test_a_typical_value_scales_with_its_values(values: list[float], factor: float) -> None:
    x = np.array(values)
    assert typical(factor * x) == pytest.approx(factor * typical(x))
    assert x.min() * (1 - 1e-9) <= typical(x) <= x.max() * (1 + 1e-9)
    assert typical(np.append(-x, 0.0)) == x.max()  # without a logarithm the largest magnitude


# --- refits ----------------------------------------------------------------------------------------------


def test_equal_weights_give_the_fit_itself_and_others_do_not() -> None:
    of = problem()
    optimum = optimise(of, EQUAL[0], math.inf)
    weights = np.concatenate([EQUAL, 3 * EQUAL, np.random.default_rng(0).multinomial(42, np.full(42, 1 / 42), 3)])
    draws, converged = refit_all(of, optimum.theta, weights, math.inf)
    assert converged == 1
    assert draws[:2] == pytest.approx(np.repeat(optimum.theta[None], 2, axis=0), rel=1e-6)
    assert (np.abs(draws[2:] - optimum.theta) > 1e-4).any()
    nothing, share = refit_all(of, optimum.theta, weights[:0], math.inf)
    assert (nothing.shape, share) == ((0, 5), 1.0)


def test_exact_points_give_the_truth_under_any_weights() -> None:
    exact = chinchilla_points()
    weights = np.random.default_rng(0).multinomial(42, np.full(42, 1 / 42), 4).astype(float)
    variables = {name: exact[name] for name in ("n_params", "n_tokens")}
    constants = refit(law(), variables, exact["loss"], weights, TRUTH)
    for name, value in TRUTH.items():
        assert constants[name].shape == (4, 1)
        assert constants[name] == pytest.approx(value, rel=1e-4)


# --- spreads ---------------------------------------------------------------------------------------------


def spread(kind: Any, noise: float = 0.01, *, delta: float = math.inf, **more: Any) -> dict[str, float | None]:
    of = problem(noise, **more)
    return standard_errors(of, optimise(of, EQUAL[0], delta).theta, EQUAL[0], delta, kind)


@pytest.mark.parametrize("kind", ["classical", "sandwich"])
def test_twice_the_noise_is_twice_the_error(kind: str) -> None:
    one, two = spread(kind, 0.002), spread(kind, 0.004)
    for name, value in one.items():
        assert value is not None
        assert two[name] == pytest.approx(2 * value, rel=0.05)


def test_a_held_constant_has_no_error() -> None:
    held = spread("classical", fixed={"E": 1.82})
    assert held["E"] is None
    free = spread("classical")
    for name in ("A", "alpha"):
        assert held[name] is not None
        assert free[name] is not None
        assert held[name] < free[name]  # type: ignore[operator]  # both are numbers


def test_too_few_points_or_units_tell_no_error() -> None:
    of = problem()
    theta = optimise(of, EQUAL[0], math.inf).theta
    assert covariance(of, theta, EQUAL[0], math.inf, "sandwich") is not None
    three = np.repeat(np.arange(3), 14)
    assert covariance(of, theta, EQUAL[0], math.inf, "sandwich", three) is None  # fewer units than constants
    assert covariance(of, theta, EQUAL[0], 1e-9, "sandwich") is None  # none within delta
    few = Problem(of.law, {name: v[:5] for name, v in of.variables.items()}, of.target[:5], True, of.centre)
    assert covariance(few, theta, EQUAL[0, :5], math.inf, "classical") is None
    assert set(standard_errors(few, theta, EQUAL[0, :5], math.inf, "classical").values()) == {None}


def test_a_covariance_is_symmetric_and_positive() -> None:
    of = problem()
    theta = optimise(of, EQUAL[0], 1e-2).theta
    for kind in ("classical", "sandwich"):
        found = covariance(of, theta, EQUAL[0], 1e-2, kind)  # type: ignore[arg-type]  # one of the two kinds
        assert found is not None
        assert found == pytest.approx(found.T)
        assert (np.linalg.eigvalsh(found) > 0).all()


def test_the_objective_is_a_sum_over_points() -> None:
    of = problem()
    theta = optimise(of, EQUAL[0], 1e-3).theta
    residuals = of.residuals(theta[None])[0]
    assert objective_value(of, theta, EQUAL[0], 1e-3, absolute=True) == pytest.approx(np.abs(residuals).sum())
    assert objective_value(of, theta, EQUAL[0], math.inf, absolute=False) == pytest.approx((residuals**2).sum() / 2)
    assert objective_value(of, theta, 2 * EQUAL[0], 1e-3, absolute=False) == pytest.approx(
        2 * objective_value(of, theta, EQUAL[0], 1e-3, absolute=False)
    )


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fixed", "message"), [
    ({"gamma": 1.0}, "--fix gamma: chinchilla has no such constant; there are: E, A, B, alpha, beta"),
    ({"E": 0.0}, "--fix E=0 is not allowed; allowed: positive numbers"),
    ({"E": math.inf}, "--fix E=inf is not allowed"),
    ({"alpha": math.nan}, "--fix alpha=nan is not allowed; allowed: 0 to "),
    ({"alpha": -0.1}, "--fix alpha=-0.1 is not allowed"),
    (TRUTH, "--fix: holds every constant of chinchilla; allowed: leave at least one free"),
])  # fmt: skip
def test_a_constant_that_cannot_be_held_is_refused(fixed: dict[str, float], message: str) -> None:
    with pytest.raises(FitError, match=message):
        check_fixed(law(), fixed)
    check_fixed(law(), {"E": 1.7, "alpha": 0.0})


def test_a_profile_is_of_a_free_constant() -> None:
    check_profiles(law(), {"E": 1.7}, ("A", "alpha"))
    for fixed, name in (({"E": 1.7}, "E"), ({}, "gamma")):
        free = ", ".join(constant for constant in law().names if constant not in fixed)
        with pytest.raises(FitError, match=f"--profile-of {name}: not a constant that is fitted; allowed: {free}"):
            check_profiles(law(), fixed, ("A", name))

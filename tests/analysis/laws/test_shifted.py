"""Shifted, broken and three-region power laws: limits, slopes, and two published sets of points."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.registry import find_law, get_law
from analysis.laws.shifted import bnsl, frontier, hestness
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_shifted import MORE_BREAKS

# Four-digit addition: training examples and test loss; the fit is to the first 14 points, and the last 3 are held out.
# Caballero et al. 2022 (arXiv 2210.14891), released data and coefficients.
# fmt: off
EXAMPLES = np.array([160, 192, 256, 320, 384, 448, 480, 512, 544, 576, 608, 640, 672, 736, 800, 864, 928], float)
ADDITION = np.array(
    [2.13809046, 2.11813418, 2.08955508, 2.06988398, 2.05404987, 2.03837089, 2.02814281, 2.00496872, 1.95576149,
     1.86313841, 1.70891537, 1.50637664, 1.29754721, 0.96559684, 0.75856477, 0.64768338, 0.55695445]
)
RELEASED = {"E": 0.413885, "A": 2.277272, "c0": 0.0550773, "c1": 5.662904, "d1": 612.5836, "f1": 0.0591930}

# Fine-tuning loss at D = 200, 400, ...; Lin et al. 2024 (arXiv 2402.02314), released data.
SAMPLES = 200 * 2.0 ** np.arange(14)
FINE_TUNING = np.array(
    [4.247949918, 4.188166777, 4.086900075, 3.946466605, 3.808449984, 3.645450115, 3.420799971, 3.165299892,
     2.91552496, 2.652625084, 2.382649899, 2.151550055, 1.91655004, 1.742699981]
)
# fmt: on


def rms(predicted: np.ndarray, measured: np.ndarray) -> float:
    """Root mean square of ln predicted - ln measured."""
    return float(np.sqrt(np.mean(np.log(predicted / measured) ** 2)))


def log_slope(function, x: float) -> float:
    """d ln f / d ln x."""
    h = 1e-4
    low, high = function(x * np.exp(-h)), function(x * np.exp(h))
    return float(np.log(high / low) / (2 * h))


# --- frontier --------------------------------------------------------------------------------------------


def test_frontier_is_flat_before_the_shift_and_a_power_law_behind_it():
    at = {"A": 2e4, "B": 1e16, "c": 0.25}

    def reducible(x: float) -> float:
        return float(frontier({"x": np.array([x])}, E=0.0, **at)[0])

    assert log_slope(reducible, 1e12) == pytest.approx(0, abs=1e-4)
    assert log_slope(reducible, 1e16) == pytest.approx(-0.125, rel=1e-3)  # half the slope where x = B
    assert log_slope(reducible, 1e20) == pytest.approx(-0.25, rel=1e-3)
    assert reducible(1e20) == pytest.approx(2e4 * 1e20**-0.25, rel=1e-3)
    assert reducible(1e12) != pytest.approx(2e4 * 1e12**-0.25, rel=0.5)  # the plain power law is no such curve


# --- broken power law ------------------------------------------------------------------------------------


def test_bnsl_values_of_released_coefficients():
    # By the formula as printed: E + A * x**-c0 * (1 + (x / d1)**(1 / f1))**(-c1 * f1).
    x = np.array([100, 612.58, 1000, 4000])
    assert bnsl({"x": x}, breaks=1, **RELEASED) == pytest.approx([2.18098, 1.68155, 0.51091, 0.41392], abs=6e-6)


def test_bnsl_slope_behind_each_break_is_the_sum_of_its_changes():
    parts = {"c1": -0.3, "d1": 1e3, "f1": 0.2, "c2": 0.8, "d2": 1e6, "f2": 0.3, "c3": 0.1, "d3": 1e9, "f3": 0.5}

    def reducible(x: float) -> float:
        return float(bnsl({"x": np.array([x])}, breaks=3, E=0.0, A=5.0, c0=0.1, **parts)[0])

    slopes = [log_slope(reducible, x) for x in (1e1, 3e4, 3e7, 1e13)]
    assert slopes == pytest.approx([-0.1, 0.2, -0.6, -0.7], abs=1e-4)
    assert abs(log_slope(reducible, 1e3) - slopes[0]) > 0.1  # at the break itself it is neither


def test_bnsl_is_finite_at_every_corner_of_its_bounds():
    # pytest raises on any warning of overflow.
    rng = np.random.default_rng(0)
    x = np.geomspace(1e-9, 1e15, 20)
    for breaks in (1, 2, 3):
        law = get_law("bnsl", {"breaks": breaks})
        for _ in range(300):
            parameters = {
                p.name: x[rng.integers(20)] if p.quantiles_of else rng.choice([max(p.lower, 1e-6), min(p.upper, 1e4)])
                for p in law.parameters
            }
            assert np.isfinite(law.function({"x": x}, **parameters)).all()
            assert all(np.isfinite(partial).all() for partial in law.partials({"x": x}, parameters))
    with pytest.warns(RuntimeWarning, match="overflow"):
        (x / 1e-9) ** (1 / 0.005)  # what the formula as printed does


@pytest.mark.parametrize("objective", ["lsq_log", "huber_log"])
def test_bnsl_fits_the_published_points_as_well_as_its_authors(objective):
    table = {"examples": EXAMPLES[:14], "loss": ADDITION[:14]}
    found = fit("bnsl", table, x="examples", options={"breaks": 1}, objective=objective, bootstrap=0).values
    predicted = bnsl({"x": EXAMPLES}, breaks=1, **found)
    assert rms(predicted[:14], ADDITION[:14]) <= 6.1e-4
    assert rms(predicted[14:], ADDITION[14:]) <= 0.012
    assert found["d1"] == pytest.approx(RELEASED["d1"], abs=2)
    assert found["c0"] == pytest.approx(RELEASED["c0"], abs=2e-3)


def test_a_power_law_without_a_break_fails_on_the_published_points():
    table = {"examples": EXAMPLES[:14], "loss": ADDITION[:14]}
    found = fit("power_law", table, x="examples", objective="lsq_log", bootstrap=0).values
    predicted = found["E"] + found["A"] * EXAMPLES ** -found["alpha"]
    assert rms(predicted[:14], ADDITION[:14]) > 0.05
    assert rms(predicted[14:], ADDITION[14:]) > 0.3


@pytest.mark.parametrize("example", [MORE_BREAKS[0], pytest.param(MORE_BREAKS[1], marks=pytest.mark.slow)])
def test_several_breaks_are_recovered_and_keep_their_order(example):
    exact = example.fitted(example.draw(np.random.default_rng(0), noise=0.0), bootstrap=0).values
    assert exact == pytest.approx(example.truth, rel=1e-4)
    found = example.fitted(example.draw(np.random.default_rng(1)), bootstrap=20)
    for name, true in example.truth.items():
        assert found.values[name] == pytest.approx(true, rel=example.tolerance.get(name, example.tolerance["default"]))
    # Were breaks exchanged in some resamples, these intervals would reach from one break to another.
    for place in (found.params["d1"], *found.derived.values()):
        assert place.ci95[1] < 1.2 * place.ci95[0]


def test_the_formula_alone_does_not_tell_its_breaks_apart():
    x = np.geomspace(10, 1e9, 30)
    one = bnsl({"x": x}, breaks=2, E=1.0, A=5.0, c0=0.1, c1=-0.3, d1=1e3, f1=0.2, c2=0.8, d2=1e6, f2=0.3)
    other = bnsl({"x": x}, breaks=2, E=1.0, A=5.0, c0=0.1, c1=0.8, d1=1e6, f1=0.3, c2=-0.3, d2=1e3, f2=0.2)
    assert one == pytest.approx(other, rel=1e-12)


def test_places_of_later_breaks_follow_from_the_gaps():
    law = get_law("bnsl", {"breaks": 3})
    found = law.derived({"d1": 1e3, "gap2": np.log(10.0), "gap3": np.log(100.0)})
    assert found == {"d2": pytest.approx(1e4), "d3": pytest.approx(1e6)}
    parts = {"c1": -0.3, "d1": 1e3, "f1": 0.2, "c2": 0.8, "f2": 0.3, "c3": 0.1, "f3": 0.5}
    x, common = np.geomspace(10, 1e9, 30), {"E": 1.0, "A": 5.0, "c0": 0.1}
    by_gaps = law.function({"x": x}, **common, **parts, gap2=np.log(10.0), gap3=np.log(100.0))
    assert by_gaps == pytest.approx(bnsl({"x": x}, breaks=3, **common, **parts, d2=1e4, d3=1e6), rel=1e-12)


@pytest.mark.parametrize("given", [0, 4, 1.5, "two", -1, None])
def test_bnsl_refuses_other_numbers_of_breaks(given):
    with pytest.raises(FitError, match=r"breaks=.* is not allowed; allowed: 1 to 3"):
        find_law("bnsl").resolve({}, {"breaks": given})


def test_bnsl_takes_breaks_as_a_number_or_as_text():
    resolve = find_law("bnsl").resolve
    assert resolve({}, {}) == {"breaks": 1}
    assert resolve({}, {"breaks": 3}) == resolve({}, {"breaks": "3"}) == {"breaks": 3}
    assert [len(get_law("bnsl", {"breaks": n}).parameters) for n in (1, 2, 3)] == [6, 9, 12]  # 3 n + 3


# --- three regions ---------------------------------------------------------------------------------------


def test_hestness_is_the_rectified_law():
    x = np.geomspace(1, 1e12, 40)
    parameters = {"E": 1.069, "L0": 4.463, "x_half": 7.5e4, "beta": 0.4553}
    lin = get_law("hestness").derived(parameters)
    rectified = lin["B"] / (lin["D_l"] + x ** parameters["beta"]) + parameters["E"]
    assert hestness({"x": x}, **parameters) == pytest.approx(rectified, rel=1e-12)
    assert lin["B"] / lin["D_l"] + 1.069 == pytest.approx(4.463, rel=1e-12)  # the loss without data


def test_hestness_has_three_regions_that_meet_at_its_boundaries():
    parameters = {"E": 0.5, "L0": 9.0, "x_half": 1e5, "beta": 0.7}

    def loss(x: float) -> float:
        return float(hestness({"x": np.array([x])}, **parameters)[0])

    x_floor = float(get_law("hestness").derived(parameters)["x_floor"])
    assert loss(1e-3) == pytest.approx(9.0, rel=1e-4)
    assert loss(1e5) == pytest.approx((9.0 + 0.5) / 2, rel=1e-12)
    assert log_slope(lambda x: loss(x) - 0.5, 1e8) == pytest.approx(-0.7, rel=0.01)
    assert 8.5 * (x_floor / 1e5) ** -0.7 == pytest.approx(0.5, rel=1e-12)  # where the power law is down at the floor
    assert loss(1e20) == pytest.approx(0.5, rel=1e-6)
    assert log_slope(loss, 1e-3) == pytest.approx(0, abs=1e-4) == log_slope(loss, 1e20)
    assert log_slope(loss, 1e6) < -0.3


def test_hestness_boundary_is_nan_where_the_curve_rises():
    found = get_law("hestness").derived({"E": 2.0, "L0": 1.0, "x_half": 10.0, "beta": 0.5})
    assert np.isnan(found["x_floor"])


def test_hestness_recovers_the_published_coefficients():
    table = {"examples": SAMPLES, "loss": FINE_TUNING}
    found = fit("hestness", table, x="examples", objective="lsq_log", bootstrap=0)
    assert found.derived["B"].value == pytest.approx(563.8, rel=1e-3)
    assert found.derived["D_l"].value == pytest.approx(166.1, rel=1e-3)
    assert found.values["beta"] == pytest.approx(0.4553, rel=1e-3)
    assert found.values["E"] == pytest.approx(1.069, rel=1e-3)
    assert rms(hestness({"x": SAMPLES}, **found.values), FINE_TUNING) == pytest.approx(0.0027, rel=0.02)

    plain = fit("power_law", table, x="examples", objective="lsq_log", bootstrap=0).values
    predicted = plain["E"] + plain["A"] * SAMPLES ** -plain["alpha"]
    assert rms(predicted, FINE_TUNING) > 0.03  # it has no plateau


@pytest.mark.parametrize(("n", "error"), [(7, -0.17), (10, 0.02)])
def test_the_plateau_alone_does_not_foretell_the_floor(n, error):
    # Lin et al. 2024: too few points beyond the plateau leave the last one 17 % off, ten points 2 %.
    table = {"examples": SAMPLES[:n], "loss": FINE_TUNING[:n]}
    found = fit("hestness", table, x="examples", objective="lsq_log", bootstrap=0).values
    last = hestness({"x": SAMPLES[-1:]}, **found)[0] / FINE_TUNING[-1] - 1
    assert last == pytest.approx(error, abs=0.01)

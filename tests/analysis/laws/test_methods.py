"""Two-part models, density over time, and sizes and compute against a reference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.fitter.law import FitResult
from analysis.laws import methods
from analysis.laws.chinchilla import chinchilla, optimum
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


@pytest.fixture(scope="module")
def reference() -> FitResult:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(2e7, 2e9, 5)))
    table = {"n_params": n, "n_tokens": d, "loss": chinchilla({"n_params": n, "n_tokens": d}, **TRUTH)}
    return fit("chinchilla", table, bootstrap=0)


@pytest.fixture(scope="module")
def ladder() -> FitResult:
    flops = np.geomspace(1e15, 1e19, 12)
    return fit("power_law", {"flops": flops, "loss": 1.9 + 60 * flops**-0.095}, x="flops", bootstrap=0)


# --- two parts -------------------------------------------------------------------------------------------


def test_the_best_share_of_the_encoder_is_its_share_of_the_exponents():
    parameters = {"E": 1.0, "A": 110.0, "p_e": 0.12, "p_d": 0.2}
    share = np.linspace(0.01, 0.99, 981)

    def lowest(total: float) -> tuple[float, float]:
        loss = methods.bivariate(
            {"n_params_encoder": share * total, "n_params_decoder": (1 - share) * total}, **parameters
        )
        return float(share[np.argmin(loss)]), float(loss.min() - 1.0)

    found = get_law("bivariate").derived(parameters)
    (at_1e8, loss_1e8), (at_1e9, loss_1e9) = lowest(1e8), lowest(1e9)
    assert at_1e8 == at_1e9 == pytest.approx(float(found["encoder_share"]), abs=1e-3)
    assert math.log10(loss_1e8 / loss_1e9) == pytest.approx(float(found["p_total"]), rel=1e-9)
    assert abs(at_1e8 - 0.5) > 0.1  # equal parts are best for equal exponents only


def test_the_total_alone_does_not_determine_the_loss():
    # Ghorbani et al. 2021: the total number of parameters is not sufficient.
    parameters = {"E": 1.0, "A": 110.0, "p_e": 0.12, "p_d": 0.2}
    encoder = np.array([1e8, 9e8])
    loss = methods.bivariate({"n_params_encoder": encoder, "n_params_decoder": 1e9 - encoder}, **parameters)
    assert loss[1] > loss[0] * 1.03


# --- density ---------------------------------------------------------------------------------------------


def test_density_doubles_in_its_doubling_time():
    parameters = {"density0": 0.3, "rate": 0.21}
    months = float(get_law("densing").derived(parameters)["doubling_time"])
    assert months == pytest.approx(3.3, abs=0.01)  # Xiao et al. 2024
    early, late = methods.densing({"time": np.array([-7.0, -7.0 + months])}, **parameters)
    assert late == pytest.approx(2 * early, rel=1e-12)
    assert get_law("densing").derived({"density0": 0.3, "rate": -0.21})["doubling_time"] < 0


def test_densing_law_from_losses(reference):
    """The whole way: losses of models that are ever denser than the reference -> densities -> the doubling time."""
    time = np.linspace(0, 12, 10)
    n_params, n_tokens = np.full(10, 4e6), np.full(10, 4e8)
    effective = n_params * np.exp(0.2 * time)
    loss = chinchilla({"n_params": effective, "n_tokens": n_tokens}, **TRUTH)
    density = methods.effective_params(reference, loss, n_tokens) / n_params
    found = fit("densing", {"time": time, "density": density}, bootstrap=0)
    assert found.values["rate"] == pytest.approx(0.2, rel=1e-4)
    assert found.values["density0"] == pytest.approx(1.0, rel=1e-3)


# --- against a reference ---------------------------------------------------------------------------------


def test_effective_size_of_the_reference_is_its_size(reference):
    n, d = np.meshgrid([1e6, 1e7, 1e8], [2e7, 3e8])
    loss = chinchilla({"n_params": n, "n_tokens": d}, **reference.values)
    assert methods.effective_params(reference, loss, d) == pytest.approx(n, rel=1e-9)
    assert methods.effective_params(reference, loss * 0.99, d)[0, 1] > 1.05e7  # and a lower loss is worth more


def test_effective_size_is_nan_outside_of_the_reference(reference):
    def loss(n: float, d: float) -> float:
        return float(chinchilla({"n_params": np.array(n), "n_tokens": np.array(d)}, **reference.values))

    found = methods.effective_params(
        reference,
        [loss(9e5, 1e9), loss(1.1e8, 1e9), 1.0, loss(1e7, 1e7), loss(1e7, 3e9), loss(1e7, 1e9)],
        [1e9, 1e9, 1e9, 1e7, 3e9, 1e9],
    )
    assert np.isnan(found).tolist() == [True] * 5 + [False]


def test_effective_size_from_a_power_law_of_size():
    n = np.geomspace(1e6, 1e8, 8)
    found = fit("power_law", {"n_params": n, "loss": 2 + 30 * n**-0.2}, x="n_params", bootstrap=0)
    assert methods.effective_params(found, 2 + 30 * 5e6**-0.2) == pytest.approx(5e6, rel=1e-3)
    with pytest.raises(FitError, match="n_tokens: have no say"):
        methods.effective_params(found, 3.0, 1e9)


def test_multiplier_is_one_for_the_reference_and_inverse_to_compute(ladder):
    flops = np.array([1e15, 3e16, 1e19])
    loss = ladder.values["E"] + ladder.values["A"] * flops ** -ladder.values["alpha"]
    assert methods.compute_multiplier(ladder, loss, flops) == pytest.approx(1, rel=1e-9)
    assert methods.compute_multiplier(ladder, loss, 2 * flops) == pytest.approx(0.5, rel=1e-9)
    assert np.isnan(methods.compute_multiplier(ladder, [1.5, 6.0, 1.9001], 1e17)).all()


def test_multiplier_against_the_best_allocation(reference):
    p = {name: reference.values[name] for name in ("A", "B", "alpha", "beta")}
    n, d = optimum(1e16, **p)
    loss = chinchilla({"n_params": n, "n_tokens": d}, **reference.values)
    assert methods.effective_flops(reference, loss) == pytest.approx(1e16, rel=1e-9)
    # A run of the same family at another allocation wastes compute.
    worse = chinchilla({"n_params": 4 * n, "n_tokens": d / 4}, **reference.values)
    assert methods.compute_multiplier(reference, worse, 1e16) < 0.8
    assert np.isnan(methods.effective_flops(reference, [1.81, 20.0])).all()


def test_multiplier_against_a_frontier():
    flops = np.geomspace(1e14, 1e20, 24)
    loss = 1.9 + 1.9e4 * (flops + 2e16) ** -0.25
    found = fit("frontier", {"flops": flops, "loss": loss}, x="flops", bootstrap=0)
    assert methods.compute_multiplier(found, loss[8:], flops[8:]) == pytest.approx(1, rel=1e-3)


def test_other_laws_and_columns_are_refused(reference, ladder):
    with pytest.raises(FitError, match="n_tokens: is missing"):
        methods.effective_params(reference, 3.0)
    with pytest.raises(FitError, match="power_law: was fitted over flops; allowed: over n_params"):
        methods.effective_params(ladder, 3.0)
    other = fit("densing", {"time": np.arange(6.0), "density": np.exp(np.arange(6.0))}, bootstrap=0)
    with pytest.raises(FitError, match="densing: is no reference"):
        methods.effective_flops(other, 3.0)

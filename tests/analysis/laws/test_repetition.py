"""Laws of repetition against published numbers, their limits, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.fitter.formula import complex_step
from analysis.laws.chinchilla import chinchilla
from analysis.laws.repetition import (
    LAWS,
    best_pools,
    data_constrained,
    effective,
    optimal_size,
    pooled_loss,
    quality_repetition,
)
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_repetition import BASE, EXAMPLES, WORTH

CONSTRAINED, QUALITY = LAWS
POOL = {"E": 1.8, "n_one": 1e7}


def _loss(n_params: Any, n_tokens: Any, n_unique_tokens: Any, **changes: float) -> Any:
    table = {"n_params": n_params, "n_tokens": n_tokens, "n_unique_tokens": n_unique_tokens}
    table = {name: np.atleast_1d(np.asarray(values, dtype=float)) for name, values in table.items()}
    assert CONSTRAINED.read is not None
    return data_constrained(CONSTRAINED.read(table, {}), **BASE | WORTH | changes)


# --- effective data --------------------------------------------------------------------------------------


def test_published_law_has_its_published_losses() -> None:
    """From the released code of Muennighoff et al. 2023 with its constants for C4."""
    assert _loss(6.34e9, 242e9, 25e9)[0] == pytest.approx(2.2256440889984477, rel=1e-12)
    assert _loss(8.67e9, 178e9, 25e9)[0] == pytest.approx(2.2269634075087867, rel=1e-12)
    assert _loss(6.34e9, 242e9, 25e9, R_N=1e9)[0] < 2.2255  # excess parameters matter there


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1), (2, 0.984), (4, 0.931), (8, 0.828), (16, 0.661), (40, 0.379)])
def test_worth_of_repeated_data(epochs: float, worth: float) -> None:
    """D' / D for the published R_D."""
    assert effective(1.0, epochs - 1, WORTH["R_D"]) / epochs == pytest.approx(worth, abs=5e-4)


def test_fresh_data_and_few_parameters_are_the_law_of_hoffmann() -> None:
    n_params, n_tokens = np.array([1e7, 1e8, 4e8]), np.full(3, 1e10)
    columns = {"n_params": n_params, "n_tokens": n_tokens}
    plain = chinchilla(columns, **BASE)
    np.testing.assert_allclose(_loss(n_params, n_tokens, n_tokens), plain, rtol=1e-13)
    np.testing.assert_allclose(_loss(n_params, n_tokens, 5 * n_tokens), plain, rtol=1e-13)  # more than was used
    # Data and parameters that never lose their worth, too, although 1 - exp(-x) would lose its digits there.
    many = {"R_D": 1e15, "R_N": 1e15}
    np.testing.assert_allclose(
        _loss(100 * n_params, n_tokens, n_tokens / 50, **many),
        chinchilla(columns | {"n_params": 100 * n_params}, **BASE),
        rtol=1e-12,
    )
    assert abs(1 + 1e15 * (1 - np.exp(-49 / 1e15)) - 50) > 0.01
    # Negative control: repetition costs.
    assert (_loss(n_params, n_tokens, n_tokens / 50) > plain + 0.01).all()


def test_worth_is_bounded() -> None:
    assert effective(1.0, 1e9, WORTH["R_D"]) == pytest.approx(16.387756, rel=1e-9)
    assert _loss(1e9, 1e14, 1e10)[0] == pytest.approx(_loss(1e9, 5e13, 1e10)[0], rel=1e-9)
    assert _loss(1e9, 1e11, 1e10)[0] < _loss(1e9, 5e10, 1e10)[0] - 1e-3


def test_optimal_size_balances_the_terms() -> None:
    """At N_opt(D), moving compute from N to D at fixed N D gains nothing; 19.6 tokens per published parameter."""
    plain = {name: BASE[name] for name in ("A", "B", "alpha", "beta")}
    size = optimal_size(1e10, **plain)
    assert size / 1e10 == pytest.approx(0.05099, rel=1e-3)
    for constants in (plain, plain | {"beta": 0.28}):
        size = optimal_size(1e10, **constants)
        around = size * np.array([0.9, 1.0, 1.1])
        losses = chinchilla({"n_params": around, "n_tokens": 1e10 * size / around}, E=0.0, **constants)
        assert np.argmin(losses) == 1


@pytest.mark.parametrize("n_params", [1e8, 5e9], ids=["below_optimum", "beyond_optimum"])
def test_derivatives_hold_on_both_sides_of_the_optimum(n_params: float) -> None:
    assert CONSTRAINED.read is not None
    table = {"n_params": np.array([n_params]), "n_tokens": np.array([8e10]), "n_unique_tokens": np.array([1e10])}
    columns, truth = CONSTRAINED.read(table, {}), BASE | WORTH
    exact = complex_step(data_constrained, columns, {name: np.array(value) for name, value in truth.items()})
    given = CONSTRAINED.gradient(columns, **truth)
    for name, slope, analytic in zip(truth, exact, given, strict=True):
        np.testing.assert_allclose(analytic, slope, rtol=1e-10, atol=1e-14, err_msg=name)
        h = 1e-5 * truth[name]
        ends = [data_constrained(columns, **truth | {name: truth[name] + sign * h}) for sign in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-5, atol=1e-9, err_msg=name)
    assert (exact[6] == 0).all() == (n_params < 4e8)  # R_N acts beyond the optimum only


def test_a_ridge_is_reported() -> None:
    """Where epochs and excess size grow together, R_D can be anything if R_N makes up for it."""
    rng = np.random.default_rng(0)
    epochs, unique = np.geomspace(2, 10, 24), np.resize([5e8, 2e9], 24)
    narrow = {"n_params": 0.05099 * epochs * unique, "n_tokens": epochs * unique, "n_unique_tokens": unique}
    narrow["loss"] = _loss(**narrow) * np.exp(0.004 * rng.standard_normal(24))
    wide = EXAMPLES[1].draw(rng)
    doubtful, sound = (
        fit("data_constrained", table, fixed=BASE, bootstrap=100, profiles=["R_D"]) for table in (narrow, wide)
    )

    for result, is_sound in ((doubtful, False), (sound, True)):
        low, high = result.params["R_D"].ci95
        assert (high / low < 1.3) == is_sound
        low, high = result.profiles["R_D"]["ci95"]
        assert (high is not None and high / low < 1.3) == is_sound
    assert any("condition number" in warning for warning in doubtful.warnings)
    assert not any("condition number" in warning for warning in sound.warnings)


# --- decaying utility ------------------------------------------------------------------------------------


def _pool(n_tokens: Any, **changes: float) -> Any:
    n_tokens = np.atleast_1d(np.asarray(n_tokens, dtype=float))
    assert QUALITY.read is not None
    columns = QUALITY.read({"n_tokens": n_tokens, "n_unique_tokens": np.full(len(n_tokens), 1e9)}, {})
    return quality_repetition(columns, **{"E": 1.8, "A": 120.0, "b": 0.25, "tau": 4.0} | changes)


@pytest.mark.parametrize("epoch", [0, 1, 2, 5])
def test_utility_is_the_slope_and_decays_with_each_epoch(epoch: int) -> None:
    n = (epoch + np.array([0.4, 0.6])) * 1e9
    slope = np.diff(np.log(_pool(n) - 1.8))[0] / np.diff(np.log(n))[0]
    assert slope == pytest.approx(-0.25 * 2 ** (-epoch / 4), rel=1e-9)


def test_loss_is_continuous_where_an_epoch_ends() -> None:
    for epochs in (1, 2, 3):
        before, after = _pool(np.array([epochs * (1 - 1e-12), epochs * (1 + 1e-12)]) * 1e9)
        assert before == pytest.approx(after, rel=1e-10)


def test_limits_of_the_half_life() -> None:
    n = np.array([0.3, 1, 2.5, 8, 40]) * 1e9
    np.testing.assert_allclose(_pool(n, tau=1e12), 1.8 + 120 * n**-0.25, rtol=1e-9)
    np.testing.assert_allclose(_pool(n, tau=1e-3), 1.8 + 120 * np.minimum(n, 1e9) ** -0.25, rtol=1e-12)
    assert (np.diff(_pool(n)) < 0).all()
    assert np.abs(_pool(n) - _pool(n, tau=1e12)).max() > 0.05


def test_one_pool_is_the_law_and_equal_pools_are_a_larger_one() -> None:
    """Two equal pools are one of twice the size whose half-life, by the theorem, is doubled."""
    n = np.array([0.5, 1, 3.3, 10, 40]) * 1e9
    A = POOL["n_one"] ** 0.25
    one = pooled_loss(n, 1e9, **POOL, b_P=0.25, tau_P=4.0)
    np.testing.assert_allclose(one, _pool(n, A=A), rtol=1e-12)
    two = pooled_loss(n, 1e9, **POOL, b_P=[0.25, 0.25], tau_P=[4.0, 4.0])
    np.testing.assert_allclose(two, pooled_loss(n, 2e9, **POOL, b_P=0.25, tau_P=8.0), rtol=1e-12)
    assert (two[:2] == one[:2]).all()
    assert (two[2:] < one[2:] - 1e-3).all()


def test_more_compute_wants_more_pools() -> None:
    b, tau = np.array([0.24, 0.30, 0.20, 0.27]), np.full(4, 2.0)
    chosen = [best_pools(n, 1e9, **POOL, b_P=b, tau_P=tau).tolist() for n in (1e9, 1e10, 1e11)]
    assert chosen[0] == [1]
    assert chosen[1][:2] == [1, 3]
    assert len(chosen[0]) < len(chosen[1]) < len(chosen[2])
    # Data that never tire leave no reason to mix.
    assert best_pools(1e11, 1e9, **POOL, b_P=b, tau_P=np.full(4, 1e9)).tolist() == [1]


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_tokens": 0.0}, "n_tokens: "),
        ({"b_P": [0.3, -0.1]}, "b: .* is not allowed; allowed: finite numbers > 0"),
        ({"tau_P": [1.0, np.nan]}, "tau: "),
        ({"tau_P": [1.0]}, "tau: of 1 pools; allowed: 2"),
    ],
)
def test_pools_refuse(keywords: dict[str, Any], message: str) -> None:
    good = {"n_tokens": 1e9, "pool_tokens": 1e9, "b_P": [0.3, 0.2], "tau_P": [2.0, 2.0]} | POOL
    pooled_loss(**good)
    with pytest.raises(FitError, match=message):
        pooled_loss(**good | keywords)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_tables_refuse(law: Any) -> None:
    good = {"n_params": np.full(2, 1e8), "n_tokens": np.array([1e9, 1e12]), "n_unique_tokens": np.full(2, 1e9)}
    law.read(good, {})
    with pytest.raises(FitError, match=r"n_unique_tokens: 1e\+06 epochs in row 2; allowed: at most 10000"):
        law.read(good | {"n_unique_tokens": np.full(2, 1e6)}, {})
    with pytest.raises(FitError, match="n_unique_tokens: no such column"):
        law.read({name: values for name, values in good.items() if name != "n_unique_tokens"}, {})
    with pytest.raises(FitError, match="n_unique_tokens: 0 in row 1 is not allowed"):
        law.read(good | {"n_unique_tokens": np.zeros(2)}, {})

"""What a formula predicts: at its constants, with intervals of its resamples and of its residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitter import predict
from analysis.fitter.law import Law
from analysis.fitter.predict import MOST_RESIDUALS, predict_formula
from analysis.laws.registry import get_law

X = {"x": np.geomspace(1e6, 1e9, 5)}
VALUES = {"A": 30.0, "alpha": 0.2}
NONE = np.zeros(1)


def law() -> Law:
    found = get_law("power_law_no_offset").single
    assert found is not None
    return found


def predicted(draws: dict[str, Any] | None = None, noise: Any = NONE, *, log: bool = True) -> dict[str, Any]:
    return predict_formula(law(), X, VALUES, draws or {}, np.asarray(noise), log=log)


def resamples(n: int = 200, spread: float = 0.01) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: value * np.exp(spread * rng.standard_normal((n, 1))) for name, value in VALUES.items()}


def test_without_resamples_there_is_the_formula_alone() -> None:
    alone = predicted()
    assert alone.keys() == {"predicted"}
    assert alone["predicted"] == pytest.approx(30 * X["x"] ** -0.2)


@pytest.mark.parametrize("log", [True, False])
def test_resamples_that_agree_and_no_noise_have_no_width(log: bool) -> None:
    same = {name: np.full((20, 1), value) for name, value in VALUES.items()}
    answer = predicted(same, log=log)
    assert answer.keys() == {"predicted", "lo95", "hi95", "pi_lo95", "pi_hi95"}
    for end in ("lo95", "hi95", "pi_lo95", "pi_hi95"):
        assert answer[end] == pytest.approx(answer["predicted"])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=30).map(lambda noise: [*noise, *(-r for r in noise)]))
def test_a_measurement_is_less_sure_than_the_mean(noise: list[float]) -> None:
    """Where residuals lie on both sides."""
    answer = predicted(resamples(40), noise)
    assert (answer["lo95"] <= answer["hi95"]).all()
    assert (answer["pi_hi95"] / answer["pi_lo95"] >= answer["hi95"] / answer["lo95"] - 1e-9).all()


def test_a_residual_is_predicted_less_measured() -> None:
    """So that where predictions were too high, a measurement lies below."""
    same = {name: np.full((20, 1), value) for name, value in VALUES.items()}
    for log, below in ((True, np.exp(-0.1)), (False, None)):
        answer = predicted(same, [0.1], log=log)
        wanted = answer["predicted"] * below if below else answer["predicted"] - 0.1
        assert answer["pi_lo95"] == pytest.approx(wanted)
        assert answer["pi_hi95"] == pytest.approx(wanted)


def test_noise_of_a_logarithm_is_a_share_of_the_target() -> None:
    noise = np.linspace(-0.1, 0.1, 101)
    widths = {}
    for log in (True, False):
        answer = predicted(resamples(40, 0.0), noise, log=log)
        widths[log] = answer["pi_hi95"] - answer["pi_lo95"]
    assert widths[True] / (30 * X["x"] ** -0.2) == pytest.approx(widths[True][0] / (30 * X["x"][0] ** -0.2))
    assert widths[False] == pytest.approx(widths[False][0])


def test_quantiles_stand_for_many_residuals() -> None:
    noise = 0.02 * np.random.default_rng(1).standard_normal(20 * MOST_RESIDUALS)
    many, few = (predicted(resamples(40), chosen) for chosen in (noise, noise[:MOST_RESIDUALS]))
    whole = np.quantile(noise, [0.025, 0.975])
    alone = predicted(resamples(40, 0.0), noise)
    assert np.log(alone["pi_hi95"] / alone["predicted"]) == pytest.approx(-whole[0], rel=0.06)
    assert np.log(alone["pi_lo95"] / alone["predicted"]) == pytest.approx(-whole[1], rel=0.06)
    assert not np.allclose(many["pi_hi95"], few["pi_hi95"], rtol=1e-6)


def test_resamples_in_parts_predict_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted(resamples(), [0.01, -0.01])
    monkeypatch.setattr(predict, "MOST_VALUES", 35)
    parts = predicted(resamples(), [0.01, -0.01])
    for name, values in whole.items():
        assert (values == parts[name]).all()


def test_a_mean_that_is_not_positive_has_a_logarithm_too_small_to_matter() -> None:
    negative = {"A": np.array([[-30.0], [30.0], [30.0]]), "alpha": np.full((3, 1), 0.2)}
    answer = predicted(negative)
    assert np.isfinite([answer[end] for end in ("lo95", "hi95", "pi_lo95", "pi_hi95")]).all()
    assert (answer["lo95"] < 1e-6).all()

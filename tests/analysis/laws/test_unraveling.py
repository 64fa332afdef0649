"""Curves of small models give the constants back, and the curves of other sizes and batch sizes with them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitter.procedure import Steps
from analysis.laws.kaplan import kaplan_steps
from analysis.laws.unraveling import curve_loss, estimate, predict, steps_to_loss
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_kaplan import CURVE_CONSTANTS, curves

# Bisection of the published constants (Kaplan et al. 2020, table 3 and section 5.1) at S = 1e3, 1e4, 1e5.
REFERENCE = {
    (1e6, 2**19): (5.8641, 4.3767, 4.0672),
    (1e6, 2**16): (6.3413, 4.6896, 4.1604),
    (1e7, 2**19): (5.2848, 3.7964, 3.4386),
    (1e7, 2**16): (5.9121, 4.2437, 3.6004),
    (1e8, 2**19): (4.8345, 3.3575, 2.9334),
    (1e8, 2**16): (5.5949, 3.9246, 3.1825),
}
HELD_OUT = {
    "n_params": np.repeat([4e8, 6e7, 1e7], 6),
    "batch_tokens": np.repeat([2.0**17, 2.0**15, 2.0**22], 6),
    "step": np.tile(np.geomspace(1e3, 1e5, 6), 3),
}


def resampled(table: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Weights of the points (1 + count, N), with whole curves drawn."""
    codes = table["curve"].astype(int)
    n_curves = codes.max() + 1
    drawn = np.random.default_rng(1).multinomial(n_curves, np.full(n_curves, 1 / n_curves), size=count)
    return np.concatenate([np.ones((1, n_curves)), drawn])[:, codes]


def estimated(table: dict[str, np.ndarray], resamples: int = 0) -> Steps:
    return estimate(table, table["loss"], resampled(table, resamples), {})


def first(steps: Steps) -> dict[str, float]:
    return {name: float(values[0]) for name, values in steps.params.items()}


def rows(table: dict[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[keep] for name, values in table.items()}


# --- prediction ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "losses"), REFERENCE.items())
def test_curves_of_the_published_constants(setting: tuple[float, float], losses: tuple[float, ...]) -> None:
    assert curve_loss(*setting, np.array([1e3, 1e4, 1e5]), **CURVE_CONSTANTS) == pytest.approx(losses, abs=1e-3)


def test_curve_and_steps_are_inverse() -> None:
    loss = curve_loss(*HELD_OUT.values(), **CURVE_CONSTANTS)
    steps = steps_to_loss(loss, HELD_OUT["n_params"], HELD_OUT["batch_tokens"], **CURVE_CONSTANTS)
    assert steps == pytest.approx(HELD_OUT["step"], rel=1e-9)
    assert steps_to_loss(2.0, 1e6, 2**19, **CURVE_CONSTANTS) == np.inf  # below what a million parameters can reach


def test_loss_falls_with_steps_size_and_batch_down_to_the_law_of_steps() -> None:
    for name in ("step", "n_params", "batch_tokens"):
        at = {"n_params": 1e7, "batch_tokens": 2e5, "step": 1e4}
        at[name] = at[name] * np.geomspace(0.01, 100, 41)
        assert (np.diff(curve_loss(**at, **CURVE_CONSTANTS)) < 0).all()
    steps = np.geomspace(1e3, 1e6, 7)
    c = CURVE_CONSTANTS
    adjusted = kaplan_steps(
        {"n_params": np.full(7, 1e7), "min_steps": steps},
        A_N=c["N_c"] ** c["alpha_N"],
        A_S=c["S_c"] ** c["alpha_S"],
        alpha_N=c["alpha_N"],
        alpha_S=c["alpha_S"],
    )
    assert curve_loss(1e7, 1e15, steps, **c) == pytest.approx(adjusted, rel=1e-6)
    assert (curve_loss(1e7, 1e5, steps, **c) > adjusted * 1.001).all()


# --- estimation ------------------------------------------------------------------------------------------


def test_curves_without_noise_give_the_constants_back() -> None:
    found = first(estimated(curves(np.random.default_rng(0), noise=0.0, points=60)))
    for name, value in CURVE_CONSTANTS.items():
        assert found[name] == pytest.approx(value, rel=5e-3 if name in ("N_c", "B_star") else 5e-4), name


def test_noisy_curves_predict_other_sizes_and_batches() -> None:
    steps = estimated(curves(np.random.default_rng(0), noise=0.005), resamples=200)
    truth = curve_loss(*HELD_OUT.values(), **CURVE_CONSTANTS)
    predicted = predict(HELD_OUT, **first(steps))
    assert predicted["predicted"] == pytest.approx(truth, rel=0.01)
    assert steps.warnings == ()
    for name, value in CURVE_CONSTANTS.items():
        low, high = np.nanquantile(steps.params[name][1:], [0.025, 0.975])
        assert low < value < high, name
    assert np.isfinite(steps.params["alpha_B"]).mean() > 0.95

    # Without the critical batch size the same constants miss the small batches.
    one_batch_for_all = predict(HELD_OUT, **first(steps) | {"B_star": 1.0})["predicted"]
    assert np.abs(one_batch_for_all / truth - 1).max() > 0.05


def test_fit_reads_curves_by_name_and_predicts_with_intervals() -> None:
    table = curves(np.random.default_rng(0), noise=0.005)
    named = table | {"curve": np.array([f"run-{code:.0f}" for code in table["curve"]])}
    result = fit("unraveling", named, bootstrap=60)
    assert result.values == pytest.approx(first(estimated(table)), rel=1e-9)
    found = result.predict(HELD_OUT)
    truth = curve_loss(*HELD_OUT.values(), **CURVE_CONSTANTS)
    assert found["predicted"] == pytest.approx(truth, rel=0.01)
    assert ((found["predicted_lo95"] < truth) & (truth < found["predicted_hi95"])).mean() > 0.9
    assert (found["predicted_hi95"] / found["predicted_lo95"] < 1.02).all()
    with pytest.raises(FitError, match="curve: no such column"):
        fit("unraveling", {name: values for name, values in table.items() if name != "curve"})


def test_constants_of_a_resample_that_determines_none_predict_nothing() -> None:
    assert np.isnan(predict(HELD_OUT, **dict.fromkeys(CURVE_CONSTANTS, np.nan))["predicted"]).all()


def test_adjusted_steps_make_batches_coincide() -> None:
    """Of one size, the loss at a given number of steps spreads with the batch, at a given S_min it does not."""
    points = estimated(curves(np.random.default_rng(0), noise=0.002)).points
    several = points["n_params"] == np.unique(points["n_params"])[5]

    def spread(column: str) -> float:
        order = np.argsort(points[column][several])
        loss = points["loss"][several][order]
        return float(np.abs(np.diff(np.log(loss))).mean())

    assert spread("min_steps") < 0.005 < 0.05 < spread("step")


def test_order_of_rows_does_not_matter_and_weights_count_curves() -> None:
    table = curves(np.random.default_rng(0), noise=0.005)
    found = first(estimated(table))
    shuffled = np.random.default_rng(2).permutation(len(table["step"]))
    assert first(estimated(rows(table, shuffled))) == pytest.approx(found, rel=1e-9)

    twice = table["curve"] == 9
    copy = rows(table, twice) | {"curve": np.full(twice.sum(), 99.0)}
    doubled = {name: np.concatenate([values, copy[name]]) for name, values in table.items()}
    weighted = estimate(table, table["loss"], (1.0 + twice)[None], {})
    assert first(weighted) == pytest.approx(
        first(estimate(doubled, doubled["loss"], np.ones((1, len(doubled["loss"]))), {})), rel=1e-6
    )
    assert first(weighted) != pytest.approx(found, rel=1e-6)


def test_curves_that_the_laws_do_not_describe_get_a_warning() -> None:
    table = curves(np.random.default_rng(0), noise=0.002)

    def annealed(by: float) -> dict[str, np.ndarray]:
        return table | {"loss": table["loss"] * (1 - by * (table["step"] > 1e4))}

    assert estimated(annealed(0.0)).warnings == ()
    assert any("do not describe" in sentence for sentence in estimated(annealed(0.05)).warnings)
    with pytest.raises(FitError, match="allowed: longer curves of constant learning rate"):
        estimated(annealed(0.15))


def test_batches_on_one_side_of_the_critical_one_get_a_warning() -> None:
    table = curves(np.random.default_rng(0), noise=0.002)
    large = rows(table, table["batch_tokens"] >= 2**19)
    assert any("B_crit lies outside" in sentence for sentence in estimated(large).warnings)


def test_bad_curves_are_refused() -> None:
    table = curves(np.random.default_rng(0), noise=0.002)
    one_size = rows(table, table["n_params"] == table["n_params"][0])
    with pytest.raises(FitError, match="in every curve; at least two sizes"):
        estimated(one_size)
    with pytest.raises(FitError, match="batch_tokens: no size has curves of 3 batch sizes"):
        estimated(rows(table, (table["curve"] < 9)))
    with pytest.raises(FitError, match="in one curve; allowed: one value in each curve"):
        estimated(table | {"curve": np.where(table["curve"] == 3, 2, table["curve"])})
    with pytest.raises(FitError, match="step: 300 stands twice in the curve of"):
        estimated(rows(table, np.r_[0, np.arange(len(table["step"]))]))
    with pytest.raises(FitError, match="fewer than 4 points after a tenth of its steps"):
        estimated(rows(table, (table["curve"] != 4) | (table["step"] < 1e3) | (table["step"] > 2.7e4)))
    rising = table | {"batch_tokens": 2.0**34 / table["batch_tokens"]}
    with pytest.raises(FitError, match="batch_tokens: "):
        estimated(rising)

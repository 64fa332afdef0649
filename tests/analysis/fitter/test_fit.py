"""The fitter recovers what is known, reaches published optima, gives honest intervals, and says what is unsure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fits.files import read_fit
from analysis.fitter.fit_json import to_json
from analysis.fitter.law import FitResult
from analysis.fitter.solve import Problem, huber, minimise
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import TRUTH, chinchilla_points, fit, points_as_rows
from train.record.files import write_json

EPOCH = Path(__file__).parents[4] / "shared/reference/chinchilla_epoch/points.csv"
needs_epoch = pytest.mark.skipif(not EPOCH.exists(), reason="the published points are not in ../shared/reference")


def far_off(result: FitResult, truth: dict[str, float]) -> float:
    """Largest relative distance of a parameter from the truth."""
    return max(abs(result.values[name] / value - 1) for name, value in truth.items())


# --- recovery --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["huber_log", "lsq", "lad"])
def test_exact_points_give_back_the_law(objective: str) -> None:
    result = fit("chinchilla", chinchilla_points(), objective=objective, bootstrap=0)
    assert far_off(result, TRUTH) < 1e-5
    assert result.convergence["reached"]
    # the other way: points of another law must not give back this one
    other = chinchilla_points() | {"loss": chinchilla_points()["loss"] ** 1.1}
    assert far_off(fit("chinchilla", other, objective=objective, bootstrap=0), TRUTH) > 1e-2


@pytest.mark.parametrize(("law", "truth"), [
    ("power_law", {"E": 1.5, "A": 300.0, "alpha": 0.4}),
    ("power_law_no_offset", {"A": 30.0, "alpha": 0.07}),
])  # fmt: skip
def test_power_laws_give_back_their_constants(law: str, truth: dict[str, float]) -> None:
    x = np.geomspace(1e5, 1e9, 12)
    points = {"n_tokens": x, "loss": get_law(law).function({"x": x}, **truth)}
    result = fit(law, points, x="n_tokens", bootstrap=0)
    assert far_off(result, truth) < 1e-6
    assert result.columns == {"x": "n_tokens"}


def test_bad_starts_reach_the_same_optimum_as_the_grid() -> None:
    points = chinchilla_points(noise=0.005)
    rng = np.random.default_rng(1)
    bad = np.column_stack([
        np.exp(rng.uniform(-5, 2, 60)),  # E
        np.exp(rng.uniform(-5, 25, 60)),  # A
        np.exp(rng.uniform(-5, 25, 60)),  # B
        rng.uniform(0, 3, 60),
        rng.uniform(0, 3, 60),
    ])  # fmt: skip
    good = fit("chinchilla", points, delta=0.01, bootstrap=0)
    found = fit("chinchilla", points, delta=0.01, bootstrap=0, starts=bad)
    assert found.objective["value"] == pytest.approx(good.objective["value"], rel=1e-9)
    assert found.starts["best"] >= 0.8 * found.starts["n"]


def test_one_step_is_not_enough_and_is_reported_as_such() -> None:
    points = chinchilla_points(noise=0.005)
    centred = {name: values / np.exp(np.log(values).mean()) for name, values in points.items() if name != "loss"}
    problem = Problem(get_law("chinchilla"), centred, points["loss"], log=True)
    start = np.array([[0.0, 1.0, 1.0, 1.0, 1.0]])
    assert not minimise(problem, start, np.ones((1, 1)), 1e-3, max_iterations=1).converged.any()
    assert minimise(problem, start, np.ones((1, 1)), 1e-3).converged.all()


def test_an_outlier_moves_least_squares_but_not_huber() -> None:
    shift: dict[float, list[float]] = {0.01: [], float("inf"): []}
    for seed in range(20):
        points = chinchilla_points(noise=0.005, seed=seed)
        spoiled = points | {"loss": points["loss"] + 0.5 * (np.arange(42) == 2 * seed)}
        for delta, moved in shift.items():
            clean, bent = (
                fit("chinchilla", table, delta=delta, bootstrap=0).values["E"] for table in (points, spoiled)
            )
            moved.append(bent - clean)
    root_mean_square = {delta: float(np.sqrt(np.mean(np.square(moved)))) for delta, moved in shift.items()}
    assert root_mean_square[0.01] < 0.03 < 0.06 < root_mean_square[float("inf")], root_mean_square


# --- arithmetic ------------------------------------------------------------------------------------------


@given(st.floats(-1, 1), st.floats(1e-4, 2))
def test_huber_is_quadratic_then_linear(residual: float, delta: float) -> None:
    size = abs(residual)
    expected = size**2 / 2 if size <= delta else delta * (size - delta / 2)
    assert huber(np.array(residual), delta) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(random) -> None:
    points = chinchilla_points(noise=0.005)
    order = np.array(random.sample(range(42), 42))
    first = fit("chinchilla", points, bootstrap=20)
    second = fit("chinchilla", points_as_rows(points, order), bootstrap=20)
    assert first.params == second.params
    assert first.data_sha256 == second.data_sha256
    touched = points | {"loss": points["loss"] * np.where(np.arange(42) == 3, 1.001, 1.0)}
    assert fit("chinchilla", touched, bootstrap=0).data_sha256 != first.data_sha256


def test_units_transform_exactly() -> None:
    points = chinchilla_points(noise=0.005)
    base = fit("chinchilla", points, bootstrap=0).values
    bits = 1 / np.log(2)
    other = fit(
        "chinchilla",
        {"n_params": points["n_params"] / 1e6, "n_tokens": points["n_tokens"] / 1e9, "loss": points["loss"] * bits},
        bootstrap=0,
    ).values
    assert other["alpha"] == pytest.approx(base["alpha"], rel=1e-6)
    assert other["E"] == pytest.approx(base["E"] * bits, rel=1e-6)
    assert other["A"] == pytest.approx(base["A"] * bits * 1e6 ** -base["alpha"], rel=1e-6)
    assert other["B"] == pytest.approx(base["B"] * bits * 1e9 ** -base["beta"], rel=1e-6)


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    points = chinchilla_points(noise=0.005)
    first, same, other = (fit("chinchilla", points, bootstrap=50, seed=seed) for seed in (3, 3, 4))
    assert first.bootstrap == same.bootstrap
    assert first.bootstrap["params"] != other.bootstrap["params"]


def test_a_fit_survives_its_file_exactly(tmp_path: Path) -> None:
    result = fit("chinchilla", chinchilla_points(noise=0.005), bootstrap=20)
    write_json(tmp_path / "fit.json", to_json(result))
    assert read_fit(tmp_path / "fit.json") == result
    broken = {name: value for name, value in to_json(result).items() if name != "params"}
    (tmp_path / "fit.json").write_text(json.dumps(broken))
    with pytest.raises(FitError, match="not a fit"):
        read_fit(tmp_path / "fit.json")


# --- published points ------------------------------------------------------------------------------------


@needs_epoch
@pytest.mark.parametrize(("delta", "rows", "objective", "truth"), [
    (1e-3, 240, 0.00101827402, {"E": 1.81722, "A": 477.83, "B": 2143.4, "alpha": 0.347310, "beta": 0.367172}),
    (1e-2, 240, 0.00469622, {"E": 1.8381, "A": 538.8, "B": 2906, "alpha": 0.35442, "beta": 0.38154}),
    (1e-1, 240, 0.00573094, {"E": 1.86455, "A": 593.3, "B": 4876, "alpha": 0.36025, "beta": 0.40588}),
    (1e-3, 245, 0.00182601, {"E": 1.89134, "A": 495.73, "B": 12846, "alpha": 0.34931, "beta": 0.45305}),
])  # fmt: skip
def test_the_digitised_chinchilla_points(delta: float, rows: int, objective: float, truth: dict[str, float]) -> None:
    # Besiroglu et al. 2024 (arXiv 2404.10102), figures 1 and 2; their data file's 240 rows, and all 245.
    table = pl.read_csv(EPOCH)
    main = delta == 1e-3 and rows == 240
    points = table if rows == 245 else table.filter(pl.col("used_in_fit") == 1)
    result = fit("chinchilla", points, delta=delta, bootstrap=1000 if main else 0)
    assert result.n == rows
    assert result.objective["value"] == pytest.approx(objective, rel=1e-5)
    assert far_off(result, truth) < 2e-4
    assert result.starts["best"] == result.starts["n"]
    assert result.convergence["reached"]
    if main:
        assert result.objective["value"] <= 1.01829e-3
        spread = {"E": 0.0257, "alpha": 0.0154, "beta": 0.0206}  # their table 2, 4000 resamples
        for name, published in spread.items():
            assert result.params[name].std == pytest.approx(published, rel=0.1)
        assert result.identifiability.condition_number == pytest.approx(33, rel=0.05)
        assert result.warnings == ()


@needs_epoch
def test_a_mean_with_a_loose_tolerance_stops_short_of_the_optimum() -> None:
    """Hoffmann's published constants, an early stop, are worse on the points than the optimum found here."""
    table = pl.read_csv(EPOCH).filter(pl.col("used_in_fit") == 1)
    columns = {name: table[name].to_numpy() for name in ("n_params", "n_tokens")}
    published = {"E": np.exp(0.5267228), "A": np.exp(6.0073404), "B": np.exp(6.0179186)}
    predicted = get_law("chinchilla").function(columns, **published, alpha=0.33917, beta=0.28491)
    objective = huber(np.log(predicted / table["loss"].to_numpy()), 1e-3).sum()
    assert objective == pytest.approx(0.0012312, rel=1e-3)
    assert fit("chinchilla", table, bootstrap=0).objective["value"] < 0.9 * objective


# --- intervals -------------------------------------------------------------------------------------------


def coverage(simulations: int, bootstrap: int) -> dict[str, float]:
    """How often nominal 95 % intervals contain the truth: of constants, of the mean law, of a new measurement."""
    hits = dict.fromkeys((*TRUTH, "mean", "measurement"), 0)
    at = {"n_params": np.array([2e8]), "n_tokens": np.array([4e9])}
    true = float(get_law("chinchilla").function(at, **TRUTH)[0])
    rng = np.random.default_rng(99)
    for seed in range(simulations):
        result = fit("chinchilla", chinchilla_points(noise=0.005, seed=seed), delta=0.01, bootstrap=bootstrap)
        for name, value in TRUTH.items():
            low, high = result.params[name].ci95
            hits[name] += low <= value <= high
        found = {name: float(values[0]) for name, values in result.predict(at).items()}
        hits["mean"] += found["lo95"] <= true <= found["hi95"]
        hits["measurement"] += found["pi_lo95"] <= true * np.exp(0.005 * rng.standard_normal()) <= found["pi_hi95"]
    return {name: count / simulations for name, count in hits.items()}


def test_intervals_cover_the_truth() -> None:
    # Binomial spread of 40 draws at 95 % is 3.4 %: a rate below 80 % is no accident.
    rates = coverage(simulations=40, bootstrap=150)
    assert min(rates.values()) >= 0.8, rates


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rates = coverage(simulations=300, bootstrap=400)
    assert all(0.90 <= rate <= 0.98 for rate in rates.values()), rates


def test_a_prediction_interval_is_wider_than_that_of_the_mean() -> None:
    points = chinchilla_points(noise=0.005)
    found = fit("chinchilla", points, delta=0.01, bootstrap=200).predict(points)
    assert (found["pi_lo95"] < found["lo95"]).all()
    assert (found["hi95"] < found["pi_hi95"]).all()
    assert ((found["lo95"] < found["predicted"]) & (found["predicted"] < found["hi95"])).mean() > 0.9
    assert set(fit("chinchilla", points, bootstrap=0).predict(points)) == {"predicted"}


# --- warnings --------------------------------------------------------------------------------------------


def test_well_spread_data_raise_no_warning() -> None:
    assert fit("chinchilla", chinchilla_points(noise=0.002), delta=0.01, bootstrap=200).warnings == ()


def test_a_ladder_at_twenty_tokens_per_parameter_is_told() -> None:
    n = np.geomspace(1e6, 1e9, 20)
    points = {"n_params": n, "n_tokens": 20 * n}
    points["loss"] = get_law("chinchilla").function(points, **TRUTH)
    result = fit("chinchilla", points, bootstrap=0)
    text = "\n".join(result.warnings)
    assert "n_params and n_tokens move together" in text
    assert "constants are not determined" in text
    assert result.identifiability.condition_number > 1e4


def test_few_points_in_a_narrow_range_are_told() -> None:
    points = chinchilla_points(noise=0.002)
    keep = (points["n_params"] < 5e6) & (points["n_tokens"] < 1e8)
    text = "\n".join(fit("chinchilla", points_as_rows(points, keep), bootstrap=0).warnings)
    assert "fewer than 3 per parameter" in text
    assert "n_params spans" in text


def test_parameters_that_trade_off_are_told() -> None:
    x = np.geomspace(1e6, 4e6, 30)
    loss = (1.8 + 400 * x**-0.35) * np.exp(0.002 * np.random.default_rng(0).standard_normal(30))
    result = fit("power_law", {"x_": x, "loss": loss}, x="x_", delta=0.01, bootstrap=0)
    assert ("E", "A") in {pair[:2] for pair in result.identifiability.pairs}
    assert any("trade off" in warning for warning in result.warnings)


# --- bad input -------------------------------------------------------------------------------------------


def _with(**changes: object) -> dict[str, object]:
    return {**chinchilla_points(), **changes}


def _spoil(value: float) -> np.ndarray:
    return np.where(np.arange(42) == 4, value, chinchilla_points()["loss"])


@pytest.mark.parametrize(("table", "message"), [
    ({"n_params": [1.0], "loss": [2.0]}, "n_tokens: no such column"),
    (_with(loss=_spoil(np.nan)), "row 5 is missing or not a number"),
    (_with(loss=_spoil(-1.0)), "loss: -1 in row 5 is not allowed"),
    (_with(loss=_spoil(0.0)), "loss: 0 in row 5 is not allowed"),
    (_with(loss=_spoil(np.inf)), "loss: inf in row 5 is not allowed"),
    (_with(loss=np.array(["low"] * 42)), "not a column of numbers"),
    (_with(n_params=np.full(42, 1e6)), "n_params: is 1e.06 in every row"),
    (points_as_rows(chinchilla_points(), np.array([0])), "1 point cannot determine 5 parameters"),
    (points_as_rows(chinchilla_points(), np.arange(5)), "at least 6 are needed"),
])  # fmt: skip
def test_bad_data_give_one_clear_line(table: dict[str, object], message: str) -> None:
    with pytest.raises(FitError, match=message) as caught:
        fit("chinchilla", table, bootstrap=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"objective": "l3"}, "allowed: huber_log, lsq_log, huber, lsq, lad"),
    ({"delta": 0.0}, "delta: 0.0"),
    ({"delta": float("nan")}, "delta: nan"),
    ({"bootstrap": 1}, "at least 2"),
    ({"seed": -1}, "seed: -1"),
    ({"x": "n_tokens"}, "no free variable"),
    ({"starts": np.ones((2, 3))}, r"allowed: \(starts, 5\)"),
])  # fmt: skip
def test_bad_options_give_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(FitError, match=message):
        fit("chinchilla", chinchilla_points(), **options)

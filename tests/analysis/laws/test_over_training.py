"""The law of over-training and that of downstream error: limits, gradients, and the published table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.fitter.formula import complex_step
from analysis.fitter.law import FitResult
from analysis.laws.chinchilla import chinchilla
from analysis.laws.over_training import LAWS, best_multiplier, downstream, over_training, over_training_cost
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_over_training import ERROR, EXAMPLES, LOSS

MODELS = Path(__file__).parents[4] / "shared/reference/gadre_overtraining/models.csv"
SMALL = ("0.011B", "0.079B", "0.154B", "0.411B")

# Gadre et al. 2024 (arXiv 2403.08540), table 2: E, a, b, eta; and eps, k, gamma of the 17 tasks, as printed.
# The losses' laws to more digits are a least-squares fit of the released runs with scipy.optimize.least_squares
# (method "lm", tolerances 1e-15) from E = 1.5, ln a = 5, ln b = 5.5, eta = 0.1.
PUBLISHED_LOSS = {
    "c4": (1.508261, 141.2772, 189.5155, 0.1212361),
    "redpajama": (1.836648, 212.2361, 366.6872, 0.1364254),
    "refinedweb": (1.734462, 157.1163, 246.2067, 0.1271974),
}
PRINTED_LOSS = {
    "c4": ("1.51", "141", "190", "0.121"),
    "redpajama": ("1.84", "212", "367", "0.136"),
    "refinedweb": ("1.73", "157", "246", "0.127"),
}
PRINTED_ERROR = {
    "c4": ("0.850", "2.08", "0.756"),
    "redpajama": ("0.857", "2.21", "0.715"),
    "refinedweb": ("0.865", "2.21", "0.707"),
}


def variables(multiplier: Any, flops: Any) -> dict[str, np.ndarray]:
    return {"token_multiplier": np.atleast_1d(multiplier).astype(float), "flops": np.atleast_1d(flops).astype(float)}


# --- properties ------------------------------------------------------------------------------------------


def test_it_is_chinchillas_law_with_equal_exponents() -> None:
    rng = np.random.default_rng(0)
    n_params, n_tokens = 10 ** rng.uniform(6, 10, 50), 10 ** rng.uniform(8, 12, 50)
    found = over_training(variables(n_tokens / n_params, 6 * n_params * n_tokens), **LOSS)
    eta = LOSS["eta"]
    same = {"E": LOSS["E"], "A": LOSS["a"] * 6**-eta, "B": LOSS["b"] * 6**-eta, "alpha": 2 * eta, "beta": 2 * eta}
    table = {"n_params": n_params, "n_tokens": n_tokens}
    np.testing.assert_allclose(found, chinchilla(table, **same), rtol=1e-12)
    assert not np.allclose(found, chinchilla(table, **(same | {"beta": 2.1 * eta})), rtol=1e-3)


def test_over_training_moves_the_line_up_and_keeps_its_slope() -> None:
    def slope(multiplier: float, floor: float) -> np.ndarray:
        flops = np.geomspace(1e15, 1e23, 9)
        loss = over_training(variables(np.full(9, multiplier), flops), **LOSS) - floor
        return np.diff(np.log(loss)) / np.diff(np.log(flops))

    for multiplier in (1, 20, 640):
        np.testing.assert_allclose(slope(multiplier, LOSS["E"]), -LOSS["eta"], rtol=1e-9)
    assert np.ptp(slope(20, 0.0)) > 0.01  # with the floor left in, the line bends


def test_the_best_multiplier_is_the_minimum_at_every_compute() -> None:
    constants = {name: LOSS[name] for name in ("a", "b", "eta")}
    best = best_multiplier(**constants)
    near = best * np.array([0.9, 0.99, 1.0, 1.01, 1.1])
    for flops in (1e15, 1e24):
        assert np.argmin(over_training(variables(near, np.full(5, flops)), **LOSS)) == 2
    assert best == pytest.approx(7.45, rel=0.01)


def test_the_cost_of_over_training_is_the_ratio_of_reducible_losses() -> None:
    constants = {name: LOSS[name] for name in ("a", "b", "eta")}
    multipliers = np.array([0.5, 5.0, 20.0, 640.0])
    reducible = over_training(variables(multipliers, np.full(4, 1e20)), **LOSS) - LOSS["E"]
    lowest = over_training(variables(best_multiplier(**constants), 1e20), **LOSS) - LOSS["E"]
    np.testing.assert_allclose(over_training_cost(multipliers, **constants), reducible / lowest, rtol=1e-12)
    assert over_training_cost(best_multiplier(**constants), **constants) == pytest.approx(1.0)


def test_a_best_multiplier_beyond_all_reason_stays_a_number() -> None:
    assert best_multiplier(a=1e-3, b=1e3, eta=0.005) == pytest.approx(1e100)
    assert best_multiplier(a=1e3, b=1e-3, eta=0.005) == pytest.approx(1e-100)


def test_error_falls_with_loss_down_from_that_of_a_model_that_has_learned_nothing() -> None:
    losses = np.linspace(0, 30, 100)
    errors = downstream({"loss": losses}, **ERROR)
    assert (np.diff(errors) > 0).all()
    assert errors[-1] == pytest.approx(ERROR["eps"])
    assert errors[0] == pytest.approx(ERROR["eps"] - ERROR["k"])
    perplexity = ERROR["eps"] - ERROR["k"] * np.exp(losses) ** -ERROR["gamma"]
    np.testing.assert_allclose(errors, perplexity, rtol=1e-12)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.law)
def test_gradients_are_those_of_the_function(example: Any) -> None:
    law = next(law for law in LAWS if law.name == example.law)
    table = example.table(np.random.default_rng(0))
    read = law.read(table, {}) if law.read else table
    truth = {name: np.array([[value], [1.3 * value]]) for name, value in example.truth.items()}
    assert law.gradient is not None
    for own, exact in zip(law.gradient(read, **truth), complex_step(law.function, read, truth), strict=True):
        np.testing.assert_allclose(np.broadcast_to(own, exact.shape), exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_tokens": None}, "n_tokens: no such column"),
        ({"n_params": np.array([1e7, 0.0])}, "n_params: 0 in row 2 is not allowed"),
        ({"n_params": np.array(["1e7", "big"])}, "n_params: not a column of numbers"),
    ],
)
def test_what_cannot_be_read_is_named(change: dict[str, Any], words: str) -> None:
    table = {"n_params": np.array([1e7, 2e7]), "n_tokens": np.array([1e9, 2e9])} | change
    read = LAWS[0].read
    assert read is not None
    with pytest.raises(FitError, match=words):
        read({name: values for name, values in table.items() if values is not None}, {})


# --- published numbers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models() -> pl.DataFrame:
    if not MODELS.exists():
        pytest.skip(f"no published runs at {MODELS}")
    return pl.read_csv(MODELS).with_columns(loss=pl.col("loss_c4_eval"), error=pl.col("err_avg17"))


def near(multiplier: int) -> pl.Expr:
    return (pl.col("token_multiplier") - multiplier).abs() < 1


def five_runs(models: pl.DataFrame, corpus: str) -> pl.DataFrame:
    """Four sizes at 20 tokens per parameter, the smallest at 320 too (Gadre et al. 2024, section 3.4)."""
    small = pl.col("model").is_in(SMALL) & near(20)
    return models.filter((pl.col("train_set") == corpus) & (small | ((pl.col("model") == "0.011B") & near(320))))


def fit_loss(models: pl.DataFrame, corpus: str) -> FitResult:
    runs = five_runs(models, corpus)
    assert len(runs) == 5
    return fit("over_training", runs, bootstrap=0)


def fit_error(models: pl.DataFrame, corpus: str) -> FitResult:
    larger = models.filter((pl.col("train_set") == corpus) & (pl.col("model") == "1.4B") & near(20))
    runs = pl.concat([five_runs(models, corpus), larger])
    assert len(runs) == 6
    return fit("downstream", runs, bootstrap=0)


def as_printed(value: float, printed: str) -> bool:
    """Whether the value rounds to the printed digits."""
    return f"{value:.{len(printed.partition('.')[2])}f}" == printed


@pytest.mark.parametrize("corpus", PUBLISHED_LOSS)
def test_published_loss_laws(models: pl.DataFrame, corpus: str) -> None:
    values = fit_loss(models, corpus).values
    for name, published, printed in zip(
        ("E", "a", "b", "eta"), PUBLISHED_LOSS[corpus], PRINTED_LOSS[corpus], strict=True
    ):
        assert values[name] == pytest.approx(published, rel=1e-5)
        assert as_printed(values[name], printed)


def test_residuals_of_the_logarithm_give_another_law(models: pl.DataFrame) -> None:
    """The published constants belong to least squares on the loss itself."""
    logarithmic = fit("over_training", five_runs(models, "redpajama"), objective="lsq_log", bootstrap=0)
    assert logarithmic.values["a"] != pytest.approx(PUBLISHED_LOSS["redpajama"][1], rel=3e-3)


@pytest.mark.parametrize("corpus", PRINTED_ERROR)
def test_published_error_laws(models: pl.DataFrame, corpus: str) -> None:
    values = fit_error(models, corpus).values
    for name, printed in zip(("eps", "k", "gamma"), PRINTED_ERROR[corpus], strict=True):
        assert as_printed(values[name], printed), (name, values[name])


@pytest.mark.parametrize(
    ("size", "multiplier", "loss_off", "error_off"),
    [("1.4B", 640, 0.7103, 3.6365), ("6.9B", 20, 0.7320, 0.0464)],
)
def test_published_predictions(
    models: pl.DataFrame, size: str, multiplier: int, loss_off: float, error_off: float
) -> None:
    """Relative errors in per cent, of loss and then of the error that follows from the predicted loss."""
    run = models.filter((pl.col("train_set") == "redpajama") & (pl.col("model") == size) & near(multiplier))
    loss = fit_loss(models, "redpajama").predict(run)["predicted"]
    error = fit_error(models, "redpajama").predict({"loss": loss})["predicted"]
    assert 100 * abs(loss[0] / run["loss"][0] - 1) == pytest.approx(loss_off, abs=1e-3)
    assert 100 * abs(error[0] / run["error"][0] - 1) == pytest.approx(error_off, abs=1e-3)
    at_20 = fit_loss(models, "redpajama").predict(run.with_columns(n_tokens=20.0 * pl.col("n_params")))["predicted"]
    if multiplier != 20:  # reading the model as if it had been trained for 20 tokens per parameter is far off
        assert 100 * abs(at_20[0] / run["loss"][0] - 1) > 5

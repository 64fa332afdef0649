"""The law of learning rate and batch size: recovery from simulated bowls, and the published sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.fitter.procedure import Steps
from analysis.laws.tuning import LAWS, RECIPES, cells, ladder_recipe, porian_recipe, regret, step_law_recipe, tuned
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_tuning import TRUTH, bowls

STEP_LAW = Path(__file__).parents[4] / "shared/reference/steplaw"
(LAW,) = LAWS
Table = dict[str, np.ndarray]


def weigh(table: Table, resamples: int = 0, seed: int = 0) -> np.ndarray:
    """Weights (1 + resamples, N): every run once, then draws of whole cells."""
    cell = cells(table)
    n = cell.max() + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)[:, cell]
    return np.concatenate([np.ones((1, len(cell))), drawn]).astype(float)


def estimate(table: Table, weights: np.ndarray | None = None, **options: Any) -> Steps:
    return LAW.estimate(table, table["loss"], weigh(table) if weights is None else weights, options)


def keep(table: Table, rows: np.ndarray) -> Table:
    return {name: values[rows] for name, values in table.items()}


# --- cells and regret ------------------------------------------------------------------------------------


def test_cells_are_the_pairs_of_size_and_tokens() -> None:
    table = {"n_params": np.array([2.0, 1.0, 2.0, 1.0, 2.0]), "n_tokens": np.array([5.0, 5.0, 7.0, 5.0, 5.0])}
    assert cells(table).tolist() == [1, 0, 2, 0, 1]
    assert cells(table, by=("n_params",)).tolist() == [1, 0, 1, 0, 1]


def test_regret_is_that_of_the_nearest_run() -> None:
    table = {
        "n_params": np.full(4, 1e7),
        "n_tokens": np.full(4, 1e9),
        "lr": np.array([1e-3, 2e-3, 4e-3, 8e-3]),
        "batch_tokens": np.full(4, 65536.0),
        "loss": np.array([3.03, 3.0, 3.06, 3.3]),
    }
    found = regret(table, np.full(4, 3.5e-3), np.full(4, 1e5))
    assert found["lr"].tolist() == [4e-3]
    assert found["lr_best"].tolist() == [2e-3]
    assert found["regret"] == pytest.approx([0.02])
    # 2.9e-3 is nearer to 4e-3 in its logarithm, to 2e-3 in itself
    assert regret(table, np.full(4, 2.9e-3), np.full(4, 1e5))["lr"].tolist() == [4e-3]
    assert regret(table, np.full(4, 1.9e-3), np.full(4, 1e5))["regret"].tolist() == [0.0]


def test_regret_of_the_truth_is_small_and_that_of_a_wrong_law_is_not() -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    best = tuned(table, **TRUTH)
    right = regret(table, best["lr_opt"], best["batch_opt"])["regret"]
    wrong = regret(table, 4 * best["lr_opt"], best["batch_opt"] / 4)["regret"]
    assert len(right) == 20
    assert right.max() < 1e-3
    assert wrong.min() > 5e-3


def test_regret_asks_for_the_columns_that_it_reads() -> None:
    with pytest.raises(FitError, match="batch_tokens: no such column"):
        regret({name: np.ones(2) for name in ("n_params", "n_tokens", "lr", "loss")}, np.ones(2), np.ones(2))


# --- recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "n_params", "n_tokens", "lr", "batch"),
    [
        (step_law_recipe, 1e8, 2e9, 0.00253, 1.19e5),
        (step_law_recipe, 1e9, 1e11, 0.00163, 1.11e6),
        (porian_recipe, 1e8, 2e9, 0.00488, 3.19e5),
        (porian_recipe, 1e9, 1e11, 0.00213, 1.61e6),
        (ladder_recipe, 1e8, 2e9, 0.00482 / 2, 3.11e5),
        (ladder_recipe, 1e9, 1e11, 0.00224 / 2, 1.44e6),
    ],
)
def test_recipes_at_reference_sizes(recipe: Any, n_params: float, n_tokens: float, lr: float, batch: float) -> None:
    assert recipe(n_params, n_tokens) == pytest.approx((lr, batch), rel=5e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_give_a_rate_and_a_batch_for_every_row(name: str) -> None:
    n_params, n_tokens = np.array([1e7, 1e8, 1e9]), np.array([1e9, 1e9, 1e9])
    lr, batch = RECIPES[name](n_params, n_tokens)
    assert lr.shape == batch.shape == (3,)
    assert (np.diff(lr) < 0).all()  # larger models want smaller steps
    assert ((batch > 1e4) & (batch < 1e7)).all()


# --- the procedure ---------------------------------------------------------------------------------------


def test_surfaces_find_the_optimum_of_bowls_without_noise() -> None:
    found = estimate(bowls(np.random.default_rng(0), noise=0.0), method="surface")
    for name, value in TRUTH.items():
        assert found.params[name][0] == pytest.approx(value, rel=1e-6)
    assert abs(found.residuals).max() < 1e-8


def test_runs_near_the_best_give_the_optimum_about() -> None:
    """Where the grid ends within the bowl, the runs kept are not centred on its minimum: the method's own bias."""
    found = estimate(bowls(np.random.default_rng(0), noise=0.0), method="near_optimal")
    assert found.params["lr_exponent_N"][0] == pytest.approx(TRUTH["lr_exponent_N"], abs=0.1)
    assert found.params["batch_exponent_D"][0] == pytest.approx(TRUTH["batch_exponent_D"], abs=0.05)
    assert found.params["lr_exponent_N"][0] != pytest.approx(TRUTH["lr_exponent_N"], abs=1e-4)


@pytest.mark.parametrize("method", ["near_optimal", "surface"])
def test_noise_moves_exponents_by_what_drawing_cells_says(method: str) -> None:
    table = bowls(np.random.default_rng(1), noise=1e-3)
    params = estimate(table, weigh(table, 300), method=method).params
    for name in ("lr_exponent_N", "lr_exponent_D", "batch_exponent_D"):
        spread = np.nanstd(params[name][1:])
        assert 0.001 < spread < 0.1
        assert abs(params[name][0] - TRUTH[name]) < 4 * spread


def test_a_weight_is_so_many_copies_of_a_run() -> None:
    table = bowls(np.random.default_rng(2), noise=1e-3)
    weights = weigh(table, 1, seed=5)
    weighted = estimate(table, weights).params
    rows = np.repeat(np.arange(len(table["loss"])), weights[1].astype(int))
    repeated = estimate(keep(table, rows)).params
    for name in LAW.names:
        assert weighted[name][1] == pytest.approx(repeated[name][0], rel=1e-9)
        assert weighted[name][1] != pytest.approx(weighted[name][0], rel=1e-4)


def test_a_cell_drawn_twice_has_its_minimum_counted_twice() -> None:
    table = bowls(np.random.default_rng(2), noise=1e-3)
    cell, weights = cells(table), weigh(table, 1, seed=5)
    found = estimate(table, weights, method="surface")
    of_cell = weights[1][np.unique(cell, return_index=True)[1]].astype(int)
    minima = keep(found.points, np.repeat(np.arange(20), of_cell))
    slope, intercept = np.polyfit(np.log(minima["n_tokens"]), np.log(minima["batch_tokens"]), 1)
    assert found.params["batch_exponent_D"][1] == pytest.approx(slope)
    assert found.params["batch_factor"][1] == pytest.approx(np.exp(intercept))
    assert found.params["batch_exponent_D"][0] != pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("method", ["near_optimal", "surface"])
def test_a_resample_that_determines_nothing_is_nan(method: str) -> None:
    table = bowls(np.random.default_rng(3), noise=1e-3)
    one_size = (table["n_params"] == table["n_params"][0]).astype(float)
    params = estimate(table, np.stack([np.ones_like(one_size), one_size]), method=method).params
    assert np.isnan(params["lr_exponent_N"][1])
    assert np.isfinite([values[0] for values in params.values()]).all()
    assert np.isfinite(params["batch_exponent_D"][1])  # the batch does not ask for N


def test_the_order_of_the_runs_does_not_matter() -> None:
    table = bowls(np.random.default_rng(4), noise=1e-3)
    shuffled = keep(table, np.random.default_rng(0).permutation(len(table["loss"])))
    for method in ("near_optimal", "surface"):
        one, other = estimate(table, method=method), estimate(shuffled, method=method)
        for name in LAW.names:
            assert one.params[name] == pytest.approx(other.params[name], rel=1e-9)


def test_the_fit_draws_whole_cells_and_predicts_a_rate_and_a_batch() -> None:
    table = bowls(np.random.default_rng(0), noise=1e-3)
    result = fit("step_law", table, options={"method": "surface"}, bootstrap=300)
    assert result.bootstrap["unit"] == "groups"
    drawn = estimate(table, weigh(table, 300, seed=0), method="surface").params["lr_exponent_N"][1:]
    assert result.params["lr_exponent_N"].std == pytest.approx(drawn.std(), rel=0.2)
    new = {"n_params": np.array([1e7, 1e8]), "n_tokens": np.array([1e9, 1e10])}
    truth, found = tuned(new, **TRUTH), result.predict(new)
    for name in ("lr_opt", "batch_opt"):
        assert found[name].shape == (2,)
        assert ((found[f"{name}_lo95"] < truth[name]) & (truth[name] < found[f"{name}_hi95"])).all()
        assert (found[f"{name}_hi95"] < 1.5 * found[f"{name}_lo95"]).all()
    typed = fit("step_law", table, options={"method": "surface", "threshold": "0.02"}, bootstrap=0)
    assert typed.values == pytest.approx(result.values, rel=1e-9)  # text, as the command line gives it
    with pytest.raises(FitError, match="has no option steps"):
        fit("step_law", table, options={"steps": 3}, bootstrap=0)


def test_the_points_of_the_last_step_are_the_runs_kept_or_the_minima() -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    near, surface = estimate(table), estimate(table, method="surface")
    assert len(surface.points["lr"]) == 20
    assert len(near.points["lr"]) > 60
    truth = tuned(surface.points, **TRUTH)
    np.testing.assert_allclose(surface.points["lr"], truth["lr_opt"], rtol=1e-6)
    assert len(near.residuals) == 2 * len(near.points["lr"])
    fewer = estimate(table, threshold=0.001)
    assert len(fewer.points["lr"]) < len(near.points["lr"])


def test_a_best_run_at_the_edge_of_the_grid_is_told() -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    low = keep(table, table["lr"] < 0.01)
    (warning,) = estimate(low).warnings
    assert "the best run has the smallest or largest lr" in warning
    assert estimate(table).warnings == ()
    (left_out,) = estimate(low, method="surface").warnings
    assert "no minimum inside their grid" in left_out


@pytest.mark.parametrize(
    ("options", "change", "words"),
    [
        ({"method": "argmin"}, {}, "method: 'argmin' is not allowed; allowed: near_optimal, surface"),
        ({"threshold": 0}, {}, "threshold: 0 is not allowed"),
        ({"threshold": "some"}, {}, "threshold: 'some' is not allowed"),
        ({}, {"n_params": 1e7}, "n_params: is 1e.07 in every row"),
        ({}, {"n_tokens": 1e9}, "n_tokens: is 1e.09 in every row"),
        ({}, {"lr": 1e-3}, "lr: is 0.001 in every row"),
        ({}, {"batch_tokens": 65536.0}, "batch_tokens: is 65536 in every row"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(options: dict[str, Any], change: dict[str, float], words: str) -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    table |= {name: np.full(len(table["loss"]), value) for name, value in change.items()}
    with pytest.raises(FitError, match=words) as caught:
        estimate(table, **options)
    assert "\n" not in str(caught.value)


def test_tokens_in_proportion_to_parameters_cannot_tell_their_exponents_apart() -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    with pytest.raises(FitError, match="n_tokens: is a power of n_params in every row"):
        estimate(keep(table, table["n_tokens"] == 30 * table["n_params"]))


def test_too_few_cells_and_surfaces_without_a_minimum_are_refused() -> None:
    table = bowls(np.random.default_rng(0), noise=0.0)
    three = (table["n_params"] < 5e6) & (table["n_tokens"] < 10 * 5e6) | (table["n_tokens"] == 30 * 4e6)
    with pytest.raises(FitError, match=r"3 cells of \(n_params, n_tokens\) cannot determine 3 parameters"):
        estimate(keep(table, three))
    with pytest.raises(FitError, match="0 of 20 cells have a minimum"):
        estimate(table | {"loss": 3.0 + table["lr"]}, method="surface")


# --- published numbers -----------------------------------------------------------------------------------


def published(name: str) -> Table:
    path = STEP_LAW / name
    if not path.exists():
        pytest.skip(f"no published sweep at {path}")
    frame = pl.read_csv(path).with_columns(n_params=pl.col("n_params_non_embedding"), loss=pl.col("loss_smooth"))
    wanted = ["n_params", "n_params_active", "n_tokens", "lr", "batch_tokens", "loss"]
    return {name: frame[name].to_numpy().astype(float) for name in wanted if name in frame.columns}


def test_regret_of_the_published_law_on_dense_models() -> None:
    """Li et al. 2025 (arXiv 2503.04715) state 0.09 %."""
    table = published("dense.csv")
    found = regret(table, *step_law_recipe(table["n_params"], table["n_tokens"]))["regret"]
    assert len(found) == 17
    assert 100 * found.mean() == pytest.approx(0.0957, abs=5e-4)
    assert 100 * found.max() == pytest.approx(0.310, abs=1e-3)
    for name in set(RECIPES) - {"step_law"}:
        others = regret(table, *RECIPES[name](table["n_params"], table["n_tokens"]))["regret"]
        assert others.mean() > 3 * found.mean()


def test_regret_of_the_published_law_on_mixtures_of_experts() -> None:
    """With all parameters 0.16 %, with the active ones six times as much."""
    table = published("moe.csv")
    by = ("n_params", "n_params_active", "n_tokens")
    total = regret(table, *step_law_recipe(table["n_params"], table["n_tokens"]), by=by)["regret"]
    active = regret(table, *step_law_recipe(table["n_params_active"], table["n_tokens"]), by=by)["regret"]
    assert len(total) == 16
    assert 100 * total.mean() == pytest.approx(0.1586, abs=5e-4)
    assert 100 * active.mean() == pytest.approx(1.0, abs=0.1)


def test_exponents_from_the_runs_near_the_best() -> None:
    """The released sweep, within 0.25 % of each cell's best: 129 runs; spreads from drawing runs, as published."""
    table = published("dense.csv")
    n = len(table["loss"])
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=300)
    found = estimate(table, np.concatenate([np.ones((1, n)), drawn]))
    assert len(found.points["lr"]) == 129
    expected = {"lr_exponent_N": (-0.77, 0.05), "lr_exponent_D": (0.20, 0.03), "batch_exponent_D": (0.61, 0.04)}
    for name, (value, spread) in expected.items():
        assert found.params[name][0] == pytest.approx(value, abs=0.006)
        assert np.std(found.params[name][1:]) == pytest.approx(spread, rel=0.4)


def test_exponents_and_optima_from_surfaces() -> None:
    table = published("dense.csv")
    found = estimate(table, method="surface")
    assert len(found.points["lr"]) == 17
    expected = {"lr_exponent_N": -0.695, "lr_exponent_D": 0.208, "batch_exponent_D": 0.569, "batch_factor": 0.546}
    for name, value in expected.items():
        assert found.params[name][0] == pytest.approx(value, rel=2e-3)
    # (N, D) -> (lr, batch) of three cells, by an independent fit of the same quadratics
    optima = {(214663680, 4e9): (0.001832, 1.773e5), (429260800, 4e10): (0.001704, 6.120e5)}
    optima[(1073741824, 5.69e10)] = (0.001066, 6.081e5)
    at = {(p["n_params"], p["n_tokens"]): (p["lr"], p["batch_tokens"]) for p in _rows(found.points)}
    for cell, optimum in optima.items():
        assert at[cell] == pytest.approx(optimum, rel=1e-3)


def _rows(points: Table) -> list[dict[str, float]]:
    return [dict(zip(points, row, strict=True)) for row in zip(*points.values(), strict=True)]

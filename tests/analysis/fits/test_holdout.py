"""Which points are held out, and what their prediction is worth: honest for the right law, damning for a wrong one."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from analysis.fits.holdout import cost_of, default_split, score, split
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError
from tests.analysis.helpers import TRUTH, chinchilla_points, fit

POINTS = pl.DataFrame(chinchilla_points(noise=0.005))


def held_losses(table: pl.DataFrame, rule: str, **how: object) -> list[float]:
    return table.filter(split(table, rule, **how).held)["loss"].to_list()


# --- cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "x", "cost"), [
    ({"flops": [1.0, 2.0], "n_params": [9.0, 1.0], "n_tokens": [9.0, 1.0]}, None, [1, 2]),
    ({"flops": [1.0, None], "n_params": [2.0, 1.0], "n_tokens": [3.0, 1.0]}, None, [36, 6]),
    ({"n_params_non_vocab": [2.0], "n_params_vocab": [1.0], "n_tokens": [5.0]}, None, [90]),
    ({"n_params_average": [2.0], "n_tokens": [5.0]}, None, [60]),
    ({"n_params": [3.0], "n_unique_tokens": [7.0]}, "n_unique_tokens", [7]),
    ({"n_params": [3.0], "batch_tokens": [7.0]}, None, [3]),
    ({"n_tokens": [3.0], "loss": [7.0]}, None, [3]),
    ({"w_code": [0.2, 0.8], "loss": [3.0, 4.0]}, None, None),  # a mixture costs what another one does
    ({"batch_tokens": [1.0, 2.0], "step": [3.0, 4.0]}, None, None),  # step is what critical_batch predicts
    ({"flops": ["many", "more"]}, None, None),
])  # fmt: skip
def test_what_a_point_cost(columns: dict[str, list[float]], x: str | None, cost: list[float] | None) -> None:
    found = cost_of(pl.DataFrame(columns), x)
    assert (None if found is None else found.tolist()) == cost


def test_a_curve_costs_what_its_last_point_does() -> None:
    table = pl.DataFrame({"curve": ["a", "b", "a", "b"], "step": [1, 1, 2, 5]})
    assert cost_of(table, curves=True).tolist() == [2, 5, 2, 5]
    assert cost_of(table.with_columns(n_params=pl.Series([9, 1, 9, 1])), curves=True).tolist() == [18, 5, 18, 5]


def test_a_curve_without_flops_costs_its_tokens() -> None:
    """Of two curves of as many steps the one of larger batches is more expensive."""
    table = pl.DataFrame({"curve": ["a", "b"], "step": [5, 5], "n_params": [2, 2], "n_tokens": [10, 20]})
    assert cost_of(table, curves=True).tolist() == [120, 240]
    assert cost_of(table.drop("n_tokens"), curves=True).tolist() == [10, 10]


def test_what_a_fitted_curve_shares_is_not_held_out() -> None:
    """Two branches of a trunk: of the longer one only its own rows are news."""
    table = pl.DataFrame(
        {
            "curve": ["short"] * 3 + ["long"] * 4,
            "measured_by": ["trunk", "trunk", "short", "trunk", "trunk", "trunk", "long"],
            "step": [1, 2, 3, 1, 2, 3, 4],
            "flops": [1, 2, 3, 1, 2, 3, 4],
        }
    )
    for rule in ("largest", "curve = 'long'"):
        assert split(table, rule, curves=True).held.nonzero()[0].tolist() == [5, 6]
        apart = table.with_columns(measured_by="curve")
        assert split(apart, rule, curves=True).held.nonzero()[0].tolist() == [3, 4, 5, 6]
    with pytest.raises(FitError, match="lies on a fitted curve too"):
        split(table, "curve = 'long' and step = 2", curves=True)


# --- rules -----------------------------------------------------------------------------------------------

LADDER = pl.DataFrame({
    "n_params": [1, 2, 4, 8, 8, 16, 16], "n_tokens": [20] * 7, "seed": [0, 0, 0, 0, 1, 0, 1],
    "loss": [4.0, 3.5, 3.2, 3.0, 3.01, 2.8, 2.81],
})  # fmt: skip


@pytest.mark.parametrize(("rule", "held"), [
    ("largest", [2.8, 2.81]),  # replicates of the most expensive point go together
    ("0.1", [2.8, 2.81]),
    ("0.3", [2.8, 2.81]),
    ("0.4", [3.0, 3.01, 2.8, 2.81]),
    ("n_params > 4", [3.0, 3.01, 2.8, 2.81]),
    ("seed == 1", [3.01, 2.81]),
])  # fmt: skip
def test_a_rule_parts_the_points(rule: str, held: list[float]) -> None:
    assert held_losses(LADDER, rule) == held


@pytest.mark.parametrize(("table", "rule", "message"), [
    (LADDER, "1", "allowed: largest, a fraction in"),
    (LADDER, "0", "allowed: largest, a fraction in"),
    (LADDER, "nan", "allowed: largest, a fraction in"),
    (LADDER, "n_params > 0", "holds out every point"),
    (LADDER, "n_params > 99", "--holdout 'n_params > 99': leaves none of 7 rows"),
    (LADDER, "biggest", "--holdout 'biggest'"),
    (LADDER.head(1), "largest", "every point costs the same"),
    (LADDER.select("loss"), "largest", "does not tell what a point cost"),
])  # fmt: skip
def test_a_rule_that_cannot_work_is_one_line(table: pl.DataFrame, rule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        split(table, rule)
    assert "\n" not in str(caught.value)


def test_curves_are_held_out_as_a_whole() -> None:
    table = pl.DataFrame({
        "curve": ["long"] * 4 + ["short"] * 2, "step": [1, 2, 3, 4, 1, 2], "loss": [4.0, 3.0, 2.5, 2.4, 4.1, 3.1],
    })  # fmt: skip
    assert held_losses(table, "largest", curves=True) == [4.0, 3.0, 2.5, 2.4]
    even = table.filter(pl.col("step") < 3)
    with pytest.raises(FitError, match="every curve costs the same; allowed: a condition"):
        split(even, "largest", curves=True)
    assert held_losses(even, "curve = 'short'", curves=True) == [4.1, 3.1]


def test_by_default_the_most_expensive_fifth_is_held_out() -> None:
    parted = default_split(POINTS, 5)
    assert parted.held.sum() == 8
    cost = cost_of(POINTS)
    assert cost[parted.held].min() > cost[~parted.held].max()
    # not where that leaves too little to fit, most of the points, or where all points cost the same
    assert default_split(POINTS.head(8), 5) is None
    assert default_split(POINTS.head(9), 5) is not None
    assert default_split(LADDER, 1) is not None
    assert default_split(pl.concat([LADDER[:1], *[LADDER[-1:]] * 9]), 1) is None
    assert default_split(POINTS.select("loss"), 1) is None


# --- scores ----------------------------------------------------------------------------------------------


def scored(table: pl.DataFrame, law: str, rule: str, x: str | None = None, **how: object) -> dict[str, object]:
    held = split(table, rule, x).held
    result = fit(law, table.filter(~held), x=x, bootstrap=200, **how)
    return score(result, table.filter(held), table.filter(held)["loss"].to_numpy(), rule)


def test_the_error_is_relative_and_signed() -> None:
    exact = pl.DataFrame(chinchilla_points())
    high = exact.with_columns(
        loss=pl.when(pl.col("n_params") > 9e7).then(pl.col("loss") * 1.1).otherwise(pl.col("loss"))
    )
    found = scored(high, "chinchilla", "n_params > 9e7")
    assert found["error"] == pytest.approx([1 / 1.1 - 1] * 6, rel=1e-3)
    assert found["mean"] == pytest.approx(1 / 1.1 - 1, rel=1e-3)
    assert found["mean_abs"] == pytest.approx(1 - 1 / 1.1, rel=1e-3)
    assert (found["n"], found["n_fitted"], found["coverage"]) == (6, 36, 0.0)
    assert scored(exact, "chinchilla", "n_params > 9e7")["mean_abs"] < 1e-6


def test_prediction_intervals_cover_under_the_right_law_and_not_under_a_wrong_one() -> None:
    covered: dict[str, list[float]] = {"power_law": [], "power_law_no_offset": []}
    x = np.geomspace(1e6, 1e9, 30)
    for seed in range(40):
        noise = 0.005 * np.random.default_rng(seed).standard_normal(30)
        table = pl.DataFrame({"n_tokens": x, "loss": (1.8 + 500 * x**-0.35) * np.exp(noise)})
        for law, shares in covered.items():
            shares.append(scored(table, law, "0.2", x="n_tokens", objective="lsq_log")["coverage"])
    # 240 points in clusters of 6 that share a fit
    assert 0.87 <= np.mean(covered["power_law"]) <= 0.99
    assert np.mean(covered["power_law_no_offset"]) < 0.2


def test_a_fit_without_bootstrap_has_an_error_but_no_coverage() -> None:
    held = split(POINTS, "largest").held
    result = fit("chinchilla", POINTS.filter(~held), bootstrap=0)
    found = score(result, POINTS.filter(held), POINTS.filter(held)["loss"].to_numpy(), "largest")
    assert found["coverage"] is None
    truth = get_law("chinchilla").function(
        {name: POINTS.filter(held)[name].to_numpy() for name in ("n_params", "n_tokens")}, **TRUTH
    )
    assert found["n"] == 1
    assert found["error"][0] == pytest.approx(truth[0] / POINTS.filter(held)["loss"][0] - 1, abs=0.02)


def test_a_target_that_is_not_positive_is_off_by_a_difference() -> None:
    x = np.linspace(1, 10, 12)
    table = pl.DataFrame({"n_params": 10.0**x, "max_logit": 3 + 0.5 * x})
    held = table["n_params"].to_numpy() > 5e9
    result = fit("logit_growth", table.filter(~held), bootstrap=0)
    found = score(result, table.filter(held), table.filter(held)["max_logit"].to_numpy() - 0.25, "n_params > 5e9")
    assert found["relative"]
    found = score(result, table.filter(held), np.array([0.0] * int(held.sum())), "n_params > 5e9")
    assert not found["relative"]
    assert found["error"] == result.predict(table.filter(held))["predicted"].tolist()

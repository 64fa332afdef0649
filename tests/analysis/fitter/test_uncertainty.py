"""Standard errors and profiles against textbooks and against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.fitter.formula import Parameter
from analysis.fitter.law import Law
from analysis.tables.columns import Array, Column, Columns, FitError
from tests.analysis.helpers import TRUTH, chinchilla_points, fit

NOISE = 0.005
LINE = Law(
    name="line",
    formula="y = a + b x",
    question="",
    source="",
    columns=(Column("x", "", "", "any"),),
    parameters=(Parameter("a", "", lower=-np.inf), Parameter("b", "", lower=-np.inf)),
    function=lambda columns, *, a, b: a + b * columns["x"],
    target=Column("y", "", "", "any"),
    objective="lsq",
)


def line_points(n: int, spread: float | Array, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 3, n)
    return {"x": x, "y": 2 - 0.7 * x + spread * rng.standard_normal(n)}


def by_hand(points: Columns, weights: Array | None = None) -> dict[str, Array]:
    """Classical and HC1 standard errors of a weighted straight line, by matrices."""
    X = np.column_stack([np.ones_like(points["x"]), points["x"]])
    w = np.ones(len(X)) if weights is None else weights
    inverse = np.linalg.inv(X.T @ (X * w[:, None]))
    r = points["y"] - X @ (inverse @ (X.T @ (w * points["y"])))
    n, q = X.shape
    meat = (X * (w * r)[:, None]).T @ (X * (w * r)[:, None])
    return {
        "classical": np.sqrt(np.diag(inverse) * (w * r**2).sum() / (n - q)),
        "sandwich": np.sqrt(np.diag(inverse @ meat @ inverse) * n / (n - q)),
    }


# --- standard errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_a_straight_line_has_the_errors_of_the_textbook(weighted: bool) -> None:
    se = np.linspace(0.1, 0.9, 25)
    points = line_points(25, se if weighted else 0.3) | {"se": se}
    found = fit(LINE, points, x="x", bootstrap=0, se="se" if weighted else None)
    expected = by_hand(points, 1 / se**2 if weighted else None)
    for kind in ("classical", "sandwich"):
        assert list(found.standard_errors[kind].values()) == pytest.approx(list(expected[kind]), rel=1e-8)
    # the other way: with the other weights they are others
    other = by_hand(points, None if weighted else 1 / se**2)
    assert list(found.standard_errors["classical"].values()) != pytest.approx(list(other["classical"]), rel=0.05)


def test_a_standard_error_is_one_of_the_target_also_where_residuals_are_logarithms() -> None:
    """se in units of the loss: a logarithmic residual has the standard error se / loss."""
    x = np.geomspace(1e6, 1e9, 30)
    loss = 400 * x**-0.3 * np.exp(0.01 * np.random.default_rng(1).standard_normal(30))
    even = fit("power_law_no_offset", {"x_": x, "loss": loss}, x="x_", objective="lsq_log", bootstrap=0)
    relative = {"x_": x, "loss": loss, "se": 0.01 * loss}
    assert fit(
        "power_law_no_offset", relative, x="x_", objective="lsq_log", bootstrap=0, se="se"
    ).values == pytest.approx(even.values, rel=1e-9)
    absolute = relative | {"se": np.full(30, 0.01)}
    found = fit("power_law_no_offset", absolute, x="x_", objective="lsq_log", bootstrap=0, se="se")
    assert found.values["alpha"] != pytest.approx(even.values["alpha"], rel=1e-6)


def test_the_sandwich_agrees_with_the_bootstrap() -> None:
    result = fit("chinchilla", chinchilla_points(noise=NOISE), delta=2 * NOISE, bootstrap=600)
    for name, estimate in result.params.items():
        assert result.standard_errors["sandwich"][name] == pytest.approx(estimate.std, rel=0.25), name


def test_unequal_noise_fools_the_classical_error_but_not_the_sandwich() -> None:
    x = np.linspace(-1, 3, 200)
    points = line_points(200, 0.02 + 0.5 * (x > 2), seed=4)
    result = fit(LINE, points, x="x", bootstrap=600)
    std = result.params["b"].std
    assert result.standard_errors["sandwich"]["b"] == pytest.approx(std, rel=0.15)
    assert result.standard_errors["classical"]["b"] < 0.8 * std


def test_a_small_delta_leaves_too_few_residuals_to_tell() -> None:
    result = fit("chinchilla", chinchilla_points(noise=NOISE), delta=1e-5, bootstrap=0)
    assert result.standard_errors["sandwich"] == dict.fromkeys(TRUTH)
    assert "classical" not in result.standard_errors  # Huber's loss is not least squares


def test_a_held_constant_has_no_error_and_helps_the_others() -> None:
    points = chinchilla_points(noise=NOISE)
    free = fit("chinchilla", points, objective="lsq_log", bootstrap=0).standard_errors["classical"]
    held = fit("chinchilla", points, objective="lsq_log", bootstrap=0, fixed={"E": 1.82}).standard_errors["classical"]
    assert held["E"] is None
    assert held["alpha"] < 0.8 * free["alpha"]


# --- profiles --------------------------------------------------------------------------------------------


def test_the_profile_of_a_line_is_its_t_interval() -> None:
    points = line_points(8, 0.3)
    result = fit(LINE, points, x="x", bootstrap=0, profiles=("b",))
    half = 2.4469 * by_hand(points)["classical"][1]  # Student's t with 6 degrees of freedom
    assert result.profiles["b"]["ci95"] == pytest.approx(
        [result.values["b"] - half, result.values["b"] + half], abs=2e-4 * half
    )
    at_end = np.interp(result.profiles["b"]["ci95"][1], result.profiles["b"]["value"], result.profiles["b"]["deviance"])
    assert at_end == pytest.approx(result.profiles["b"]["level"], rel=0.01)
    assert min(result.profiles["b"]["deviance"]) == pytest.approx(0, abs=1e-9)


def test_profile_and_bootstrap_agree_on_forty_two_points() -> None:
    result = fit("chinchilla", chinchilla_points(noise=NOISE), delta=2 * NOISE, bootstrap=600, profiles=("alpha", "A"))
    for name in ("alpha", "A"):  # A carries a variable: it is held in the units of the table
        low, high = result.params[name].ci95
        below, above = result.profiles[name]["ci95"]
        assert below < result.values[name] < above
        assert above - below == pytest.approx(high - low, rel=0.3)
        assert below < TRUTH[name] < above


def test_a_skewed_profile_is_wider_on_its_long_side() -> None:
    """The floor of a power law seen from afar can be far lower, but not much higher, than its best value."""
    x = np.geomspace(1e6, 1e7, 14)
    loss = (1.8 + 400 * x**-0.35) * np.exp(0.005 * np.random.default_rng(0).standard_normal(14))
    result = fit("power_law", {"x_": x, "loss": loss}, x="x_", objective="lsq_log", bootstrap=0, profiles=("E",))
    low, high = result.profiles["E"]["ci95"]
    best, se = result.values["E"], result.standard_errors["classical"]["E"]
    half = 2.201 * se  # Student's t with 11 degrees of freedom
    assert best - low > 1.15 * half
    assert high - best < 0.9 * half
    assert high - low > 2 * half


def test_what_the_data_do_not_determine_has_no_end() -> None:
    n = np.geomspace(1e6, 1e9, 20)
    points = {"n_params": n, "n_tokens": 20 * n}
    points["loss"] = 1.82 + 480 * n**-0.35 + 2100 * (20 * n) ** -0.35
    points["loss"] *= np.exp(0.003 * np.random.default_rng(0).standard_normal(20))
    ladder = fit("chinchilla", points, objective="lsq_log", bootstrap=0, profiles=("B",)).profiles["B"]["ci95"]
    assert None in ladder
    spread = fit("chinchilla", chinchilla_points(noise=NOISE), objective="lsq_log", bootstrap=0, profiles=("B",))
    assert None not in spread.profiles["B"]["ci95"]


@pytest.mark.slow
def test_profile_intervals_cover_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(200):
        points = chinchilla_points(noise=NOISE, seed=seed)
        low, high = fit("chinchilla", points, objective="lsq_log", bootstrap=0, profiles=("alpha",)).profiles["alpha"][
            "ci95"
        ]
        hits += low <= TRUTH["alpha"] <= high
    assert 0.90 <= hits / 200 <= 0.98


@pytest.mark.parametrize("name", ["gamma", "E"])
def test_only_a_fitted_constant_has_a_profile(name: str) -> None:
    with pytest.raises(FitError, match=f"--profile-of {name}: not a constant that is fitted; allowed: A, B, alpha"):
        fit("chinchilla", chinchilla_points(), bootstrap=0, fixed={"E": 1.8}, profiles=(name,))

"""What data cannot tell about a law: each warning for data that deserve it, and none for others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from analysis.fitter.fit import optimise, problem_of
from analysis.fitter.identify import ILL_CONDITIONED, SINGULAR, Identifiability, about_points, identify
from analysis.fitter.points import read_points
from analysis.fitter.uncertainty import to_theta
from analysis.laws.registry import get_law
from tests.analysis.helpers import TRUTH, chinchilla_points

NO_DRAWS = np.empty((0, 5))


def points(sizes: Any, ratios: Any) -> dict[str, Any]:
    """Exact losses of every size at every ratio of tokens to parameters."""
    n, ratio = (values.ravel() for values in np.meshgrid(sizes, ratios))
    d = n * ratio
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    return {"n_params": n, "n_tokens": d, "loss": loss}


def judged(
    table: dict[str, Any], *, constants: dict[str, float] | None = None, spread: float | None = None
) -> tuple[Identifiability, str]:
    """Of the truth, or of constants that are given, with resamples that scatter by `spread`."""
    law = get_law("chinchilla").single
    assert law is not None
    problem = problem_of(law, read_points(law, table, None, None, None, log=True), {}, log=True)
    row = np.array([[(TRUTH | (constants or {}))[name] for name in law.names]])
    theta = to_theta(law, row, problem.centre)[0]
    draws = NO_DRAWS
    if spread is not None:
        draws = theta + spread * np.random.default_rng(0).standard_normal((200, 5))
    sources = {"n_params": "my_size", "n_tokens": "n_tokens"}
    found, warnings = identify(problem, theta, draws, sources)
    return found, "\n".join(warnings)


SPREAD_WELL = points(np.geomspace(1e6, 1e8, 7), np.geomspace(2, 200, 6))
LADDER = points(np.geomspace(1e6, 1e8, 16), [20.0])


def test_well_spread_points_have_no_warning() -> None:
    found, said = judged(SPREAD_WELL)
    assert said == ""
    assert found.pairs == ()
    assert found.condition_number is not None
    assert 1 <= found.condition_number < ILL_CONDITIONED


@pytest.mark.parametrize(("n", "free", "warned"), [(15, 5, False), (14, 5, True), (3, 1, False), (2, 1, True)])
def test_three_points_a_parameter_are_enough(n: int, free: int, warned: bool) -> None:
    said = about_points(n, free)
    assert said == ([f"{n} points for {free} parameters; fewer than 3 per parameter"] if warned else [])


def test_a_ladder_at_one_ratio_cannot_tell_its_terms_apart() -> None:
    found, said = judged(LADDER)
    assert found.condition_number is not None
    assert found.condition_number > SINGULAR
    assert "the constants are not determined by these data; use predictions inside the fitted range only" in said
    assert "my_size and n_tokens move together (correlation of logs 1.000), like a ladder at a fixed ratio" in said


def test_a_narrow_or_coarse_column_is_named_as_the_table_names_it() -> None:
    narrow = judged(points(np.geomspace(1e6, 1e7, 7), np.geomspace(2, 200, 6)))[1]
    assert "my_size spans 1 decades; below 1.5 its exponent is unsure" in narrow
    coarse = judged(points([1e6, 1e7, 1e8], np.geomspace(2, 200, 7)))[1]
    assert "my_size takes 3 values; fewer than 4 hide a bend" in coarse
    assert "n_tokens takes" not in coarse


@pytest.mark.parametrize(("constants", "warning"), [
    ({"alpha": 3.9}, "alpha = 3.9 lies outside of "),
    ({"E": 0.01}, "E is 0% of the lowest measured loss; the floor is unsure"),
])  # fmt: skip
def test_an_unlikely_constant_is_named(constants: dict[str, float], warning: str) -> None:
    assert warning in judged(SPREAD_WELL, constants=constants)[1]
    assert warning not in judged(SPREAD_WELL)[1]


def test_a_constant_at_its_bound_is_named_instead() -> None:
    said = judged(SPREAD_WELL, constants={"alpha": 0.0})[1]
    assert "alpha lies at its bound" in said
    assert "alpha = 0 lies outside" not in said


def test_a_floor_that_resamples_know_well_is_none_to_warn_of() -> None:
    low = {"E": 0.01}
    assert "the floor is unsure" in judged(SPREAD_WELL, constants=low, spread=0.05)[1]
    assert "the floor is unsure" not in judged(SPREAD_WELL, constants=low, spread=0.005)[1]


def test_an_interval_wider_than_its_exponent_is_told() -> None:
    wide = judged(SPREAD_WELL, spread=0.2)[1]
    assert "alpha = 0.348 has a 95% interval of " in wide
    assert "wider than itself; these data do not determine it" in wide
    assert "95% interval" not in judged(SPREAD_WELL, spread=0.01)[1]


def test_constants_that_trade_off_are_pairs_of_the_resamples() -> None:
    law = get_law("chinchilla").single
    assert law is not None
    problem = problem_of(law, read_points(law, SPREAD_WELL, None, None, None, log=True), {}, log=True)
    theta = optimise(problem, np.ones(42), math.inf).theta
    rng = np.random.default_rng(0)
    draws = theta + 0.01 * rng.standard_normal((100, 5))
    apart, said = identify(problem, theta, draws, {})
    assert apart.pairs == ()
    draws[:, 4] = theta[4] - (draws[:, 3] - theta[3])
    together, warned = identify(problem, theta, draws, {})
    assert [(a, b) for a, b, _ in together.pairs] == [("alpha", "beta")]
    assert together.pairs[0][2] == pytest.approx(-1)
    assert "alpha and beta trade off (correlation -1.0000); read them together only" in warned
    assert not any("trade off" in line for line in said)


def test_what_is_found_survives_its_file() -> None:
    found = Identifiability(24.5, (("a", "b", 0.999),))
    values = {"condition_number": 24.5, "pairs": [["a", "b", 0.999]]}
    assert Identifiability.from_json(values) == found
    assert Identifiability.of_steps() == Identifiability(None, ())
    assert chinchilla_points()["loss"] == pytest.approx(SPREAD_WELL["loss"])

"""The laws of loss curves: published fits, what the schedule does to the loss, and tables that are no curves."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.fitter.formula import complex_step
from analysis.laws.annealing import MULTI_POWER, annealing, area, lr_annealing, multi_power, read_areas, read_reductions
from analysis.laws.registry import find_law
from analysis.tables.columns import Array, FitError
from analysis.tables.curves import Curves, at_peak, trajectories
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_annealing import cosine, stable_decay

# Validation losses at steps 1000, 2000, …, 20000 (cosine to 0 and constant, peak 2e-4, 500 steps of warm-up), from the
# code released with Tissue et al. 2024 (arXiv 2408.11029).
PUBLISHED = {
    "cosine": "3.6696358 3.3254106 3.1908393 3.1158533 3.0604768 3.020384 2.9880967 2.9612265 2.9395165 2.9195616 "
    "2.9030452 2.8881907 2.8767889 2.8654318 2.8565135 2.8489892 2.843639 2.8398669 2.8380618 2.8376071",
    "constant": "3.6714418 3.325626 3.1884103 3.111947 3.058354 3.0211415 2.9874816 2.96082 2.9406552 2.9241402 "
    "2.9054413 2.8942103 2.8807929 2.8702695 2.862175 2.8530996 2.8448784 2.8383856 2.8326995 2.8294308",
}


def warmed_up(lr_T: Array, warmup: int) -> Array:
    """A schedule whose first steps rise in a line from 0 to its value at step `warmup`."""
    steps = np.arange(1, len(lr_T) + 1)
    return np.where(steps < warmup, lr_T[warmup - 1] * steps / warmup, lr_T)


def curves(schedules: dict[str, Array], at: dict[str, Array]) -> Curves:
    """Points at some steps of each schedule, and the schedules whole."""
    whole = {
        "curve": np.repeat(list(schedules), [len(lr_T) for lr_T in schedules.values()]),
        "step": np.concatenate([np.arange(1, len(lr_T) + 1) for lr_T in schedules.values()]),
        "lr": np.concatenate(list(schedules.values())),
    }
    points = {
        "curve": np.repeat(list(at), [len(steps) for steps in at.values()]),
        "step": np.concatenate(list(at.values())),
    }
    return Curves(points, whole)


def published_curves() -> Curves:
    steps = np.arange(1, 20001)
    annealed = np.where(steps > 500, cosine(steps - 500, peak=2e-4, last=19500), 2e-4)
    schedules = {"cosine": warmed_up(annealed, 500), "constant": warmed_up(np.full(20000, 2e-4), 500)}
    table = curves(schedules, {name: np.arange(1000, 20001, 1000) for name in PUBLISHED})
    loss = np.array([float(value) for text in PUBLISHED.values() for value in text.split()])
    return Curves(table.points | {"loss": loss}, table.schedules)


# --- the annealing law -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "L0", "A", "alpha", "C", "objective"),
    [
        (0.99, 2.6207, 0.4387, 0.5412, 3.916, 2.317e-5),
        (0.995, 2.6213, 0.4378, 0.5419, 1.966, 2.194e-5),
        (0.999, 2.6278, 0.4297, 0.5498, 0.4108, 1.629e-5),
    ],
)
def test_the_published_fit(decay: float, L0: float, A: float, alpha: float, C: float, objective: float) -> None:
    """At 0.999 the paper has 2.628 + 0.429 S1^-0.550 - 0.411 S2."""
    found = fit("lr_annealing", published_curves(), options={"decay": decay}, bootstrap=0)
    assert found.values == pytest.approx({"L0": L0, "A": A, "alpha": alpha, "C": C}, rel=0.005)
    assert found.objective["value"] <= 1.005 * objective
    assert found.derived["drop_per_lr"].value == pytest.approx(found.values["C"] / (1 - decay), rel=1e-12)


def test_the_published_points_need_their_annealing() -> None:
    """Negative control: with a hardly delayed S2 the objective is worse, and as trained L0 moves beyond 0.5 %."""
    best = fit("lr_annealing", published_curves(), bootstrap=0)
    hasty = fit("lr_annealing", published_curves(), options={"decay": 0.5}, bootstrap=0)
    assert hasty.objective["value"] > 1.3 * best.objective["value"]
    trained = fit("lr_annealing", published_curves(), options={"warmup": "true"}, bootstrap=0)
    assert abs(trained.values["A"] / best.values["A"] - 1) > 0.005


def test_annealing_is_the_double_sum_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    lr_T, decay = rng.uniform(1e-4, 3e-4, 60), 0.9
    direct = [
        sum((lr_T[k - 1] - lr_T[k]) * decay ** (i - k) for i in range(s + 1) for k in range(1, i + 1))
        for s in range(len(lr_T))
    ]
    np.testing.assert_allclose(annealing(lr_T, decay), direct, rtol=1e-10, atol=1e-18)
    assert not np.allclose(annealing(lr_T, 0.91), direct, rtol=1e-3)
    np.testing.assert_allclose(area(lr_T), [lr_T[: s + 1].sum() for s in range(len(lr_T))])


def test_a_drop_of_the_learning_rate_acts_late_and_up_to_a_limit() -> None:
    lr_T = np.where(np.arange(5000) < 1000, 3e-4, 1e-4)
    S2 = annealing(lr_T, 0.99)
    assert not S2[:1000].any()
    assert S2[1000 + 100] == pytest.approx(2e-4 / 0.01 * (1 - 0.99**101), rel=1e-10)
    assert S2[-1] == pytest.approx(2e-4 / 0.01, rel=1e-10)
    assert annealing(lr_T[::-1], 0.99)[-1] < 0  # a rate that rises is the opposite


def test_the_warm_up_is_taken_to_be_at_the_peak() -> None:
    annealed = stable_decay(np.arange(1, 1001), peak=1e-3, start=800, last=1000)
    np.testing.assert_allclose(at_peak(warmed_up(annealed, 100)), annealed, rtol=1e-12)
    constant = np.full(300, 1e-3)
    np.testing.assert_allclose(at_peak(warmed_up(constant, 100)), constant)
    restarts = np.concatenate([warmed_up(cosine(np.arange(500), peak=1e-3, last=499), 50), np.full(10, 2e-3)])
    assert (at_peak(restarts)[50:] == restarts[50:]).all()  # a later, higher peak does not count as warm-up
    table = curves({"a": warmed_up(annealed, 100)}, {"a": np.array([500])})
    trained, peak = (read_areas(table, {"decay": 0.99, "warmup": how}) for how in ("true", "peak"))
    assert peak["area"][0] == pytest.approx(0.5)
    assert trained["area"][0] == pytest.approx(0.5 - 0.0495, rel=1e-3)
    assert trained["annealing"][0] < 0 == peak["annealing"][0]


def test_a_law_fitted_to_two_schedules_predicts_a_third() -> None:
    truth = {"L0": 2.6, "A": 0.43, "alpha": 0.55, "C": 0.41}
    steps = np.arange(1, 6001)
    schedules = {
        "constant": warmed_up(np.full(6000, 3e-4), 100),
        "cosine": warmed_up(cosine(steps, peak=3e-4, last=6000), 100),
        "wsd": warmed_up(stable_decay(steps, peak=3e-4, start=5000, last=6000), 100),
    }
    table = curves(schedules, {name: np.arange(300, 6001, 50) for name in schedules})
    exact = lr_annealing(read_areas(table, {"decay": 0.999, "warmup": "peak"}), **truth)
    loss = exact * np.exp(0.001 * np.random.default_rng(0).standard_normal(len(exact)))
    points = pl.DataFrame(table.points | {"loss": loss, "exact": exact})
    fitted = Curves(points.filter(pl.col("curve") != "wsd"), table.schedules)
    unseen = points.filter(pl.col("curve") == "wsd")
    result = fit("lr_annealing", fitted, bootstrap=0)
    predicted = result.predict(Curves(unseen.drop("loss"), table.schedules))["predicted"]
    error = np.abs(predicted / unseen["exact"].to_numpy() - 1).mean()
    assert error < 0.0005
    forward = lr_annealing(
        read_areas(Curves(unseen, table.schedules), result.law.options), **(result.values | {"C": 0.0})
    )
    assert np.abs(forward / unseen["exact"].to_numpy() - 1).mean() > 4 * error


# --- the multi-power law -----------------------------------------------------------------------------------

# Luo et al. 2025 (arXiv 2503.12811), constants of the released fit to the 25M curves.
LUO_25M = {"L0": 3.04045, "A": 0.52469, "alpha": 0.50787, "B": 363.788, "C": 2.06561, "beta": 0.58279, "gamma": 0.64142}


def luo_schedules() -> dict[str, Array]:
    """The paper's three fitted schedules and others as in its tests: peak 3e-4, end 3e-5, 2160 steps of warm-up."""
    peak, end, warmup = 3e-4, 3e-5, 2160

    def cos(last: int) -> Array:
        steps = np.maximum(np.arange(1, last + 1) - warmup, 0)
        return cosine(steps, peak=peak, last=last - warmup, end=end)

    def two_stages(share: float) -> Array:
        return np.where(np.arange(1, 16001) > 8000, share * peak, peak)

    shapes = {
        "cosine": cos(24000),
        "constant": np.full(24000, peak),
        "wsdcon 0.3": two_stages(0.3),
        "cosine 72000": cos(72000),
        "wsdld": stable_decay(np.arange(1, 24001), peak=peak, start=20000, last=24000, end=end),
        "wsdcon 0.1": two_stages(0.1),
        "wsdcon 0.6": two_stages(0.6),
    }
    return {name: warmed_up(lr_T, warmup) for name, lr_T in shapes.items()}


FITTED = ("cosine", "constant", "wsdcon 0.3")


def exact_multi_power(lr_T: Array, steps: Array, p: dict[str, float]) -> Array:
    """The law as it stands, step by step."""
    S1_T = np.cumsum(lr_T)
    losses = []
    for t in steps:
        k = np.arange(t)
        left = S1_T[t - 1] - S1_T[k] + lr_T[k]
        G = 1 - (1 + p["C"] * lr_T[k] ** -p["gamma"] * left) ** -p["beta"]
        drop = (-np.diff(lr_T, prepend=0.0)[k] * G).sum()
        losses.append(p["L0"] + p["A"] * S1_T[t - 1] ** -p["alpha"] - p["B"] * drop)
    return np.array(losses)


def test_gathering_reductions_keeps_the_sum() -> None:
    steps = np.array([500, 2160, 5000, 8001, 8100, 16000, 21000, 24000])
    for name in ("cosine", "wsdld", "wsdcon 0.3"):
        lr_T = luo_schedules()[name]
        at = steps[steps <= len(lr_T)]
        variables = read_reductions(curves({name: lr_T}, {name: at}), {})
        assert variables["reduction"].shape[1] <= 34 < 2160
        for change in ({}, {"C": 0.1, "beta": 0.2, "gamma": 0.2}, {"C": 10.0, "beta": 1.0, "gamma": 1.0}):
            constants = LUO_25M | change
            np.testing.assert_allclose(
                multi_power(variables, **constants), exact_multi_power(lr_T, at, constants), rtol=2e-5
            )


@pytest.mark.parametrize("name", ["cosine", "wsdld"])
def test_fewer_knots_are_worse(name: str) -> None:
    """The error falls with the square of the number of knots; one knot is off by far more than is allowed above."""
    lr_T, steps = luo_schedules()[name], np.array([2160, 8100, 21000, 24000])
    exact = exact_multi_power(lr_T, steps, LUO_25M)
    one, four, sixteen = (
        np.abs(
            multi_power(read_reductions(curves({name: lr_T}, {name: steps}), {}, knots=knots), **LUO_25M) / exact - 1
        ).max()
        for knots in (1, 4, 16)
    )
    assert one > 1e-4
    assert sixteen < four / 6


def test_a_schedule_down_to_zero() -> None:
    lr_T = stable_decay(np.arange(1, 1001), peak=3e-4, start=500, last=1000)
    assert lr_T[-1] == 0
    table = curves({"a": lr_T}, {"a": np.array([999, 1000])})
    before, last = multi_power(read_reductions(table, {}), **LUO_25M)
    assert abs(last / before - 1) < 1e-3


def test_where_the_multi_power_law_tends_to() -> None:
    """L0 + B lr at a constant rate; L0 once the rate has been lowered to nearly nothing."""
    p = LUO_25M | {"A": 1e-12}
    steps = np.array([10_000, 200_000])
    stay = multi_power(read_reductions(curves({"a": np.full(200_000, 3e-4)}, {"a": steps}), {}), **p)
    assert stay[-1] == pytest.approx(p["L0"] + p["B"] * 3e-4, rel=2e-3)
    lower = np.where(np.arange(200_000) < 5000, 3e-4, 3e-8)
    fall = multi_power(read_reductions(curves({"a": lower}, {"a": steps}), {}), **p)
    assert fall[1] < fall[0] < stay[0]
    assert fall[1] == pytest.approx(p["L0"], rel=0.005)


def test_unseen_schedules_are_predicted_from_the_papers_three() -> None:
    schedules = luo_schedules()
    table = curves(schedules, {name: np.arange(2400, len(lr_T) + 1, 400) for name, lr_T in schedules.items()})
    exact = multi_power(read_reductions(table, {}), **LUO_25M)
    noise = 0.002 * np.random.default_rng(0).standard_normal(len(exact))
    points = pl.DataFrame(table.points | {"loss": exact * np.exp(noise), "exact": exact})
    seen = pl.col("curve").is_in(FITTED)
    result = fit("multi_power", Curves(points.filter(seen), table.schedules), bootstrap=0)
    unseen = points.filter(~seen)
    predicted = result.predict(Curves(unseen, table.schedules))["predicted"]
    error = pl.DataFrame({"curve": unseen["curve"], "error": np.abs(predicted / unseen["exact"].to_numpy() - 1)})
    assert error.group_by("curve").mean()["error"].max() < 0.002
    # Negative control: without the drop the same curves are missed by far.
    forward = multi_power(read_reductions(Curves(unseen, table.schedules), {}), **(result.values | {"B": 0.0}))
    assert np.abs(forward / unseen["exact"].to_numpy() - 1).mean() > 0.01


def test_the_gradient_of_the_multi_power_law() -> None:
    lr_T = luo_schedules()["wsdld"]
    variables = read_reductions(curves({"a": lr_T}, {"a": np.array([3000, 20500, 24000])}), {})
    rng = np.random.default_rng(1)
    parameters = {name: value * rng.uniform(0.8, 1.2, (5, 1)) for name, value in LUO_25M.items()}
    assert MULTI_POWER.gradient is not None
    for ours, exact in zip(
        MULTI_POWER.gradient(variables, **parameters), complex_step(multi_power, variables, parameters), strict=True
    ):
        np.testing.assert_allclose(np.broadcast_to(ours, exact.shape), exact, rtol=1e-10)


def test_many_resamples_take_little_memory() -> None:
    schedules = {name: luo_schedules()[name] for name in FITTED}
    table = curves(schedules, {name: np.arange(2400, len(lr_T) + 1, 150) for name, lr_T in schedules.items()})
    variables = read_reductions(table, {})
    draws = {name: np.full((6000, 1), value) for name, value in LUO_25M.items()}
    tracemalloc.start()
    losses = multi_power(variables, **draws)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 8 * losses.size * variables["reduction"].shape[1]
    assert peak < 150e6 < whole / 1.5


# --- tables ------------------------------------------------------------------------------------------------


def table(**changes: Any) -> dict[str, Any]:
    rows = {
        "curve": ["a"] * 8 + ["b"] * 8,
        "step": [*range(100, 900, 100)] * 2,
        "lr": [1e-3] * 8 + [1e-3] * 4 + [5e-4] * 4,
        "loss": [4.0, 3.5, 3.3, 3.2, 3.12, 3.07, 3.03, 3.0, 4.0, 3.5, 3.3, 3.2, 3.08, 3.02, 2.97, 2.94],
    }
    return rows | changes


LATER = [*range(200, 900, 100), *range(100, 900, 100)]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (table(step=[0, *LATER]), ("step: 0 in row 1", "'a'", "from 1")),
        (table(step=[10.5, *LATER]), ("step: 10.5 in row 1", "whole")),
        (table(step=[1e9, *LATER]), ("step: 1e+09 in row 1",)),
        (
            table(step=[300, *LATER]),
            ("300 stands twice in curve 'a'", "1 and 3"),
        ),
        (table(curve=["a"] * 16), ("100 stands twice in curve 'a'", "rows 1 and 9")),
        (table(curve=[None] + ["a"] * 7 + ["b"] * 8), ("curve: row 1 is empty",)),
        (table(lr=[-1e-3] * 16), ("lr: -0.001 in row 1",)),
        (table(lr=[0.0] * 16), ("lr: of curve 'a' is 0 at every step up to row 1",)),
        (table(lr=[1e-3] * 16), ("lr: falls in no curve", "C")),
    ],
)
def test_what_is_no_curve(points: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(FitError) as caught:
        fit("lr_annealing", points, bootstrap=0)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        ({"curve": ["a"] * 2, "step": [1, 800], "lr": [1e-3, 1e-3]}, ("curve: 'b' of row 9 has no schedule", "a")),
        (
            {"curve": ["a", "a", "b", "b"], "step": [1, 700, 1, 800], "lr": [1e-3] * 4},
            ("step: 800 in row 8 lies outside", "'a'", "1 to 700"),
        ),
        (
            {"curve": ["a", "a", "b", "b"], "step": [200, 800, 1, 800], "lr": [1e-3] * 4},
            ("step: 100 in row 1 lies outside", "200 to 800"),
        ),
        ({"curve": ["a", "a"], "step": [1, 800]}, ("lr: no such column",)),
        ({"curve": ["a", "a"], "step": [1, 1], "lr": [1, 1]}, ("stands twice in curve 'a' of the schedules",)),
    ],
)
def test_schedules_that_do_not_fit_their_points(schedules: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(FitError) as caught:
        fit("lr_annealing", Curves(table(), schedules), bootstrap=0)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decay": 1.0}, ("decay: 1.0", "below 1")),
        ({"decay": "slow"}, ("decay: slow",)),
        ({"decay": float("nan")}, ("decay: nan",)),
        ({"warmup": "none"}, ("warmup: none", "peak, true")),
    ],
)
def test_options_that_make_no_law(options: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(FitError) as caught:
        fit("lr_annealing", table(), options=options, bootstrap=0)
    assert all(word in str(caught.value) for word in words)


def test_the_order_of_rows_does_not_matter_and_sparse_points_need_a_schedule() -> None:
    order = np.random.default_rng(0).permutation(16)
    shuffled = {name: np.array(values)[order] for name, values in table().items()}
    straight = read_areas(table(), {"decay": 0.99, "warmup": "peak"})
    turned = read_areas(shuffled, {"decay": 0.99, "warmup": "peak"})
    for name in straight:
        np.testing.assert_array_equal(straight[name][order], turned[name])

    # Between the points at 400 and 500 the rate falls in a line, unless the schedule says that it fell at 450.
    steps = np.arange(1, 801)
    whole = {
        "curve": ["a"] * 800 + ["b"] * 800,
        "step": [*steps, *steps],
        "lr": [1e-3] * 800 + [*np.where(steps > 450, 5e-4, 1e-3)],
    }
    (_, fallen), (_, known) = trajectories(table()), trajectories(Curves(table(), whole))
    assert fallen.lr_T[449] == pytest.approx(7.5e-4)
    assert known.lr_T[449] == 1e-3
    assert len(known.lr_T) == 800


def test_a_table_of_curves_reads_like_its_points() -> None:
    frame = pl.DataFrame(table())
    for points in (table(), frame):
        both = Curves(points, {"curve": []})
        assert both.columns == ["curve", "step", "lr", "loss"]
        assert list(both["step"]) == list(points["step"])


def test_the_laws_are_registered() -> None:
    assert {find_law(name).name for name in ("lr_annealing", "lr_annealing_size", "multi_power")} == {
        "lr_annealing",
        "lr_annealing_size",
        "multi_power",
    }

"""Comparisons of two arms and of two laws: crossings, multipliers, honest intervals, and what may not be said."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import main
from analysis.compare.arms import hypotheses_of, read_trials, split_law
from analysis.compare.compare_arms import compare_arms
from analysis.compare.compare_laws import compare_laws
from analysis.compare.crossing import grid, invert, roots, stretches, takeover
from analysis.fitter.formula import complex_step
from analysis.fitter.law import Law
from analysis.laws.chinchilla import chinchilla, optimum
from analysis.laws.registry import find_law, get_law
from analysis.tables.columns import FitError

# L_A = 1.9 + 60 C^-0.095 and L_B = 1.9 + 110 C^-0.112 cross at log10 C = 15.485, half a decade beyond BELOW.
A, B = (60.0, 0.095), (110.0, 0.112)
CROSSING = math.log10(110 / 60) / (0.112 - 0.095)
BELOW = np.geomspace(1e13, 1e15, 7)
AROUND = np.geomspace(1e14, 1e17, 7)


def two_arms(
    noise: float,
    seed: int,
    *,
    flops: Any = BELOW,
    seeds: int = 2,
    first: tuple[float, float] = A,
    second: tuple[float, float] = B,
    common: float = 0.0,
) -> dict[str, Any]:
    """Losses of two arms at the same scales and seeds.

    Args:
        noise: standard deviation of ln loss of each run; `common`: what both arms of a scale and seed share.
    """
    rng = np.random.default_rng(seed)
    C = np.tile(np.repeat(flops, seeds), 2)
    arm = np.repeat(["A", "B"], len(C) // 2)
    factor, exponent = (np.where(arm == "A", a, b) for a, b in zip(first, second, strict=True))
    shared = np.tile(common * rng.standard_normal(len(C) // 2), 2)
    loss = (1.9 + factor * C**-exponent) * np.exp(noise * rng.standard_normal(len(C)) + shared)
    return {"flops": C, "arm": arm, "seed": np.tile(np.arange(seeds), 2 * len(flops)), "loss": loss}


def compared(table: dict[str, Any], **keywords: Any) -> Any:
    return compare_arms(find_law("power_law"), table, by="arm", x="flops", **({"bootstrap": 100} | keywords))


def the(name: str) -> Law:
    law = get_law(name).single
    assert law is not None
    return law


# --- crossings -------------------------------------------------------------------------------------------


def test_the_root_is_that_of_the_closed_form() -> None:
    log_x = grid(1e13, 1e15)
    x = 10**log_x
    difference = A[0] * x ** -A[1] - B[0] * x ** -B[1]
    assert roots(difference, log_x) == pytest.approx([CROSSING], abs=1e-5)
    assert len(roots(difference - 0.2, log_x)) == 0


def test_all_roots_are_found() -> None:
    log_x = grid(1e2, 1e4)  # 1 to 5
    wave = np.sin(2.2 * (log_x - 1.5))
    assert roots(wave, log_x) == pytest.approx([1.5, 1.5 + math.pi / 2.2, 1.5 + 2 * math.pi / 2.2], abs=1e-4)
    assert len(roots(np.zeros(len(log_x)), log_x)) == 0


def test_a_replicate_without_a_crossing_is_censored_at_the_end_that_it_points_to() -> None:
    log_x = np.linspace(0.0, 4.0, 401)
    lead = np.stack([log_x - 2.5, np.full(401, 1.0), np.full(401, -1.0), 2.5 - log_x, np.zeros(401)])
    assert takeover(lead, log_x) == pytest.approx([2.5, 0.0, 4.0, 4.0, 4.0])
    twice = (log_x - 1) * (log_x - 2) * (log_x - 3)  # the lead is for good after the last of three
    assert takeover(twice[None], log_x) == pytest.approx([3.0], abs=1e-6)


def test_inversion_of_a_curve() -> None:
    log_x = grid(1e13, 1e15)
    loss = 1.9 + A[0] * 10 ** (-A[1] * log_x)
    wanted = np.array([5.0, 4.5, 1.0])
    at = invert(loss[None], log_x, wanted)[0]
    assert 1.9 + A[0] * 10 ** (-A[1] * at[:2]) == pytest.approx(wanted[:2], rel=1e-6)
    assert at[2] == log_x[-1]  # never reached: censored


def test_stretches_of_a_condition() -> None:
    log_x = np.arange(6.0)
    assert stretches(np.array([True, True, False, False, True, False]), log_x) == [(1.0, 10.0), (1e4, 1e4)]
    assert stretches(np.zeros(6, dtype=bool), log_x) == []


# --- the joint law ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["power_law", "power_law_no_offset", "frontier", "chinchilla"])
def test_a_split_law_is_the_law_of_each_arm(name: str) -> None:
    law = the(name)
    rng = np.random.default_rng(0)
    columns = {column.name: rng.uniform(1, 5, 8) for column in law.columns} | {"arm": np.repeat([0.0, 1.0], 4)}
    for _, own in hypotheses_of(law).values():
        joint = split_law(law, own, ("a", "b"))
        assert len(joint.names) == len(law.names) + len(own)
        constants = {p: np.array([[value]]) for p, value in zip(joint.names, rng.uniform(0.2, 1, 12), strict=False)}
        for arm, rows in (("a", slice(0, 4)), ("b", slice(4, 8))):
            mine = {p: constants[f"{p}[{arm}]" if p in own else p] for p in law.names}
            alone = law.function({key: values[rows] for key, values in columns.items()}, **mine)
            assert joint.function(columns, **constants)[:, rows] == pytest.approx(alone)
        exact = complex_step(joint.function, columns, constants)
        for slope, expected in zip(joint.partials(columns, constants), exact, strict=True):
            assert np.broadcast_to(slope, (1, 8)) == pytest.approx(np.broadcast_to(expected, (1, 8)), rel=1e-9)


def test_a_law_without_a_floor_has_no_hypothesis_of_floors() -> None:
    assert list(hypotheses_of(the("power_law"))) == ["same", "factor", "slope", "floor"]
    assert list(hypotheses_of(the("power_law_no_offset"))) == ["same", "factor", "slope"]


# --- arms ------------------------------------------------------------------------------------------------


def test_exact_points_give_back_the_crossing() -> None:
    found = compared(two_arms(0.0, 0), bootstrap=20)
    assert found.chosen == "slope"
    assert math.log10(found.crossing.roots[0]) == pytest.approx(CROSSING, abs=1e-3)
    constants = {one.name: one.constants for one in found.hypotheses}["slope"]
    expected = {"E": 1.9, "A[A]": 60, "A[B]": 110, "alpha[A]": 0.095, "alpha[B]": 0.112}
    assert constants == pytest.approx(expected, rel=1e-3)


def crossings(noise: float, own: str, count: int) -> Any:
    """5, 50 and 95 % of the fitted crossing over simulated experiments."""
    law = the("power_law")
    split = hypotheses_of(law)[own][1]
    log_x = grid(BELOW[0], BELOW[-1], beyond=3)
    places = []
    for seed in range(count):
        trials = read_trials(law, two_arms(noise, seed), "arm", "flops", None)
        values = trials.fit(split_law(law, split, trials.arms)).values
        curves = [
            law.function({"x": 10**log_x}, **{p: values[f"{p}[{arm}]" if p in split else p] for p in law.names})
            for arm in "AB"
        ]
        places.append(takeover((curves[0] - curves[1])[None], log_x)[0])
    return np.quantile(places, [0.05, 0.5, 0.95])


def test_a_shared_floor_halves_the_spread_of_an_extrapolated_crossing() -> None:
    """At a noise of 0.001 over 200 experiments: 15.41, 15.48, 15.56 with one floor; 15.36, 15.48, 15.74 with two."""
    shared, separate = crossings(1e-3, "slope", 40), crossings(1e-3, "floor", 40)
    assert shared == pytest.approx([15.41, 15.48, 15.56], abs=0.045)
    assert separate == pytest.approx([15.36, 15.48, 15.74], abs=0.15)
    assert np.ptp(separate) > 1.5 * np.ptp(shared)
    assert crossings(5e-4, "slope", 40) == pytest.approx([15.45, 15.49, 15.52], abs=0.025)


def test_a_crossing_beyond_the_data_is_called_extrapolated() -> None:
    found = compared(two_arms(1e-3, 1))
    assert found.crossing.where == "extrapolated"
    assert found.verdict == "better throughout"
    assert found.sentence.startswith("A is better throughout the measured range")
    assert "extrapolated crossing" in found.sentence
    low, high = found.crossing.log10_x.ci90
    assert 15 < low < found.crossing.log10_x.value < high < 16
    assert found.crossing.p_inside == 0
    assert found.crossing.p_exists > 0.95


def test_a_crossing_inside_the_range_is_an_overtaking_if_two_seeds_confirm_it() -> None:
    found = compared(two_arms(5e-4, 2, flops=AROUND))
    assert found.verdict == "overtakes"
    assert found.sentence.startswith("B overtakes A at flops = 3.")
    low, high = found.crossing.log10_x.ci90
    assert low < CROSSING < high
    assert found.crossing.where == "inside_range"
    one_seed = compared(two_arms(5e-4, 2, flops=AROUND, seeds=1))
    assert one_seed.verdict == "cannot tell"
    assert "no two seeds confirm" in one_seed.sentence


def test_noise_makes_the_crossing_unknown() -> None:
    for seed in range(3):
        found = compared(two_arms(5e-2, seed, flops=AROUND))
        assert found.verdict == "cannot tell"
        low, high = found.crossing.log10_x.ci90
        assert high - low > 1


def test_the_same_arm_twice_has_nothing_to_tell() -> None:
    found = compared(two_arms(1e-3, 4, second=A), at=(1e17,))
    assert found.verdict == "cannot tell"
    assert "one law fits both" in found.sentence
    assert found.chosen == "same"
    assert found.multiplier.ci90[0] < 1 < found.multiplier.ci90[1]
    at = {place.x: place for place in found.at}
    assert 0.02 < at[1e17].p_better < 0.98
    assert at[1e17].difference.ci90[0] < 0 < at[1e17].difference.ci90[1]
    assert any("--at 1e+17" in warning for warning in found.warnings)
    unlike = compared(two_arms(1e-3, 4), at=(1e17,))
    assert not unlike.multiplier.ci90[0] < 1 < unlike.multiplier.ci90[1]


def test_a_constant_multiplier_is_recovered() -> None:
    """B needs 1.5 times less compute: A_B = A_A 1.5^-alpha."""
    faster = (A[0] * 1.5 ** -A[1], A[1])
    found = compared(two_arms(1e-3, 5, second=faster))
    assert found.chosen == "factor"
    assert found.multiplier.value == pytest.approx(1.5, rel=0.05)
    assert found.multiplier.ci90[0] < 1.5 < found.multiplier.ci90[1]
    assert found.verdict == "better throughout"
    assert found.sentence.startswith("B is better")
    assert np.array(found.multipliers["value"]) == pytest.approx(1.5, rel=0.15)
    turned = compared(two_arms(1e-3, 5, second=faster), reference="B")
    assert turned.arms == ("B", "A")
    assert turned.multiplier.value == pytest.approx(1 / found.multiplier.value, rel=1e-4)
    assert turned.sentence.startswith("B is better")


def test_the_multiplier_follows_the_loss_where_exponents_differ() -> None:
    found = compared(two_arms(0.0, 0), bootstrap=20)
    loss, value = np.array(found.multipliers["loss"]), np.array(found.multipliers["value"])
    exact = ((loss - 1.9) / A[0]) ** (-1 / A[1]) / ((loss - 1.9) / B[0]) ** (-1 / B[1])
    assert value == pytest.approx(exact, rel=5e-3)


def test_noise_that_both_arms_share_cancels_only_in_pairs() -> None:
    table = two_arms(2e-4, 6, common=5e-3, flops=AROUND, seeds=3)
    unpaired = {name: values for name, values in table.items() if name != "seed"}
    widths = [np.ptp(compared(one).at[0].difference.ci90) for one in (table, unpaired)]
    assert widths[0] < 0.5 * widths[1]
    assert any("not paired" in warning for warning in compared(unpaired).warnings)


def test_the_order_of_rows_does_not_matter() -> None:
    table = two_arms(1e-3, 7)
    order = np.random.default_rng(0).permutation(len(table["loss"]))
    one, other = compared(table), compared({name: values[order] for name, values in table.items()})
    assert other.crossing.log10_x.ci90 == pytest.approx(one.crossing.log10_x.ci90, abs=1e-4)
    assert other.sentence == one.sentence


def test_the_bootstrap_keeps_a_scale_and_seed_together() -> None:
    trials = read_trials(the("power_law"), two_arms(1e-3, 0), "arm", "flops", None)
    weights = trials.draw(50, 0, 5)
    assert np.array_equal(weights[:, :14], weights[:, 14:])  # both arms of every unit
    assert not np.array_equal(weights[:, :14:2], weights[:, 1:14:2])  # but not both seeds
    # 28 points less 5 constants: 23/28 of the 14 units
    assert set(weights[:, :14].sum(1)) == {round(14 * 23 / 28)}


def test_unequal_numbers_of_trials_are_a_warning() -> None:
    table = two_arms(1e-3, 8)
    kept = np.ones(len(table["loss"]), dtype=bool)
    kept[[0, 2]] = False
    found = compared({name: values[kept] for name, values in table.items()})
    assert any("different numbers of trials (A 12, B 14" in warning for warning in found.warnings)
    assert not any("numbers of trials" in warning for warning in compared(table).warnings)


def test_few_scales_are_a_warning() -> None:
    few = compared(two_arms(1e-3, 9, flops=np.geomspace(1e13, 1e14, 3), seeds=4))
    assert any("3 scales over 1 decades" in warning for warning in few.warnings)
    assert not any("scales over" in warning for warning in compared(two_arms(1e-3, 9)).warnings)


def test_separate_floors_are_told_and_drawn_on_request() -> None:
    table = two_arms(2e-4, 10, flops=np.geomspace(1e14, 1e20, 10))
    table["loss"] = table["loss"] + np.where(table["arm"] == "A", 0.15, 0.0)
    shared, separate = compared(table), compared(table, floors="separate")
    assert shared.chosen == separate.chosen == "floor"
    assert (shared.drawn, separate.drawn) == ("slope", "floor")
    assert any("separate floors fit better" in warning for warning in shared.warnings)
    assert not any("separate floors" in warning for warning in separate.warnings)


def test_chinchilla_is_compared_along_its_best_allocation() -> None:
    truth = {"E": 1.8, "alpha": 0.35, "beta": 0.36}
    sizes, ratios = np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(2, 100, 4))
    n, d = np.tile(sizes.ravel(), 2), np.tile((sizes * ratios).ravel(), 2)
    arm = np.repeat(["adamw", "muon"], sizes.size)
    # Each of N and D counts 1.2 times as much, so that compute does 1.44 times.
    better = np.where(arm == "muon", 1.2, 1.0)
    loss = chinchilla({"n_params": n * better, "n_tokens": d * better}, A=480.0, B=2100.0, **truth)
    loss = loss * np.exp(5e-4 * np.random.default_rng(0).standard_normal(len(n)))
    table = {"n_params": n, "n_tokens": d, "arm": arm, "loss": loss}
    found = compare_arms(find_law("chinchilla"), table, by="arm", bootstrap=50)
    assert found.x == "C = 6 N D"
    assert found.multiplier.value == pytest.approx(1.44, rel=0.03)
    assert found.verdict == "better throughout"
    C = np.array(found.curves.x)
    best = dict(zip(("n_params", "n_tokens"), optimum(C, A=480.0, B=2100.0, alpha=0.35, beta=0.36), strict=True))
    low, high = found.crossing.measured
    measured = (low <= C) & (high >= C)
    exact = chinchilla(best, A=480.0, B=2100.0, **truth)[measured]
    assert np.array(found.curves.lines["adamw"]["loss"])[measured] == pytest.approx(exact, rel=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [5e-4, 1e-3])
def test_intervals_of_the_crossing_cover_it(noise: float) -> None:
    ends = [compared(two_arms(noise, seed), bootstrap=200).crossing.log10_x.ci90 for seed in range(200)]
    assert 0.85 <= np.mean([low <= CROSSING <= high for low, high in ends]) <= 0.95


@pytest.mark.slow
def test_the_same_arm_twice_is_seldom_told_apart() -> None:
    found = [compared(two_arms(1e-3, seed, second=A)) for seed in range(100)]
    assert np.mean([one.verdict == "cannot tell" for one in found]) >= 0.9
    assert np.mean([one.multiplier.ci90[0] <= 1 <= one.multiplier.ci90[1] for one in found]) >= 0.83
    shares = np.array([one.at[0].p_better for one in found])
    assert 0.35 < shares.mean() < 0.65


# --- laws ------------------------------------------------------------------------------------------------


def one_arm(noise: float, seed: int, **keywords: Any) -> pl.DataFrame:
    flops = np.geomspace(1e13, 1e17, 12)
    return pl.DataFrame(two_arms(noise, seed, flops=flops, **keywords)).filter(pl.col("arm") == "A")


def test_a_law_with_a_floor_beats_one_without_where_there_is_one() -> None:
    table = one_arm(2e-3, 0)
    found = compare_laws([find_law("power_law"), find_law("power_law_no_offset")], table, x="flops", bootstrap=100)
    assert (found.verdict, found.better) == ("better", "power_law")
    assert found.difference is not None
    assert found.difference.ci90[1] < 0
    assert found.apart[-1][1] == pytest.approx(1e18)
    assert len(found.crossings) == 2  # a straight line through a bent one
    assert found.apart_share > 0.2
    turned = compare_laws([find_law("power_law_no_offset"), find_law("power_law")], table, x="flops", bootstrap=100)
    assert turned.better == "power_law"


def test_a_needless_constant_is_not_called_better() -> None:
    found = compare_laws([find_law("power_law"), find_law("frontier")], one_arm(2e-3, 2), x="flops", bootstrap=100)
    assert (found.verdict, found.better) == ("cannot tell", None)
    assert found.apart_share == 0


def test_laws_of_other_columns_are_compared_on_the_points() -> None:
    sizes, ratios = np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(2, 100, 5))
    n, d = sizes.ravel(), (sizes * ratios).ravel()
    loss = chinchilla({"n_params": n, "n_tokens": d}, E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.36)
    loss = loss * np.exp(1e-3 * np.random.default_rng(0).standard_normal(len(n)))
    table = pl.DataFrame({"n_params": n, "n_tokens": d, "loss": loss})
    found = compare_laws([find_law("power_law"), find_law("chinchilla")], table, x="n_params", bootstrap=50)
    assert found.better == "chinchilla"
    assert found.curves is None


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    pl.DataFrame(two_arms(5e-4, 2, flops=AROUND)).write_csv(path)
    return path


def test_the_command_says_and_writes_what_it_found(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "compare.json", tmp_path / "compare.png"
    arguments = ["compare", "power_law", "--data", str(points), "--by", "arm", "--x", "flops", "--bootstrap", "50"]
    assert main([*arguments, "--at", "1e18", "--out", str(out), "--plot", str(plot)]) == 0
    assert "verdict: B overtakes A" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["verdict"] == "overtakes"
    assert [place["x"] for place in found["at"]] == pytest.approx([1e17, 1e18])
    assert found["crossing"]["log10_x"]["value"] == pytest.approx(CROSSING, abs=0.05)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_command_compares_laws(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "laws.json", tmp_path / "laws.svg"
    arguments = ["compare", "power_law", "frontier", "--data", str(points), "--where", "arm = 'A'", "--x", "flops"]
    assert main([*arguments, "--bootstrap", "50", "--out", str(out), "--plot", str(plot)]) == 0
    assert "verdict: the data cannot tell" in capsys.readouterr().out
    assert [rival["law"] for rival in json.loads(out.read_text())["laws"]] == ["power_law", "frontier"]
    assert plot.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["power_law", "--by", "optimizer", "--x", "flops"], "optimizer: no such column"),
        (["power_law", "--by", "one", "--x", "flops"], "--by one: has 1 value (x); allowed: exactly two arms"),
        (["power_law", "--by", "three", "--x", "flops"], "--by three: has 3 values (0, 1, 2)"),
        (["power_law", "--by", "arm"], "power_law: say with --x which column x is"),
        (["power_law", "--by", "arm", "--x", "tokens"], "tokens: no such column"),
        (["power_law", "--by", "arm", "--x", "flops", "--reference", "C"], "--reference C: is no value of arm"),
        (["power_law", "--by", "arm", "--x", "flops", "--at", "-1"], "--at -1: is not allowed"),
        (["power_law", "--by", "arm", "--x", "flops", "--bootstrap", "0"], "bootstrap 0"),
        (["power_law", "--by", "half", "--x", "flops"], "half: the ranges of flops of 0 and 1 do not overlap"),
        (["isoflop", "--by", "arm"], "isoflop: has no one formula"),
        (["kaplan_nd", "--by", "arm"], "kaplan_nd"),
        (["power_law", "--x", "flops"], "compare power_law: allowed: two laws"),
        (["power_law", "frontier", "--by", "arm", "--x", "flops"], "--by arm: with 2 laws"),
        (["power_law", "frontier", "--x", "flops", "--at", "1e20"], "--at: speaks of arms"),
        (["power_law", "--by", "arm", "--x", "flops", "--plot", "compare.txt"], "not a picture"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], line: str, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.read_csv(points)
    row = np.arange(len(table))
    more: dict[str, Any] = {
        "one": ["x"] * len(table),
        "three": row % 3,
        "half": (table["flops"].to_numpy() > 1e15).astype(int),
    }
    table.with_columns(**{name: pl.Series(values) for name, values in more.items()}).write_csv(points)
    out = tmp_path / "compare.json"
    out.write_text("before")
    assert main(["compare", *arguments, "--data", str(points), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1
    assert out.read_text() == "before"


def test_a_law_that_is_no_curve_over_one_cost_is_refused() -> None:
    with pytest.raises(FitError, match="no curve over one cost"):
        compare_arms(find_law("bivariate"), two_arms(1e-3, 0), by="arm")


def test_a_ladder_at_one_ratio_has_no_best_allocation() -> None:
    """The N-term and the D-term cannot be told apart, one of them vanishes, and no number may come of it."""
    n = np.tile(np.geomspace(1e6, 1e8, 9), 2)
    arm = np.repeat(["A", "B"], 9)
    rng = np.random.default_rng(0)
    loss = (1.7 + np.where(arm == "A", 2.0, 2.4) * (n / 1e6) ** -0.2) * np.exp(2e-3 * rng.standard_normal(18))
    table = {"arm": arm, "n_params": n, "n_tokens": 20 * n, "loss": loss}
    with pytest.raises(FitError, match="no allocation of compute is best"):
        compare_arms(find_law("chinchilla"), table, by="arm", bootstrap=50)
    assert compare_arms(find_law("power_law"), table, by="arm", x="n_params", bootstrap=50).crossing.bracket

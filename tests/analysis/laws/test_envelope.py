"""The envelope of training curves, and that the three approaches agree on one law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.fitter.procedure import Steps
from analysis.laws.allocation import predict_allocation
from analysis.laws.chinchilla import chinchilla, optimum
from analysis.laws.envelope import estimate, smooth_curve
from analysis.tables.columns import FitError
from tests.analysis.laws.test_isoflop import LAW, TRUE_A, allocation, best, interval, profiles

SIZES = np.geomspace(1e6, 1e8, 9)


def curves(
    *, between: float = 0.0, within: float = 0.0, sizes: Any = SIZES, places: int = 80, end: float = 300, seed: int = 0
) -> dict[str, Any]:
    """Training at a constant learning rate, from 1 to `end` tokens per parameter: each curve follows the law.

    Args:
        between: standard deviation of ln loss between runs, constant along a curve.
        within: that of each reading.
    """
    rng = np.random.default_rng(seed)
    n = np.repeat(np.asarray(sizes, dtype=float), places)
    d = n * np.tile(np.geomspace(1, end, places), len(sizes))
    error = np.repeat(between * rng.normal(size=len(sizes)), places) + within * rng.normal(size=len(n))
    loss = chinchilla({"n_params": n, "n_tokens": d}, **LAW) * np.exp(error)
    return {"n_params": n, "flops": 6 * n * d, "curve": np.repeat(np.arange(len(sizes)), places), "loss": loss}


def found(table: dict[str, Any], *, resamples: int = 0, seed: int = 0, **options: Any) -> Steps:
    """The procedure with a bootstrap over curves, as the fit calls it."""
    n_curves = table["curve"].max() + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_curves, np.full(n_curves, 1 / n_curves), resamples)[:, table["curve"]]
    weights = np.concatenate([np.ones((1, len(table["loss"]))), drawn])
    return estimate({name: table[name] for name in table if name != "loss"}, table["loss"], weights, options)


def test_exact_curves_give_back_the_allocation() -> None:
    steps = found(curves(), smooth=0)
    assert steps.params["a"][0] == pytest.approx(TRUE_A, abs=2e-3)
    assert steps.params["a"][0] + steps.params["b"][0] == pytest.approx(1, abs=1e-6)
    at = allocation(steps, 1e17)
    assert at["n_params_opt"][0] == pytest.approx(best(1e17)[0], rel=0.02)
    assert at["n_tokens_opt"][0] == pytest.approx(best(1e17)[1], rel=0.02)
    n, d = best(np.array([1e17]))
    assert at["loss_opt"][0] == pytest.approx(chinchilla({"n_params": n, "n_tokens": d}, **LAW)[0], rel=2e-3)
    assert steps.params["E"][0] == pytest.approx(LAW["E"], rel=0.05)


def test_steps_of_the_stair_do_not_flatten_the_line() -> None:
    """A regression over all places of a stair of m steps has 1 - 1/m^2 of its slope."""
    sizes = np.geomspace(1e6, 1e8, 6)
    steps = found(curves(sizes=sizes, end=3000), smooth=0)
    assert len(steps.points["flops"]) == 4
    assert steps.params["a"][0] == pytest.approx(TRUE_A, abs=5e-3)
    # the other way: the published regression over the places themselves
    ends = np.log(np.stack([steps.points["flops_low"], steps.points["flops_high"]]))
    places = np.linspace(ends.min(), ends.max(), 1500)
    stair = np.log(steps.points["n_params_opt"])[np.searchsorted(ends[1], places - 1e-9)]
    assert np.polyfit(places, stair, 1)[0] == pytest.approx(TRUE_A * (1 - 1 / 16), rel=5e-3)


def test_sizes_at_an_edge_do_not_count() -> None:
    steps = found(curves())
    assert steps.points["n_params_opt"] == pytest.approx(SIZES[1:-1])
    assert (np.diff(np.log(steps.points["flops"])) > 0).all()
    # the other way: the largest size is the best of all once nothing larger is there
    assert found(curves(sizes=SIZES[:-2])).points["n_params_opt"].max() < SIZES[-3] * 0.99
    # places that only one end of the sizes reaches: large models that were stopped at once
    short = curves()
    keep = (short["n_params"] < 2e7) | (short["flops"] < 1e15)
    cut = found({name: values[keep] for name, values in short.items()})
    assert cut.points["n_params_opt"].max() < 1.1e7


@pytest.mark.parametrize(("between", "within"), [(0.003, 0.0), (0.002, 0.01)])
def test_noisy_curves_contain_the_truth(between: float, within: float) -> None:
    steps = found(curves(between=between, within=within, places=200), resamples=500)
    low, high = interval(steps, "a")
    assert low < TRUE_A < high
    assert not low < 0.73 < high  # Kaplan's exponent
    assert high - low < 0.15


def test_smoothing_keeps_lines_and_takes_noise_away() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 8, 300))
    line = 3 - 0.4 * x
    assert smooth_curve(x, line, 0.2) == pytest.approx(line, abs=1e-12)
    bent = np.exp(-x)
    assert np.abs(smooth_curve(x, bent, 0.1) - bent).max() < 5e-3
    assert np.abs(smooth_curve(x, bent, 1.0) - bent).max() > 5e-2  # the other way: too wide
    noise = 0.01 * rng.normal(size=300)
    assert np.std(smooth_curve(x, line + noise, 0.4) - line) < 0.5 * np.std(noise)
    far = np.arange(5.0)
    assert np.array_equal(smooth_curve(far, far**2, 0.5), far**2)


def test_smoothing_saves_the_envelope_of_noisy_readings() -> None:
    """The least of many noisy readings lies below every curve."""
    noisy = curves(within=0.02, places=300)
    smooth, raw = (found(noisy, smooth=reach).points for reach in (0.3, 0))
    for points, small in ((smooth, True), (raw, False)):
        n, d = best(points["flops"])
        error = np.log(points["loss_opt"] / chinchilla({"n_params": n, "n_tokens": d}, **LAW))
        assert (np.sqrt((error**2).mean()) < 0.006) == small
        # steps that overlap: the winner flickers
        overlap = points["flops_high"][:-1] / points["flops_low"][1:]
        assert (np.median(overlap) < 1.5) == small


def test_order_of_rows_and_tokens_in_the_table() -> None:
    table = curves(between=0.003)
    steps = found(table)
    shuffled = np.random.default_rng(0).permutation(len(table["loss"]))
    again = found({name: values[shuffled] for name, values in table.items()})
    assert again.params["a"][0] == pytest.approx(steps.params["a"][0], rel=1e-9)
    counted = found(table | {"n_tokens": table["flops"] / 6 / table["n_params"]})
    assert counted.params["k_D"][0] == pytest.approx(steps.params["k_D"][0], rel=1e-9)
    # the other way: tokens by another count of parameters
    wrong = found(table | {"n_tokens": table["flops"] / 6 / table["n_params"] ** 1.05})
    assert any("must be 1" in warning for warning in wrong.warnings)


def test_bad_input() -> None:
    table = curves()
    with pytest.raises(FitError, match=r"n_params: 1e\+06 and 2e\+06 on the same curve"):
        found(table | {"n_params": np.where(np.arange(len(table["loss"])) == 7, 2e6, table["n_params"])})
    with pytest.raises(FitError, match="envelope: 0 sizes of 2"):
        found(curves(sizes=SIZES[:2]))
    with pytest.raises(FitError, match="smooth: 'much' is not allowed; allowed: 0 to 1"):
        found(table, smooth="much")
    few = found(curves(sizes=np.geomspace(1e6, 1e8, 5)))
    assert any("only 3 sizes are best" in warning for warning in few.warnings)
    assert found(table).warnings == ()


def test_picture_has_a_line_for_each_curve_and_a_mark_for_each_step() -> None:
    from analysis.fits.plot_allocation import plot_allocation
    from tests.analysis.helpers import fit

    table = curves(between=0.002)
    table["curve"] = np.array([f"run {code}" for code in table["curve"]])
    result = fit("envelope", table, bootstrap=50)
    left, right = plot_allocation(result, table).axes
    assert len([line for line in left.lines if line.get_marker() == "None"]) == len(SIZES)
    stars = [line for line in left.lines if line.get_marker() == "*"]
    assert stars[0].get_xdata() == pytest.approx(result.points["flops"])
    assert len(right.collections) == 1  # the band
    assert not plot_allocation(fit("envelope", table, bootstrap=0), table).axes[1].collections


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [np.geomspace(1e6, 1e8, 8), np.repeat(SIZES, 2)], ids=["8", "9 twice"])
def test_intervals_cover(sizes: Any) -> None:
    """Nominally 95 %."""
    hits = []
    for seed in range(200):
        low, high = interval(found(curves(between=0.003, sizes=sizes, seed=seed), resamples=300, seed=seed), "a")
        hits.append(low <= TRUE_A <= high)
    assert 0.9 <= np.mean(hits) <= 0.99


def test_the_three_approaches_agree_on_one_law() -> None:
    """IsoFLOP by parabola and by Akima, envelope, and the parametric fit: N* at the largest budget."""
    from analysis.fitter.law import FitResult
    from tests.analysis.helpers import fit

    target = 1e20

    def at_target(result: FitResult) -> tuple[float, float]:
        draws = {name: np.array(values, dtype=float)[:, None] for name, values in result.bootstrap["params"].items()}
        if result.law.name == "chinchilla":
            n_opt = optimum(target, **{name: draws[name] for name in draws if name != "E"})[0]
        else:
            n_opt = predict_allocation({"flops": np.array([target])}, **draws)["n_params_opt"]
        low, high = np.nanquantile(n_opt, [0.025, 0.975])
        return float(low), float(high)

    iso, curved = profiles(noise=0.002), curves(between=0.002)
    tokens = iso["flops"] / 6 / iso["n_params"]
    intervals = {
        "parabola": at_target(fit("isoflop", iso, bootstrap=300)),
        "akima": at_target(fit("isoflop", iso, options={"method": "akima"}, bootstrap=300)),
        "envelope": at_target(fit("envelope", curved, bootstrap=300)),
        "chinchilla": at_target(fit("chinchilla", iso | {"n_tokens": tokens}, delta=0.01, bootstrap=300)),
    }
    for name, (low, high) in intervals.items():
        assert low < best(target)[0] < high, name
    assert max(low for low, _ in intervals.values()) < min(high for _, high in intervals.values())
    # the other way: training curves of another law do not agree
    other = curved | {"loss": curved["loss"] * (curved["n_params"] / 1e7) ** 0.03}
    assert at_target(fit("envelope", other, bootstrap=300))[1] < best(target)[0]

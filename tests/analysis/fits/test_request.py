"""A fit as it is asked for: findings flagged or left out, points held out, curves kept whole, a fit for each group."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.fits.files import read_fit, read_fits
from analysis.fits.plot import plot_fit
from analysis.fits.request import FitRequest, by_group, fit_as_asked, predict_groups
from analysis.fitter.fit_json import to_json
from analysis.fitter.law import Estimate
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from analysis.tables.curves import Curves
from tests.analysis.helpers import chinchilla_points
from tests.analysis.laws.simulated_annealing import EXAMPLES
from train.record.files import write_json

POINTS = pl.DataFrame(chinchilla_points(noise=0.005))
PLANTED = POINTS.with_columns(
    state=pl.when(pl.int_range(42).is_in([3, 7])).then(pl.lit("diverged")).otherwise(pl.lit("finished")),
    loss=pl.when(pl.int_range(42).is_in([3, 7])).then(pl.col("loss") * 1.5).otherwise(pl.col("loss")),
)


def request_of(law: str = "chinchilla", **how: object) -> FitRequest:
    return FitRequest(law=find_law(law), **({"bootstrap": 0, "holdout": "none", "delta": 0.01} | how))


def annealing_curves() -> pl.DataFrame:
    example = next(one for one in EXAMPLES if one.law == "lr_annealing")
    return pl.DataFrame(example.draw(np.random.default_rng(0)))


# --- findings --------------------------------------------------------------------------------------------


def test_a_finding_is_kept_and_drawn_hollow_unless_it_is_excluded() -> None:
    kept, gone = fit_as_asked(request_of(), PLANTED), fit_as_asked(request_of(exclude=("diverged",)), PLANTED)
    assert list(np.flatnonzero(kept.flagged)) == [3, 7]
    assert (kept.result.n, gone.result.n) == (42, 40)
    assert not gone.flagged.any()
    assert [(one["name"], one["rows"], one["excluded"]) for one in kept.result.findings] == [
        ("diverged", [3, 7], False)
    ]
    assert gone.result.findings[0]["excluded"]
    clean = fit_as_asked(request_of(), POINTS.filter(~pl.int_range(42).is_in([3, 7])))
    assert gone.result.params == clean.result.params
    assert kept.result.params != clean.result.params
    assert clean.result.findings == ()
    for fitted, hollow in ((kept, 2), (gone, 0)):
        for axes in plot_fit(fitted).axes:
            drawn = [line for line in axes.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "white"]
            assert sum(len(line.get_xdata()) for line in drawn) == hollow


def test_only_the_findings_named_are_excluded() -> None:
    both = pl.concat([PLANTED, PLANTED[-1:]])
    fitted = fit_as_asked(request_of(exclude=("duplicate",)), both)
    assert fitted.result.n == 42
    assert [(one["name"], one["excluded"]) for one in fitted.result.findings] == [
        ("diverged", False),
        ("duplicate", True),
    ]
    assert list(np.flatnonzero(fitted.flagged)) == [3, 7]
    assert fit_as_asked(request_of(exclude=("all",)), both).result.n == 40


def test_a_finding_about_every_row_cannot_be_excluded() -> None:
    with pytest.raises(FitError, match="--exclude diverged: leaves no row"):
        fit_as_asked(request_of(exclude=("diverged",)), POINTS.with_columns(state=pl.lit("diverged")))


# --- held out --------------------------------------------------------------------------------------------


def test_by_default_all_points_are_fitted_and_a_second_fit_predicts_the_most_expensive() -> None:
    fitted = fit_as_asked(request_of(holdout=None, bootstrap=100, exclude=()), PLANTED)
    assert (fitted.result.n, fitted.held) == (42, None)
    assert fitted.result.holdout["rule"] == "0.2"
    assert (fitted.result.holdout["n"], fitted.result.holdout["n_fitted"]) == (8, 34)
    assert fit_as_asked(request_of(), PLANTED).result.holdout is None
    assert fit_as_asked(request_of(holdout=None), POINTS.head(7)).result.holdout is None  # too few to part


def test_what_is_held_out_is_not_fitted() -> None:
    fitted = fit_as_asked(request_of(holdout="n_params > 9e7"), PLANTED)
    assert (fitted.result.n, len(fitted.held)) == (36, 6)
    assert list(np.flatnonzero(fitted.flagged)) == [3, 6]  # row 7 of the table; row 6 was the first one held out
    assert fitted.points["state"].to_list()[6] == "diverged"
    assert fitted.result.holdout["error"] == pytest.approx(
        (fitted.result.predict(fitted.held)["predicted"] / fitted.held["loss"].to_numpy() - 1).tolist()
    )
    spoiled = PLANTED.with_columns(loss=pl.when(pl.col("n_params") > 9e7).then(9.9).otherwise(pl.col("loss")))
    assert fit_as_asked(request_of(holdout="n_params > 9e7"), spoiled).result.params == fitted.result.params


def test_a_procedure_holds_nothing_out() -> None:
    with pytest.raises(FitError, match="--holdout largest: isoflop predicts no single points; allowed: none"):
        fit_as_asked(request_of("isoflop", holdout="largest"), POINTS)


def test_part_of_a_curve_is_predicted_from_its_whole_schedule() -> None:
    """Held-out steps alone would not tell the learning rates before them."""
    curves = annealing_curves().with_columns(loss=pl.col("loss"))
    fitted = fit_as_asked(request_of("lr_annealing", holdout="step > 17000 and curve = 'wsd'"), curves)
    assert fitted.result.holdout["mean_abs"] < 0.01
    alone = fitted.result.predict(curves.filter((pl.col("step") > 17000) & (pl.col("curve") == "wsd")))["predicted"]
    whole = fitted.result.predict(fitted.held)["predicted"]
    assert np.abs(alone / whole - 1).max() > 0.01
    everywhere = fitted.result.predict(curves)["predicted"]
    rows = ((curves["step"] > 17000) & (curves["curve"] == "wsd")).to_numpy()
    assert whole.tolist() == everywhere[rows].tolist()


def test_curves_of_one_length_are_not_parted_by_default() -> None:
    assert fit_as_asked(request_of("lr_annealing", holdout=None), annealing_curves()).result.holdout is None
    longer = annealing_curves().filter((pl.col("curve") == "wsd") | (pl.col("step") < 15000))
    assert len(longer) > 0
    # the most expensive curve alone is more than a fifth, but less than half of the points
    scored = fit_as_asked(request_of("lr_annealing", holdout=None), longer).result.holdout
    assert scored["n"] == longer.filter(pl.col("curve") == "wsd").height


@pytest.mark.parametrize(("law", "curves"), [
    ("lr_annealing", True), ("multi_power", True), ("envelope", True), ("chinchilla", False), ("isoflop", False),
])  # fmt: skip
def test_laws_of_curves_are_known(law: str, curves: bool) -> None:
    assert find_law(law).of_curves == curves


# --- groups ----------------------------------------------------------------------------------------------


def test_each_group_is_fitted_and_predicted_on_its_own(tmp_path: Path) -> None:
    table = pl.concat([POINTS.with_columns(setting=1.0), POINTS.with_columns(pl.col("loss") * 2, setting=2.0)])
    groups = by_group(table, "setting")
    assert list(groups) == ["1", "2"]
    fits = {name: fit_as_asked(request_of(), part).result for name, part in groups.items()}
    write_json(tmp_path / "fit.json", {"group": "setting", "fits": {k: to_json(one) for k, one in fits.items()}})
    column, read = read_fits(tmp_path / "fit.json")
    assert (column, read) == ("setting", fits)

    mixed = table.sample(fraction=1, shuffle=True, seed=1).with_columns(pl.col("setting").cast(pl.Int64))
    predicted = predict_groups((column, read), mixed)["predicted"]
    assert predicted == pytest.approx(mixed["loss"].to_numpy(), rel=0.02)
    first_only = fits["1"].predict(mixed)["predicted"]
    assert np.abs(first_only / mixed["loss"].to_numpy() - 1).max() > 0.4
    with pytest.raises(FitError, match="setting: 3 has no fit; there are: 1, 2"):
        predict_groups((column, read), mixed.with_columns(setting=3))
    with pytest.raises(FitError, match="setting: no such column"):
        predict_groups((column, read), POINTS)


def test_groups_of_curves_keep_their_schedules() -> None:
    curves = annealing_curves()
    points = Curves(curves.with_columns(arm=pl.lit("a")).drop("lr"), curves.select("curve", "step", "lr"))
    (part,) = by_group(points, "arm").values()
    assert isinstance(part, Curves)
    assert part.schedules is points.schedules


# --- fit.json --------------------------------------------------------------------------------------------


def test_what_is_not_a_number_is_null_in_the_file(tmp_path: Path) -> None:
    result = fit_as_asked(request_of(), POINTS).result
    result = replace(result, derived={"threshold": Estimate(math.nan, None, None)}, points={"x": [1.0, math.nan]})
    write_json(tmp_path / "fit.json", to_json(result))
    read = read_fit(tmp_path / "fit.json")
    assert math.isnan(read.derived["threshold"].value)
    assert read.points["x"][0] == 1
    assert math.isnan(read.points["x"][1])


@pytest.mark.parametrize("law", ["chinchilla", "lr_annealing", "isoflop"])
def test_a_fit_of_any_kind_survives_its_file(law: str, tmp_path: Path) -> None:
    how = {"bootstrap": 20, "holdout": None}
    if law == "chinchilla":
        fitted = fit_as_asked(
            request_of(law, **how, profiles=("alpha",), se="se"), PLANTED.with_columns(se=0.01 + 0 * pl.col("loss"))
        )
    elif law == "lr_annealing":
        fitted = fit_as_asked(request_of(law, **how), annealing_curves())
    else:
        budgets = POINTS.with_columns(flops=pl.Series(np.repeat(np.geomspace(1e15, 1e18, 6), 7)))
        n = np.tile(np.geomspace(0.3, 3, 7), 6) * (budgets["flops"].to_numpy() / 120) ** 0.5
        loss = 2 + 0.05 * np.log(n / (budgets["flops"].to_numpy() / 120) ** 0.5) ** 2
        fitted = fit_as_asked(request_of(law, **how), budgets.with_columns(n_params=pl.Series(n), loss=pl.Series(loss)))
    write_json(tmp_path / "fit.json", to_json(fitted.result))  # which refuses nan
    assert read_fit(tmp_path / "fit.json") == fitted.result

"""What is printed of a fit and of the laws: each sentence where it is true, and not elsewhere."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest

from analysis.fits.words import MOST_ROWS, formula, print_fit, print_laws
from analysis.fitter.law import Estimate, FitResult
from analysis.laws.registry import LAWS, find_law
from tests.analysis.helpers import chinchilla_points, fit, said


@cache
def fitted(**options: Any) -> FitResult:
    """Points with noise, fitted without a second fit: what a request adds is added here."""
    return fit("chinchilla", chinchilla_points(noise=0.003), **{"bootstrap": 0, **options})


def words(**changes: Any) -> str:
    return " ".join(said(print_fit, dataclasses.replace(fitted(), **changes)).split())


def test_a_law_of_one_variable_is_said_with_its_column() -> None:
    points = chinchilla_points()
    of_tokens = fit("power_law_no_offset", points, x="n_tokens", bootstrap=0)
    assert "n_tokens" in formula(of_tokens)
    assert "x" not in formula(of_tokens).replace("exp", "")
    assert formula(fitted()) == LAWS["chinchilla"].formula
    assert said(print_fit, of_tokens).startswith(f"power_law_no_offset: {formula(of_tokens)}")


def test_every_constant_has_a_row_and_what_follows_from_them() -> None:
    rows = {line.split()[0]: line for line in said(print_fit, fitted()).splitlines()[1:] if line}
    assert set(fitted().params) | set(fitted().derived) <= rows.keys()
    for name in fitted().derived:
        assert "follows from the others" in rows[name]
    assert "follows from the others" not in rows["alpha"]


def test_without_a_bootstrap_the_sandwich_says_how_sure_constants_are() -> None:
    assert fitted().bootstrap["n"] == 0
    assert "std (sandwich)" not in words(standard_errors={})
    told = words(standard_errors={"sandwich": dict.fromkeys(fitted().params, 0.0123)})
    assert "std (sandwich)" in told
    assert told.count("0.012") == len(fitted().params)
    resampled = words(
        standard_errors={"sandwich": dict.fromkeys(fitted().params, 0.0123)},
        bootstrap=fitted().bootstrap | {"n": 20},
    )
    assert "sandwich" not in resampled
    assert "0.012" not in resampled


def test_an_interval_is_said_where_there_is_one() -> None:
    assert " to " not in said(print_fit, fitted()).split("R²")[0].split("alpha")[1].splitlines()[0]
    params = fitted().params | {"alpha": Estimate(0.34, 0.015, (0.31, 0.37))}
    assert "0.31 to 0.37 0.015" in words(params=params, standard_errors={})


def test_a_held_constant_is_said_to_be_held() -> None:
    held = fit("chinchilla", chinchilla_points(), bootstrap=0, fixed={"E": 1.82})
    (row,) = (line for line in said(print_fit, held).splitlines() if line.startswith("E "))
    assert row.split() == ["E", "1.82", "-", "-", "held"]
    assert "held" not in words()


@pytest.mark.parametrize(("changes", "sentence", "silent"), [
    ({}, "no bootstrap", "bootstraps"),
    ({"bootstrap": {"n": 200, "unit": "curves"}}, "200 bootstraps of curves", "no bootstrap"),
    ({"objective": {"name": "huber_log", "delta": 0.001, "value": 1.5}}, "huber_log (delta 0.001) 1.5,", "lsq"),
    ({"objective": {"name": "lsq", "delta": None, "value": 1.5}}, "lsq 1.5, R² of loss", "delta"),
    ({"objective": {"name": "lsq_log", "delta": None, "value": 1.5}}, "R² of ln loss", "R² of loss"),
    ({"r2": None}, "42 points, no bootstrap,", "R²"),
    ({"starts": {"n": 9, "best": 4}}, "4 of 9 starts reached the optimum", "of 8 starts"),
    ({"warnings": ("a is b", "c is d")}, "warning: a is b warning: c is d", "warning: e"),
    ({"profiles": {"alpha": {"ci95": [0.3, None]}}}, "profile of alpha: 95% interval 0.3 to unbounded", "profile of E"),
    ({"profiles": {}}, "R²", "profile"),
])  # fmt: skip
def test_a_sentence_is_said_under_its_condition(changes: dict[str, Any], sentence: str, silent: str) -> None:
    told = words(**changes)
    assert sentence in told
    assert silent not in told


def test_what_is_learnt_as_a_whole_has_neither_constants_nor_starts() -> None:
    told = words(law=dataclasses.replace(fitted().law, parameters=()), params={}, derived={})
    assert "42 points, R² of loss" in told
    assert "starts reached" not in told
    assert "parameter value" not in told
    assert "parameter value" in words()


@pytest.mark.parametrize(("rule", "which"), [
    ("largest", "the most expensive point"),
    ("0.2", "the most expensive fifth"),
    ("0.3", "0.3"),
    ("n_params > 1e7", "n_params > 1e7"),
])  # fmt: skip
def test_what_was_held_out_is_said_by_its_rule(rule: str, which: str) -> None:
    scored = {"rule": rule, "n": 1, "n_fitted": 41, "relative": True, "mean_abs": 0.0123, "mean": -0.01, "coverage": 1}
    told = words(holdout=scored)
    assert f"held out ({which}): fitted to 41 points, off by 1.23% on average (bias -1.00%) at 1 other;" in told
    assert "held out" not in words(holdout=None)


def test_a_difference_is_no_percentage_and_without_intervals_nothing_is_inside_them() -> None:
    scored = {
        "rule": "0.2",
        "n": 8,
        "n_fitted": 34,
        "relative": False,
        "mean_abs": 0.0123,
        "mean": 0.01,
        "coverage": None,
    }
    told = words(holdout=scored)
    assert "off by 0.0123 on average (bias +0.01) at 8 others" in told
    assert "inside" not in told
    assert "; 7 of 8 inside their 95% prediction intervals" in words(holdout=scored | {"coverage": 7 / 8})


def test_rows_of_a_finding_are_named_from_one_on_and_not_all_of_many() -> None:
    finding = {"name": "diverged", "sentence": "1 run diverged", "rows": [3], "excluded": False}
    assert "diverged: 1 run diverged (row 4); kept: --exclude diverged leaves it out" in words(findings=(finding,))
    assert "(row 4); left out" in words(findings=(finding | {"excluded": True},))
    some, many = (finding | {"rows": list(range(n))} for n in (MOST_ROWS, MOST_ROWS + 1))
    assert "(rows 1, 2, 3, 4, 5, 6, 7, 8);" in words(findings=(some,))
    assert "(rows 1, 2, 3, 4, 5, 6, 7, 8, …);" in words(findings=(many,))


# --- laws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_said_with_all_that_it_reads_and_takes(name: str) -> None:
    law = find_law(name)
    told = said(print_laws, [law])
    assert told.startswith(f"{name}: ")
    for start, count in (
        ("  answers ", 1),
        ("  source ", 1),
        ("  column ", len(law.shown.reads)),
        ("  constant ", len(law.shown.parameters)),
        ("  option ", len(law.choices)),
    ):
        assert sum(line.startswith(start) for line in told.splitlines()) == count
    for column in law.shown.reads:
        assert f"{column.name}: " in told
    for choice in law.choices:
        assert (f"{choice.meaning} (default: {choice.default})" in told) == (choice.default is not None)


def test_limits_of_constants_say_how_they_are_found() -> None:
    told = {
        line.split()[1]: line for line in said(print_laws, [find_law("chinchilla")]).splitlines() if "constant" in line
    }
    assert told["A:"].endswith("; positive, by least squares for given others")
    assert "starts" in told["alpha:"]
    assert "by least squares" not in told["alpha:"]
    assert "positive" not in told["alpha:"]

"""What a fit is asked for: refused out of range, read from the command line, and taken by every kind of law."""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import pytest

from analysis.fits.request import FitRequest
from analysis.fitter.options import OF_ONE_FORMULA, FitOptions
from analysis.laws.registry import LAWS, find_law
from analysis.tables.columns import FitError
from conf.command_line import add_options, flag_of, options_of
from tests.analysis.helpers import chinchilla_points


def read(*arguments: str) -> FitOptions:
    parser = argparse.ArgumentParser()
    add_options(parser, FitOptions)
    return options_of(FitOptions, parser.parse_args(arguments))


def test_an_empty_command_line_gives_the_defaults() -> None:
    assert read() == FitOptions()
    assert read("--delta", "0.02") == FitOptions(delta=0.02)
    assert read("--delta", "0.02") != FitOptions()


def test_every_option_has_a_flag_but_the_starts() -> None:
    given = read(
        *[
            "--x",
            "n",
            "--set",
            "a=1",
            "--set",
            "b=c",
            "--fix",
            "E=1.5",
            "--profile-of",
            "A",
            "B",
            "--objective",
            "lsq",
            "--se",
            "s",
            "--cluster",
            "k",
        ]
    )
    assert given == FitOptions(
        x="n", options={"a": "1", "b": "c"}, fixed={"E": 1.5}, profiles=("A", "B"), objective="lsq", se="s", cluster="k"
    )
    assert [spec.name for spec in dataclasses.fields(FitOptions) if not flag_of(spec).startswith("--")] == ["starts"]


def test_help_says_the_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, FitRequest)
    text = " ".join(parser.format_help().split())
    for name in ("delta", "bootstrap", "seed"):
        assert f"(default: {getattr(FitOptions, name)})" in text
    assert "--holdout RULE" in text
    assert "--law" not in text  # no option made it


@pytest.mark.parametrize(("options", "message"), [
    ({"objective": "mse"}, "objective: 'mse' is not allowed; allowed: huber_log, "),
    ({"delta": 0.0}, "delta: 0.0 is not allowed; allowed: >= 1e-12"),
    ({"delta": float("nan")}, "delta: nan is not allowed"),
    ({"bootstrap": 19}, "bootstrap: 19 is not allowed; allowed: 0, or at least 20 resamples"),
    ({"seed": -1}, "seed: -1 is not allowed; allowed: >= 0"),
])  # fmt: skip
def test_values_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(FitError, match=message):
        FitOptions(**options)


@pytest.mark.parametrize(("law", "why"), [("isoflop", "goes in steps"), ("mixture_lightgbm", "is learnt as a whole")])
@pytest.mark.parametrize("name", OF_ONE_FORMULA)
def test_options_of_a_formula_are_refused_by_what_is_none(law: str, why: str, name: str) -> None:
    values = {"fixed": {"E": 1.0}, "profiles": ("E",), "objective": "lsq", "starts": np.ones((1, 2))}
    table = chinchilla_points() | {"w_a": np.linspace(0, 1, 42), "w_b": np.linspace(1, 0, 42)}
    flag = next(flag_of(spec) for spec in dataclasses.fields(FitOptions) if spec.name == name)
    with pytest.raises(FitError, match=f"{law}: {why}, which takes? no {flag}"):
        find_law(law).fit(table, FitOptions(**{name: values.get(name, "column")}))


def test_an_option_that_a_law_does_not_have_is_refused() -> None:
    for name in ("chinchilla", "bnsl", "isoflop"):
        with pytest.raises(FitError, match=f"{name}: has no option colour; there are: "):
            find_law(name).fit(chinchilla_points(), FitOptions(options={"colour": "red"}))


def test_every_law_is_rebuilt_from_its_options() -> None:
    for law in LAWS.values():
        shown = law.shown
        assert law.rebuild(shown.options) == shown
        assert shown.rebuild(shown.options) == shown
    assert LAWS["chinchilla"].shown != LAWS["power_law"].shown

"""What command lines share: names with close matches, options from a class, numbers in words, and a wide console."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from conf.command_line import (
    COUNTS,
    SECONDS,
    SI,
    Parser,
    add_options,
    counted,
    flag_of,
    human,
    in_words,
    number_pair,
    option,
    options_of,
    pair,
    pick,
    wide_console,
)
from conf.schema import UserError


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "1.5 min"),
        (200, "3.3 min"),
        (5399, "90.0 min"),
        (5400, "1.5 h"),
        (129_600, "1.5 d"),
        (8_640_000, "100.0 d"),
    ],
)
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@given(st.floats(0, 1e8))
def test_words_are_about_the_seconds(seconds: float) -> None:
    value, unit = in_words(seconds).split()
    said = float(value) * SECONDS[unit]
    assert abs(said - seconds) <= 0.51 * (1 if unit == "s" else 0.1 * SECONDS[unit])
    assert unit == "s" or said >= 1.5 * SECONDS[unit]


def test_counts_in_words() -> None:
    assert [human(1234567), human(1.2e15, SI), human(999), human(0)] == ["1.23M", "1.2P", "999", "0"]
    assert [counted(1, "run"), counted(2, "run"), counted(0, "run")] == ["1 run", "2 runs", "0 runs"]


def test_a_table_in_a_pipe_is_not_cut_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a", "b", box=None)
    table.add_row("x" * 70, "y" * 70)
    wide_console(markup=False).print(table)
    assert f"{'x' * 70}  {'y' * 70}" in capsys.readouterr().out


# --- names ------------------------------------------------------------------------------------------------

LAWS = {"chinchilla": 1, "kaplan": 2, "farseer": 3}


def test_a_name_is_picked_or_refused_with_a_close_match() -> None:
    assert [pick("law", name, LAWS) for name in LAWS] == [1, 2, 3]
    for name, hint in (("chinchila", "did you mean chinchilla? "), ("KAPLAN", ""), ("", "")):
        with pytest.raises(UserError) as caught:
            pick("law", name, LAWS)
        assert str(caught.value) == f"law: {name!r} is unknown; {hint}allowed: chinchilla, kaplan, farseer"


@pytest.mark.parametrize("text", ["E", "=1", "E=", "", "="])
def test_a_pair_has_two_sides(text: str) -> None:
    for parse in (pair, number_pair):
        with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=COLUMN"):
            parse(text)


def test_a_pair_is_split_where_it_first_can_be() -> None:
    assert pair("loss=a=b") == ("loss", "a=b")
    assert number_pair("E=1.5e-3") == ("E", 1.5e-3)
    with pytest.raises(argparse.ArgumentTypeError, match="'E=one' is not NAME=NUMBER"):
        number_pair("E=one")


# --- options from a class ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    delta: float = option(1e-3, "where it turns linear")
    resamples: int = option(1000, "how many", metavar="N")
    law: str | None = option(None, "which", choices=LAWS)
    fixed: Mapping[str, float] = option({}, "held", flag="--fix", parse=number_pair, several="again")
    seeds: tuple[int, ...] = option((), "of which", parse=int, several="in a row")
    table: str = "runs"  # nobody gives it on a command line


def parsed(*argv: str, **others: object) -> Options:
    parser = Parser(prog="python -m analysis fit")
    add_options(parser, Options)
    return options_of(Options, parser.parse_args(argv), **others)


def test_what_is_not_given_is_the_default_of_the_class() -> None:
    assert parsed() == Options()
    assert parsed(table="others") == replace(Options(), table="others")


def test_what_is_given_arrives_as_what_it_is() -> None:
    given = parsed("--delta", "1", "--resamples", "5", "--law", "kaplan", "--seeds", "1", "2", "--fix", "E=2")
    assert given == Options(delta=1.0, resamples=5, law="kaplan", seeds=(1, 2), fixed={"E": 2.0})
    assert parsed("--fix", "E=2", "--fix", "A=3").fixed == {"E": 2.0, "A": 3.0}
    assert parsed("--fix", "E=2", "--fix", "E=3").fixed == {"E": 3.0}
    assert parsed().fixed == {}  # what one parser was given is no default of the next


@pytest.mark.parametrize(
    "argv", [["--delta", "x"], ["--law", "other"], ["--table", "a"], ["--resamples", "1.5"], ["a", "b"]]
)
def test_what_does_not_fit_is_one_line_that_names_the_command(argv: list[str]) -> None:
    with pytest.raises(UserError, match=r"see `python -m analysis fit --help`$") as caught:
        parsed(*argv)
    assert "\n" not in str(caught.value)


def test_a_parser_names_the_way_to_its_help() -> None:
    with pytest.raises(UserError, match=r"^law is odd; see `python -m analysis fit --help`$"):
        Parser(prog="python -m analysis fit").error("law is odd")


def test_help_has_every_option_with_its_default_once() -> None:
    parser = Parser(prog="fit")
    add_options(parser, Options)
    words = " ".join(parser.format_help().split())
    assert [flag_of(spec) for spec in fields(Options)] == [
        "--delta", "--resamples", "--law", "--fix", "--seeds", "table"
    ]  # fmt: skip
    assert "--delta DELTA where it turns linear (default: 0.001)" in words
    assert "--resamples N how many (default: 1000)" in words
    assert words.count("(default:") == 2  # the others have none that says something
    assert "table" not in words


# --- numbers ----------------------------------------------------------------------------------------------


@given(st.floats(-1e14, 1e14))
def test_a_human_number_is_within_its_three_digits(number: float) -> None:
    text = human(number)
    prefix = text[-1] if text[-1] in COUNTS else ""
    read = float(text.removesuffix(prefix)) * 1000 ** ("KMBT".index(prefix) + 1 if prefix else 0)
    assert read == pytest.approx(number, rel=0.00501, abs=1e-300)
    assert len(text.lstrip("-").removesuffix(prefix).replace(".", "").lstrip("0").partition("e")[0]) <= 3
    assert human(-number).lstrip("-") == text.lstrip("-")

"""Numbers in words, and a console that is wide where no terminal limits it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from conf.command_line import SECONDS, SI, counted, human, in_words, wide_console


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

"""Numbers in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.drawing.words import number


@pytest.mark.parametrize(("value", "words"), [
    (0.0, "0"),
    (1.69, "1.69"),
    (-0.33999999, "-0.34"),
    (406.4321, "406.4"),
    (9999.0, "9999"),
    (12345.0, "1.234e+04"),
    (-2e9, "-2.000e+09"),
    (1e-7, "1e-07"),
])  # fmt: skip
def test_a_number_has_four_digits(value: float, words: str) -> None:
    assert number(value) == words


@settings(deadline=None)
@given(st.floats(1e-12, 1e12), st.sampled_from([-1, 1]))
def test_a_number_reads_back_to_four_digits(size: float, sign: int) -> None:
    assert float(number(sign * size)) == pytest.approx(sign * size, rel=6e-4)
    assert number(-sign * size).lstrip("-") == number(sign * size).lstrip("-")

"""The reach of an interval, against published quantiles and its own definition."""

from __future__ import annotations

import pytest
from scipy import stats

from analysis.claims.student import reach


@pytest.mark.parametrize(("df", "value"), [(1, 12.706), (2, 4.303), (10, 2.228), (120, 1.980)])
def test_the_reach_is_that_of_the_tables(df: int, value: float) -> None:
    assert reach(df) == pytest.approx(value, abs=5e-4)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_beyond_it_lies_the_level(level: float) -> None:
    assert 2 * stats.t.sf(reach(4, level), 4) == pytest.approx(level)
    assert reach(4, level) > reach(4, 1.1 * level)

"""Student's t: how many standard errors an estimate's interval reaches to either side.

reach(df=2)              ->  4.30, of the 95 % interval
reach(df=2, level=0.01)  ->  9.92, of the 99 % interval
"""

from __future__ import annotations

LEVEL = 0.05
"""Two-sided: the share of intervals that miss what they are of."""


def reach(df: int, level: float = LEVEL) -> float:
    """`reach(2)` is 4.30: Student's t with `df` degrees of freedom exceeds it, on either side, with probability
    `level`; the quantile of (1 - level / 2), after Student 1908 (Biometrika 6, 1-25)."""
    from scipy.special import stdtrit  # costly to import

    return float(stdtrit(df, 1 - level / 2))

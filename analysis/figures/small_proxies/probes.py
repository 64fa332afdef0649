"""What probes saw at the end of each run of a sweep, and how it scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.claims.sample import Sample, by_seed
from analysis.stability.lr_sweep import with_numbers

LAST_SHARE = 0.1  # of a run's probes


def with_last_probes(sweep: pl.DataFrame, curves: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """The sweep with a column for each metric: its mean over the last tenth of the run's probes, at least one; null
    where the run did not measure it."""

    def last_mean(metric: str) -> pl.Expr:
        probed = pl.col(metric).drop_nulls()
        return probed.tail((LAST_SHARE * probed.len()).ceil().cast(pl.Int64)).mean()

    return with_numbers(sweep, curves, **{metric: last_mean(metric) for metric in metrics})


def exponents(sweep: pl.DataFrame, value: str, against: str, *, at: str) -> Sample:
    """For each seed the slope of log10 of a value against log10 of `against`, averaged over the values of `at`.

    Seeds that lack a value that another seed has are left out; what is null or not positive has no logarithm.
    """
    rows = []
    kept = sweep.filter(pl.col(value) > 0)
    for (seed, _), part in kept.group_by("seed", at, maintain_order=True):
        if part[against].n_unique() == sweep[against].n_unique() > 1:
            x, y = (np.log10(part[name].to_numpy()) for name in (against, value))
            rows.append((seed, float(np.polyfit(x, y, 1)[0])))
    table = pl.DataFrame(rows, schema={"seed": pl.Int64, "exponent": pl.Float64}, orient="row")
    return by_seed(table, "exponent").behind(sweep)

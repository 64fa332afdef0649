"""Which runs of several placements fail, and from which learning rate on.

With clipped gradients nothing diverges: a placement that cannot bear a rate stalls on a plateau, where its training
loss is as smooth as ever. What a run ended at is judged by the best loss of any placement.
"""

from __future__ import annotations

import polars as pl

from analysis.stability.lr_sweep import CURVE, RISE, failing_lr

SHARE = f"share of the rates, above an arm's best, at which its loss ends {RISE:g} nats above the lowest of all arms"


def with_failed(sweep: pl.DataFrame) -> pl.DataFrame:
    """The sweep with `failed`: 1 where a run ended `RISE` above the lowest loss of all arms and rates of its size and
    seed, else 0. Below its arm's best rate a loss is high for want of steps, and 0, but for an arm that stalls."""
    high = pl.col("loss") >= _lowest("size", "seed") + RISE
    too_fast = pl.col("lr") > pl.col("lr").sort_by("loss").first().over(CURVE)
    return sweep.with_columns((high & (too_fast | _stalls())).cast(pl.Float64).alias("failed"))


def bearing_lr(sweep: pl.DataFrame) -> pl.DataFrame:
    """`analysis.stability.lr_sweep.failing_lr` of every curve, but the lowest rate for an arm that stalls: it does not
    rise, and bears no rate. `censored` says that a curve never fails."""
    stalling = sweep.filter(_stalls()).group_by(*CURVE).agg(pl.col("lr").min().alias("lowest"))
    return (
        failing_lr(sweep, rise=RISE)
        .join(stalling, on=CURVE, how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("lowest", "lr_fail").alias("lr_fail"), (pl.col("censored") & pl.col("lowest").is_null())
        )
        .drop("lowest")
    )


def _lowest(*of: str) -> pl.Expr:
    return pl.col("loss").min().over(of)


def _stalls() -> pl.Expr:
    """A curve that is nowhere within `RISE` of the lowest loss of all arms."""
    return _lowest(*CURVE) >= _lowest("size", "seed") + RISE

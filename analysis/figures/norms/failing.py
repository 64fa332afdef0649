"""Which runs of several placements fail, and from which learning rate on.

With clipped gradients nothing diverges: a placement that cannot bear a rate stalls on a plateau, where its training
loss is as smooth as ever. What a run ended at is judged by the best loss of any placement.
"""

from __future__ import annotations

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import arms_apart
from analysis.stability.lr_sweep import CURVE, RISE, failing_lr

SHARE = f"share of the rates, above an arm's best, at which its loss ends {RISE:g} nats above the lowest of all arms"
BEARS = f"log10 of the rate at which the loss is {RISE:g} nats above its lowest"
CENSORED = "where it never is, the highest rate, and where it always is above the best arm's, the lowest"


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


def fewer_fail(
    sweep: pl.DataFrame, arm: str, other: str, *, names: tuple[str, str], apart: str, needs: str
) -> list[Claim]:
    """That fewer runs fail under one arm than under another, and that fewer have a loss that breaks.

    Args:
        sweep: of `with_failed` and `analysis.figures.norms.layers.broke`.
        names: of the two arms, for the sentences.
        apart: the other arm minus this one, for the statistics.
        needs: what it takes to see losses break.
    """
    rose = "share of the rates at which the training loss rose out of its noise or diverged"
    return [
        Claim(
            f"Fewer runs {what} under {names[0]} than under {names[1]}.",
            of=arms_apart(sweep, value, other, arm).in_steps(1 / sweep["lr"].n_unique()),
            statistic=f"{share} {apart}",
            accept=above(0),
            needs=needs if value == "broke" else None,
        )
        for value, what, share in (
            ("failed", "fail", f"{SHARE};"),
            ("broke", "have a loss that spikes or diverges", f"{rose},"),
        )
    ]


def _lowest(*of: str) -> pl.Expr:
    return pl.col("loss").min().over(of)


def _stalls() -> pl.Expr:
    """A curve that is nowhere within `RISE` of the lowest loss of all arms."""
    return _lowest(*CURVE) >= _lowest("size", "seed") + RISE

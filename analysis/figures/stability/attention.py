"""What attention did in each run of a sweep: its largest logit, the size of queries and keys, and its entropy."""

from __future__ import annotations

import re
from math import lgamma

import polars as pl

from analysis.tables.csv import TableError

KEYS = ("arm", "size", "lr", "seed", "run_id")
LAST_SHARE = 0.1  # of a run's probes


def largest_entropy(context: int) -> float:
    """Of causal attention, mean over the places of a window: the mean of ln i for i from 1 to the context, in nats."""
    return lgamma(context + 1) / context


def read_attention(sweep: pl.DataFrame, curves: pl.DataFrame, *, context: int) -> pl.DataFrame:
    """A row for each probe of each block of each run: `KEYS`, `step`, `block` (from 0), `logit` (the largest),
    `query_key` (RMS of the queries times RMS of the keys), and `entropy` as a share of `largest_entropy`.

    What was no number any more is null.

    Raises:
        TableError: no run measured its attention.
    """
    blocks = sorted(int(m[1]) for name in curves.columns if (m := re.fullmatch(r"block(\d+)/attention_entropy", name)))
    if not blocks:
        raise TableError("none of the runs measured block{l}/attention_entropy")
    parts = [
        curves.filter(pl.col(f"block{block}/attention_entropy").is_not_null()).select(
            pl.col("curve").alias("run_id"),
            "step",
            pl.lit(block).alias("block"),
            pl.col(f"block{block}/attention_logit_max").alias("logit"),
            (pl.col(f"block{block}/query_rms") * pl.col(f"block{block}/key_rms")).alias("query_key"),
            (pl.col(f"block{block}/attention_entropy") / largest_entropy(context)).alias("entropy"),
        )
        for block in blocks
    ]
    return sweep.select(KEYS).join(pl.concat(parts), on="run_id").sort(*KEYS, "step", "block")


def with_attention(sweep: pl.DataFrame, attention: pl.DataFrame) -> pl.DataFrame:
    """The sweep with `logit`, the largest of a run, and the means of `query_key` (geometric) and `entropy` over its
    blocks and the last tenth of its probes, at least one; null where the run did not measure them."""
    last = pl.col("step") > pl.col("step").max() - LAST_SHARE * (pl.col("step").max() - pl.col("step").min())
    numbers = attention.group_by("run_id").agg(
        pl.col("logit").max(),
        pl.col("query_key").filter(last).log().mean().exp(),
        pl.col("entropy").filter(last).mean(),
    )
    return sweep.join(numbers, on="run_id", how="left", maintain_order="left")

"""What growing saves: the compute that training from scratch would take to the loss of a grown run.

traced = trace(runs)                        of `analysis.tables.lineage`
ended = finals(traced)                      the runs to compare, with the `budget` of the one from scratch
speed_ups(ended)                            the grown ones with `speedup` and `bound`
speed_up(flops_K, loss_K, flops, loss)      (0.5, None): scratch takes half as much again; "at least", "at most"
name_broken(claims, traced)                 claims without an estimate say which runs broke
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.claims.claim import Claim
from analysis.tables.columns import Array
from analysis.tables.csv import TableError
from analysis.tables.lineage import ENDED, FROM_SCRATCH, SIZE
from analysis.tables.select import FINISHED
from conf.command_line import counted

SCRATCH = "scratch"


def arm_of(grown: pl.Expr) -> pl.Expr:
    """`arm` of a traced run: what it has grown by, or "scratch"."""
    return pl.when(FROM_SCRATCH).then(pl.lit(SCRATCH)).otherwise(grown).alias("arm")


def finals(traced: pl.DataFrame) -> pl.DataFrame:
    """The finished and unbroken runs that end with a decay, with `budget`: the FLOPs of the nearest one from scratch of
    the same size. Those are left out to which none comes within a step, so that nothing is compared at unequal cost.

    Raises:
        TableError: no grown run is left.
    """
    ends = traced.filter(ENDED)
    levels = ends.filter(FROM_SCRATCH).select(*SIZE, pl.col("flops").alias("budget")).unique()
    apart = (pl.col("flops") - pl.col("budget")).abs() / (pl.col("flops_per_token") * pl.col("tokens_per_step"))
    near = (
        ends.select("run_id", "flops", "flops_per_token", "tokens_per_step", *SIZE)
        .join(levels, on=SIZE)
        .filter(apart <= 1)
        .sort(apart, "budget")
        .group_by("run_id", maintain_order=True)
        .first()
    )
    at_budget = ends.join(near.select("run_id", "budget"), on="run_id", maintain_order="left")
    if at_budget.filter(~FROM_SCRATCH).is_empty():
        raise TableError(
            f"none of {counted(len(traced), 'run')} has grown and finished at the FLOPs of one from scratch of its size"
        )
    return at_budget


def name_broken(claims: Sequence[Claim], runs: pl.DataFrame) -> list[Claim]:
    """The claims, of which those without an estimate say besides which runs of the study broke.

    Args:
        runs: `arm` and `state` of all runs.
    """
    broken = runs.filter(~FINISHED).group_by("state", "arm").len().sort("state", "arm")
    told: dict[str, list[str]] = {}
    for state, arm, n in broken.iter_rows():
        told.setdefault(state, []).append(f"{counted(n, 'run')} {'from scratch' if arm == SCRATCH else f'of {arm}'}")
    text = "; ".join(f"{state}: {', '.join(lost)}" for state, lost in told.items())
    return [claim.add_to_reason(text) for claim in claims] if text else list(claims)


def speed_up(scratch_flops_K: Array, scratch_loss_K: Array, flops: float, loss: float) -> tuple[float, str | None]:
    """C_scratch(L) / C - 1: how much more compute a run from scratch takes to the same loss (Du et al. 2024, arXiv
    2405.15319, section 3.1).

    Between its measured losses, each after a decay of its own, scratch follows straight lines in ln L over ln C.

    Returns:
        The value and None; where scratch was never so good, or never so bad, "at least" or "at most" and the value at
        the end of what was measured.
    """
    order = np.argsort(scratch_flops_K)
    log_c = np.log(np.asarray(scratch_flops_K, dtype=float)[order])
    falling = np.minimum.accumulate(np.log(np.asarray(scratch_loss_K, dtype=float)[order]))
    reached = float(np.exp(np.interp(-np.log(loss), -falling, log_c)))
    bound = "at least" if np.log(loss) < falling[-1] else "at most" if np.log(loss) > falling[0] else None
    return reached / flops - 1, bound


def speed_ups(finals: pl.DataFrame) -> pl.DataFrame:
    """The grown runs of `finals` with `speedup` and `bound` (`speed_up`) against the runs from scratch of the same size
    and seed; those of a seed without two such runs are left out."""
    rows = []
    for _, group in finals.group_by(*SIZE, "seed", maintain_order=True):
        scratch = group.filter(FROM_SCRATCH)
        if scratch["flops"].n_unique() < 2:
            continue
        known = scratch["flops"].to_numpy(), scratch["loss"].to_numpy()
        for run in group.filter(~FROM_SCRATCH).iter_rows(named=True):
            value, bound = speed_up(*known, run["flops"], run["loss"])
            rows.append(run | {"speedup": value, "bound": bound})
    columns = finals.schema | {"speedup": pl.Float64(), "bound": pl.String()}
    return pl.DataFrame(rows, schema=columns, infer_schema_length=None)

"""Runs over a grid of learning rates: how much the rate matters, which one is best, and where training fails.

    sweep = read_sweep(runs, pl.col("model.qk_norm"))  ->  a row for each run, with its arm and size
    sensitivity(sweep), best_lr(sweep), failing_lr(sweep, rise=RISE)  ->  a row for each arm, size and seed
    with_numbers(sweep, curves_of(sweep), logit=pl.col(metric).max())  ->  the sweep with a number of each run's metrics

A sweep is a table with a row for each run: `arm` (what is compared), `size` (a number), `lr` (peak), `seed`, `loss`
(final validation loss, nats per token; that at initialisation where it is higher or the run diverged),
`loss_at_init`, `diverged` (exploded, not finite or dead), `run_id` and `folder`. Every function below makes a row for
each arm, size and seed, so that seeds tell the noise (`analysis.claims.sample`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from analysis.tables.columns import Array
from analysis.tables.runs import read_curves
from analysis.tables.select import with_loss
from train.record.edge import best_value, lowest_by_value

CURVE = ("arm", "size", "seed")

RISE = 0.25
"""Nats above its lowest loss at which a curve has failed: between what a rate costs that is off by a factor of 3, and
the nat between a model that trains and one that has learnt the frequencies of bytes."""

# 12 L D², the matrices of the blocks (Wortsman et al. 2023, section 2.1): the same size for arms that differ in norms.
MATRICES = 12 * pl.col("model.depth") * pl.col("model.width") ** 2


def arm_where(conditions: Mapping[str, pl.Expr], otherwise: pl.Expr) -> pl.Expr:
    """`arm_where({"clip": pl.col("optim.clip") > 0}, pl.lit("free"))`: the first arm whose condition a run meets."""
    return pl.coalesce(*(pl.when(meets).then(pl.lit(arm)) for arm, meets in conditions.items()), otherwise)


def read_sweep(runs: pl.DataFrame, arm: pl.Expr, *, size: pl.Expr = MATRICES) -> pl.DataFrame:
    """The sweep of a table of runs (`analysis.tables.runs.read_runs`); runs that failed are left out.

    Args:
        arm: names the arm of each run.
        size: tells sizes apart, e.g. `pl.col("model.width")`.
    """
    return (
        with_loss(runs, "capped_loss")
        .select(
            arm.cast(pl.String).alias("arm"),
            size.cast(pl.Float64).alias("size"),
            pl.col("optim.lr").alias("lr"),
            "seed",
            pl.col("capped_loss").alias("loss"),
            "loss_at_init",
            (pl.col("state") == "diverged").alias("diverged"),
            "run_id",
            "folder",
        )
        .sort("arm", "size", "lr", "seed", maintain_order=True)
    )


def span(table: pl.DataFrame, column: str) -> tuple[float, float]:
    """The lowest and the highest value of a column of numbers."""
    values = table[column].to_numpy()
    return float(values.min()), float(values.max())


def lr_window(sweep: pl.DataFrame) -> tuple[float, float]:
    """The lowest and the highest learning rate."""
    return span(sweep, "lr")


def curves_of(table: pl.DataFrame) -> pl.DataFrame:
    """`analysis.tables.runs.read_curves` of the runs of a table; read them once for all that is asked of them."""
    return read_curves([Path(folder) for folder in table["folder"]])


def with_numbers(sweep: pl.DataFrame, curves: pl.DataFrame, **numbers: pl.Expr) -> pl.DataFrame:
    """`with_numbers(sweep, curves, logit=pl.col("block0/attention_logit_max").max())`: the sweep with numbers of each
    run's measurements; null where the run did not measure.

    Args:
        curves: of `curves_of`.
        numbers: each makes one number of a run's rows in the order of steps; a null is a step that did not measure.
    """
    of_run = curves.group_by("curve", maintain_order=True).agg(**numbers)
    return sweep.join(of_run, left_on="run_id", right_on="curve", how="left", maintain_order="left")


def sensitivity(sweep: pl.DataFrame) -> pl.DataFrame:
    """LR sensitivity of every curve: the mean over its learning rates of loss minus its lowest loss, in nats.

    Wortsman et al. 2023 (arXiv 2309.14322), section 2.2: E over the window [a, b] of min(loss, loss at init) - l*.
    The window is the curve's own grid, `lr_low` to `lr_high` at `n_lr` rates; compare curves of one window only. A
    mean over fewer rates is another number: it is null where a curve lacks one that another seed's has.
    """
    table = _each_curve(
        sweep,
        lambda lr, loss: {
            "sensitivity": float(loss.mean() - loss.min()),
            "best_loss": float(loss.min()),
            "lr_low": lr.min(),
            "lr_high": lr.max(),
            "n_lr": len(lr),
        },
    )
    whole = pl.col("n_lr") == pl.col("n_lr").max().over("arm", "size")
    return table.with_columns(pl.when(whole).then("sensitivity").alias("sensitivity"))


def best_lr(sweep: pl.DataFrame) -> pl.DataFrame:
    """The best learning rate of every curve, `lr_opt`: the vertex of the parabola in ln lr through the lowest point
    and its neighbours, and the loss there, `loss_opt`.

    `at_edge` says that the lowest point is the first or the last (`train.record.edge.best_value`), or that all losses
    are equal, as of runs that all diverged: then the optimum is not known, and both are null.
    """

    def at_vertex(lr: Array, loss: Array) -> dict[str, Any]:
        best, side = best_value(lowest_by_value(lr.tolist(), loss.tolist()))
        if side is not None or np.ptp(loss) == 0:
            return {"lr_opt": None, "loss_opt": None, "at_edge": True}
        k = int(np.where(lr == best, loss, np.inf).argmin())
        near = slice(k - 1, k + 2)
        x = np.log(lr[near] / lr[k])
        c2, c1, c0 = np.polyfit(x, loss[near], 2)
        vertex = float(-c1 / (2 * c2)) if c2 > 0 else 0.0  # three equal losses
        return {"lr_opt": float(lr[k] * np.exp(vertex)), "loss_opt": float(c0 + c1 * vertex / 2), "at_edge": False}

    # Where every optimum is at an edge, the columns would have no type.
    return _each_curve(sweep, at_vertex).with_columns(pl.col("lr_opt", "loss_opt").cast(pl.Float64))


def failing_lr(sweep: pl.DataFrame, *, rise: float) -> pl.DataFrame:
    """The learning rate above the best one at which a curve's loss has risen by `rise` nats, `lr_fail`.

    Interpolated in ln lr. `censored` says that the curve does not rise so far within its grid; `lr_fail` is then its
    highest rate, a lower bound.
    """

    def risen(lr: Array, loss: Array) -> dict[str, Any]:
        k = int(loss.argmin())
        over = loss - loss[k] - rise
        beyond = [i for i in range(k + 1, len(lr)) if over[i] >= 0]
        if not beyond:
            return {"lr_fail": float(lr[-1]), "censored": True}
        i = beyond[0]
        share = -over[i - 1] / (over[i] - over[i - 1])
        return {"lr_fail": float(lr[i - 1] * (lr[i] / lr[i - 1]) ** share), "censored": False}

    return _each_curve(sweep, risen)


def _each_curve(sweep: pl.DataFrame, statistic: Callable[[Array, Array], dict[str, Any]]) -> pl.DataFrame:
    """A row for each curve: its key, the statistic, and `n_runs`, the runs behind it."""
    rows = []
    for key, curve in sweep.sort("lr").group_by(*CURVE, maintain_order=True):
        numbers = statistic(curve["lr"].to_numpy(), curve["loss"].to_numpy())
        rows.append(dict(zip(CURVE, key, strict=True)) | numbers | {"n_runs": len(curve)})
    return pl.DataFrame(rows, infer_schema_length=None).sort(*CURVE)

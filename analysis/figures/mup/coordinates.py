"""Coordinates: the mean size |x| of every module's output, step by step, and its power law in width or depth."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.stability.lr_sweep import curves_of

# The outputs that nanoGPT-mup records (Dey et al. 2024), and the largest attention logit, for the rules about heads.
MODULES = {
    "embedding": "token embedding",
    "attention": "attention output",
    "mlp": "MLP output",
    "output": "last block",
    "logits": "logits",
    "attention_logit": "largest\nattention logit",
}
OF_BLOCKS = {"attention": "attention_abs", "mlp": "mlp_abs", "attention_logit": "attention_logit_max"}


def read_coordinates(runs: pl.DataFrame, arm: pl.Expr) -> pl.DataFrame:
    """What the probes of every step saw: `arm`, `width`, `depth`, `seed`, `t` (updates done), `module` and `value`.

    The value is for `MODULES` the mean of |x| (the mean over blocks for attention and MLP, the maximum for attention
    logits), for `change` the distance of the last block's mean |x| from that before training, a lower bound on how far
    its coordinates moved, and for `loss` the training loss. Zeros, which have no logarithm, and what is not finite have
    no row.
    """
    own = runs.select(curve="run_id", arm=arm, width="model.width", depth="model.depth", seed="seed")
    curves = curves_of(runs).filter(pl.col("step") > 0)
    deepest = int(own["depth"].max())  # type: ignore[arg-type]  # polars says Any
    last = pl.coalesce(
        pl.when(pl.col("depth") == depth).then(pl.col(f"block{depth - 1}/output_abs"))
        for depth in own["depth"].unique().sort()
    )
    measured = (
        curves.join(own, on="curve", maintain_order="left")
        .with_columns((pl.col("step") - 1).alias("t"), last.alias("output"))
        .sort("curve", "t")
        .select(
            *own.columns,
            "t",
            "output",
            *(
                pl.mean_horizontal(f"block{block}/{metric}" for block in range(deepest)).alias(name)
                for name, metric in OF_BLOCKS.items()
            ),
            embedding="embedding_abs",
            logits="logits_abs",
            change=(pl.col("output") - pl.col("output").first().over("curve")).abs(),
            loss="train_loss",
        )
    )
    names = [*MODULES, "change", "loss"]
    return (
        measured.unpivot(names, index=[*own.columns, "t"], variable_name="module", value_name="value")
        .filter(pl.col("value").is_finite() & (pl.col("value") > 0))
        .drop("curve")
    )


def size_slopes(coordinates: pl.DataFrame, size: str) -> pl.DataFrame:
    """The slope of log2 of a value against log2 of `size` (`width` or `depth`), for each `arm`, `module`, `t` and
    `seed`; none where a size of the arm is missing, or where there is only one."""
    n_sizes = dict(coordinates.group_by("arm").agg(pl.col(size).n_unique()).iter_rows())
    rows = []
    for (arm, module, t, seed), part in coordinates.group_by("arm", "module", "t", "seed", maintain_order=True):
        if len(part) == n_sizes[arm] > 1:
            slope = np.polyfit(np.log2(part[size].to_numpy()), np.log2(part["value"].to_numpy()), 1)[0]
            rows.append((arm, module, t, seed, float(slope)))
    schema = {"arm": pl.String, "module": pl.String, "t": pl.Int64, "seed": pl.Int64, "slope": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")

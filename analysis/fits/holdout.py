"""How well the cheaper points of a table predict the more expensive ones: the question that a scaling law is asked.

split(table, "0.2").held                   which points are the most expensive fifth (N,)
score(result, held, target, "0.2")         the errors of a fit to the others: {"mean_abs": …, "coverage": …}
default_split(table, n_parameters=5)       None where too few points would be left
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from analysis.fitter.law import FitResult
from analysis.fitter.resample import codes
from analysis.tables.columns import Array, FitError
from analysis.tables.csv import numbers, where
from analysis.tables.lint import Rows

DEFAULT_SHARE = 0.2
NONE = "none"

# What counts as the size of a model, in this order.
_SIZES = (("n_params",), ("n_params_non_vocab", "n_params_vocab"), ("n_params_average",))


@dataclass(frozen=True)
class Split:
    """Which points are held out (N,), the others being fitted, and the rule that parted them."""

    rule: str
    held: Rows


def cost_of(table: pl.DataFrame, x: str | None = None, *, curves: bool = False) -> Array | None:
    """`cost_of(table)`: what a point cost (N,): `flops`, or 6 N D, or `x`, N or D alone; None where the table does not
    tell it.

    Args:
        x: the column that a law of one variable reads.
        curves: rows are points of training curves, which are run as a whole: each costs what the last of its curve
            does, by `flops`, 6 N D, or N times its steps.
    """
    size = next((names for names in _SIZES if set(names) <= set(table.columns)), _SIZES[0])
    n_params = np.sum([numbers(table, name) for name in size], axis=0)
    n_tokens, step = numbers(table, "n_tokens"), numbers(table, "step")
    flops = numbers(table, "flops")
    if curves:
        ways = [flops, 6 * n_params * n_tokens, n_params * step, step]
    else:
        ways = [flops, 6 * n_params * n_tokens, numbers(table, x or ""), n_params, n_tokens]
    cost = next((way for way in ways if np.isfinite(way).all()), None)
    if cost is None or not curves or "curve" not in table.columns:
        return cost
    curve = codes(table["curve"].cast(pl.String).fill_null("").to_numpy())
    whole = np.full(curve.max() + 1, -np.inf)
    np.maximum.at(whole, curve, cost)
    return whole[curve]


def split(table: pl.DataFrame, rule: str, x: str | None = None, *, curves: bool = False) -> Split:
    """`split(table, "0.2").held`: part a table by `largest` (the most expensive point, with its replicates), a fraction
    such as `0.2` (the most expensive fifth), or a condition on columns (`n_params > 1e7`). Points that cost the same
    are held out together, and so are, by the first two rules, all points of a curve, but for those that a fitted curve
    shares (`analysis.tables.run_curves`): a trunk's loss that is fitted cannot be predicted as well.

    Raises:
        FitError: the rule cannot be read, or leaves no point on one side.
    """
    try:
        share = float(rule)
    except ValueError:
        share = None
    if share is None and rule != "largest":
        numbered = table.with_row_index("__row")
        held = np.isin(np.arange(len(table)), where(numbered, rule, option="--holdout")["__row"].to_numpy())
        if held.all():
            raise FitError(f"--holdout {rule!r}: holds out every point; allowed: a rule that leaves some to fit")
        return Split(rule, _unseen(table, held, rule))
    if share is not None and not 0 < share < 1:
        raise FitError(f"--holdout {rule}: is not allowed; allowed: largest, a fraction in (0, 1), a condition")
    cost = cost_of(table, x, curves=curves)
    if cost is None:
        raise FitError(
            f"--holdout {rule}: the table does not tell what a point cost; allowed: flops, or n_params and n_tokens, "
            "in every row; or a condition on columns"
        )
    count = 1 if share is None else max(1, round(share * len(cost)))
    held = cost >= np.sort(cost)[-count] * (1 - 1e-9)
    if held.all():
        what = "curve" if curves else "point"
        raise FitError(f"--holdout {rule}: every {what} costs the same; allowed: a condition on columns")
    return Split(rule, _unseen(table, held, rule))


def _unseen(table: pl.DataFrame, held: Rows, rule: str) -> Rows:
    """The held rows that are no measurement of a fitted curve too."""
    if not {"measured_by", "step"} <= set(table.columns):
        return held
    made = table.select(pl.struct("measured_by", "step")).to_series()
    unseen: Rows = held & ~made.is_in(made.filter(~held).implode()).to_numpy()
    if not unseen.any():
        raise FitError(f"--holdout {rule}: every point that it holds out lies on a fitted curve too; allowed: another")
    return unseen


def score(result: FitResult, held: Any, target: Array, rule: str) -> dict[str, Any]:
    """`score(result, held, target, "0.2")["mean_abs"]`: the errors of a fit at points that it has not seen.

    Returns:
        `rule`, `n`, `n_fitted`; `error`, predicted over measured less one where `relative`, or the difference for a
        target that is not positive; its `mean_abs` and `mean`; `coverage`, the share of points inside their 95 %
        prediction intervals, None without a bootstrap.
    """
    says = result.predict(held)
    relative = bool((target > 0).all())
    error = says["predicted"] / target - 1 if relative else says["predicted"] - target
    inside = (says["pi_lo95"] <= target) & (target <= says["pi_hi95"]) if "pi_lo95" in says else None
    return {
        "rule": rule,
        "n": len(target),
        "n_fitted": result.n,
        "relative": relative,
        "error": error.tolist(),
        "mean_abs": float(np.abs(error).mean()),
        "mean": float(error.mean()),
        "coverage": None if inside is None else float(inside.mean()),
    }


def default_split(
    table: pl.DataFrame, n_parameters: int, x: str | None = None, *, curves: bool = False
) -> Split | None:
    """`default_split(table, 5)`: the most expensive fifth, where the table tells the costs and enough points are left
    to fit."""
    try:
        parted = split(table, str(DEFAULT_SHARE), x, curves=curves)
    except FitError:
        return None
    enough = (~parted.held).sum() >= n_parameters + 2 and parted.held.mean() <= 0.5
    return parted if enough else None

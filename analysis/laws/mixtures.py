"""Loss as a function of the data mixture, and the mixture that the law finds best.

Shape letters: J domains, N mixtures, S starts, R bootstrap replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.fitter.family import Family, Learner
from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.law import Law
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

SLACK = 0.02  # published shares are rounded; a sum further from one lacks a domain, or is in percent
STEEPEST = 30.0  # |t|: e^30 between two domains is no loss

WEIGHTS = Option("weights", "the columns of shares: a pattern such as w_*, or names separated by commas", "w_*")
PRIOR = Option("prior", "a share for each of `weights`, around which mixtures are sampled; by default their means")


# --- shares ----------------------------------------------------------------------------------------------


def _resolve(table: Any, given: Options) -> dict[str, Any]:
    """`weights` as a list of columns and `prior` as a list of shares; raises `FitError`."""
    weights = _find_columns(table, given.get("weights") or WEIGHTS.default)
    shares_JN = np.stack(list(_read_shares(table, {"weights": weights}).values()))
    for name, share_N in zip(weights, shares_JN, strict=True):
        if not share_N.any():
            raise FitError(f"{name}: is 0 in every row, which says nothing about it; leave it out of weights")
    prior = _numbers("prior", given["prior"]) if given.get("prior") is not None else shares_JN.mean(1).tolist()
    if len(prior) != len(weights) or min(prior) < 0 or not sum(prior) > 0:
        raise FitError(f"prior: {prior} is not allowed; allowed: {len(weights)} shares >= 0, one for each of weights")
    return {"weights": weights, "prior": [float(share) / sum(prior) for share in prior]}


def _find_columns(table: Any, wanted: str | Sequence[str]) -> list[str]:
    there = list(table.columns) if hasattr(table, "columns") else list(table)
    patterns = [part.strip() for part in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
    names: list[str] = []
    for pattern in patterns:
        matches = [pattern] if pattern in there else [name for name in there if fnmatchcase(name, pattern)]
        if not matches:
            raise FitError(f"weights: no column matches {pattern!r}; there are: {', '.join(there)}")
        names += matches
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise FitError(f"weights: {names[0]} alone is no mixture; allowed: at least 2 columns")
    return names


def _numbers(name: str, given: str | Sequence[float]) -> list[float]:
    try:
        return [float(part) for part in (given.split(",") if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        raise FitError(f"{name}: {given!r} is not allowed; allowed: numbers separated by commas") from None


def _read_shares(table: Any, options: Options) -> dict[str, Array]:
    """The shares of each domain, each (N,), divided by their sum, which rounding has moved off one."""
    names = options["weights"]
    shares_JN = np.stack([read_column(table, column) for column in _columns(names)])
    total_N = shares_JN.sum(0)
    off = np.abs(total_N - 1) > SLACK
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise FitError(
            f"weights: {', '.join(names)} sum to {total_N[row]:g} in row {row + 1}; allowed: shares that sum to 1"
        )
    return dict(zip(names, shares_JN / total_N, strict=True))


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, "share of a domain in the training tokens", "fraction", "non-negative") for name in names)


def _side_by_side(values: Sequence[Any]) -> Array:
    """J numbers or arrays (S, 1) as one array, (J,) or (S, J)."""
    return np.concatenate(np.broadcast_arrays(*(np.atleast_1d(value) for value in values)), axis=-1)


# --- linear ----------------------------------------------------------------------------------------------


def mixture_linear(shares_JN: Array, *, c: Any) -> Array:
    """L = sum_j c_j w_j, c_j (J,) or (S, J). Liu et al. 2024 (RegMix, arXiv 2407.01492), section 3.

    The shares sum to one, so that there is no intercept: c_j is the loss at domain j alone.
    """
    loss: Array = c @ shares_JN
    return loss


def _build_linear(options: Options) -> Law:
    weights = options["weights"]

    def function(columns: Columns, **c: Any) -> Array:
        return mixture_linear(np.stack([columns[w] for w in weights]), c=_side_by_side([c[f"c_{w}"] for w in weights]))

    def gradient(columns: Columns, **_: Any) -> tuple[Array, ...]:
        return tuple(columns[w] for w in weights)

    return Law(
        name="mixture_linear",
        formula=LINEAR.formula,
        question=LINEAR.question,
        source=LINEAR.source,
        columns=_columns(weights),
        parameters=tuple(Parameter(f"c_{w}", f"loss at {w} = 1, nats per token", -math.inf) for w in weights),
        function=function,
        gradient=gradient,
        objective="lsq",
        read=_read_shares,
        options=options,
    )


# --- exponential -----------------------------------------------------------------------------------------


def mixture_exponential(shares_JN: Array, *, c: Any, k: Any, t: Any) -> Array:
    """L = c + k exp(sum_j t_j w_j), t (J,) or (S, J). Ye et al. 2024 (arXiv 2403.16952), section 3.

    The shares sum to one, so that a constant added to every t_j only divides k. The law of the fit has t = 0 for
    one domain, the `reference`: k is then the reducible loss at the reference alone.
    """
    loss: Array = c + k * np.exp(t @ shares_JN)
    return loss


def _resolve_exponential(table: Any, given: Options) -> dict[str, Any]:
    options = _resolve(table, given)
    weights, prior = options["weights"], options["prior"]
    reference = given.get("reference") or weights[int(np.argmax(prior))]
    if reference not in weights:
        raise FitError(f"reference: {reference!r} is not allowed; allowed: {', '.join(weights)}")
    return options | {"reference": reference}


def _build_exponential(options: Options) -> Law:
    weights, reference = options["weights"], options["reference"]
    free = [w for w in weights if w != reference]

    def power(columns: Columns, t: Columns) -> tuple[Array, Array]:
        shares_JN = np.stack([columns[w] for w in free])
        return shares_JN, np.exp(_side_by_side([t[f"t_{w}"] for w in free]) @ shares_JN)

    def function(columns: Columns, *, c: Any, k: Any, **t: Any) -> Array:
        shares_JN, t_J = np.stack([columns[w] for w in free]), _side_by_side([t[f"t_{w}"] for w in free])
        return mixture_exponential(shares_JN, c=c, k=k, t=t_J)

    def gradient(columns: Columns, *, c: Any, k: Any, **t: Any) -> tuple[Array, ...]:
        shares_JN, exponential = power(columns, t)
        return (np.ones_like(exponential + c), exponential, *(k * exponential * share_N for share_N in shares_JN))

    def guess(columns: Columns, loss: Array) -> Array:
        """Slopes of ln(L - c) for a scan of c below the lowest loss, weighted so that errors count in L."""
        design_NJ = np.stack([np.ones_like(loss), *(columns[w] for w in free)], axis=1)
        span = np.ptp(loss) or 1e-3 * float(loss[0])
        slopes = []
        for gap in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
            reducible = loss - loss.min() + gap * span
            slopes.append(np.linalg.lstsq(design_NJ * reducible[:, None], reducible * np.log(reducible))[0][1:])
        return np.clip(np.array(slopes), -STEEPEST / 2, STEEPEST / 2)

    return Law(
        name="mixture_exponential",
        formula=EXPONENTIAL.formula,
        question=EXPONENTIAL.question,
        source=EXPONENTIAL.source,
        columns=_columns(weights),
        parameters=(
            Parameter("c", "loss that no mixture removes, nats per token"),
            Parameter("k", f"reducible loss at {reference} = 1, nats per token"),
            *(
                Parameter(
                    f"t_{w}", f"ln of the reducible loss of {w} over that of {reference}", -STEEPEST, STEEPEST, (0.0,)
                )
                for w in free
            ),
        ),
        function=function,
        gradient=gradient,
        objective="lsq",
        read=_read_shares,
        guess=guess,
        options=options,
    )


# --- trees -----------------------------------------------------------------------------------------------


TREES = Option("trees", "boosting rounds", 1000)
RATE = Option("rate", "shrinkage of each round", 0.01)
LEAF = 20  # points of the smallest leaf, LightGBM's default


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise FitError(
            "mixture_lightgbm: lightgbm is not installed; `pip install -c constraints.txt -e .[mixtures]` first"
        ) from None
    return lightgbm


def _resolve_lightgbm(table: Any, given: Options) -> dict[str, Any]:
    options = _resolve(table, given)
    (trees,), (rate,) = (_numbers(o.name, str(given.get(o.name, o.default))) for o in (TREES, RATE))
    if trees < 1 or trees != int(trees):
        raise FitError(f"trees: {trees:g} is not allowed; allowed: whole numbers >= 1")
    if not 0 < rate <= 1:
        raise FitError(f"rate: {rate:g} is not allowed; allowed: numbers above 0, at most 1")
    return options | {"trees": int(trees), "rate": rate}


def _train_lightgbm(columns: Columns, loss: Array, options: Options) -> dict[str, Any]:
    """Boosted trees of squared error, all of the `trees`: none is stopped early, which would need rows held out."""
    if len(loss) < 2 * LEAF:
        raise FitError(f"mixture_lightgbm: {len(loss)} points; at least {2 * LEAF} are needed to split one leaf")
    lightgbm = _lightgbm()
    settings = {"objective": "l2", "learning_rate": options["rate"], "min_data_in_leaf": LEAF, "verbosity": -1}
    exact = {"deterministic": True, "force_col_wise": True, "num_threads": 1}
    shares_NJ = np.stack([columns[w] for w in options["weights"]], axis=1)
    booster = lightgbm.train(settings | exact, lightgbm.Dataset(shares_NJ, label=loss), options["trees"])
    return dict(options) | {"model": booster.model_to_string()}


@lru_cache(maxsize=4)
def _booster(model: str | None) -> Any:
    if model is None:
        raise FitError("mixture_lightgbm: holds no model; it has not been fitted")
    lightgbm = _lightgbm()
    try:
        return lightgbm.Booster(model_str=model)
    except lightgbm.basic.LightGBMError as error:
        raise FitError(f"mixture_lightgbm: cannot read its model ({error})") from None


def _build_lightgbm(options: Options) -> Law:
    weights = options["weights"]

    def function(columns: Columns) -> Array:
        predicted: Array = np.asarray(
            _booster(options.get("model")).predict(np.stack([columns[w] for w in weights], 1))
        )
        return predicted

    def importance(_: Columns) -> dict[str, Array]:
        gain_J = np.asarray(_booster(options.get("model")).feature_importance("gain"))
        total = gain_J.sum() or 1.0  # losses that are all the same leave nothing to split
        return {f"gain_{w}": np.full(1, gain / total) for w, gain in zip(weights, gain_J, strict=True)}

    return Law(
        name="mixture_lightgbm",
        formula=LIGHTGBM.formula,
        question=LIGHTGBM.question,
        source=LIGHTGBM.source,
        columns=_columns(weights),
        parameters=(),
        function=function,
        objective="lsq",
        read=_read_shares,
        derived=importance,
        options=options,
    )


_SHOWN = {"weights": ["w_a", "w_b"], "prior": [0.5, 0.5]}

LINEAR = Family(
    name="mixture_linear",
    formula="L = sum_j c_j w_j",
    question="which domains lower a loss, and how mixtures rank",
    source="Liu et al. 2024, arXiv 2407.01492",
    choices=(WEIGHTS, PRIOR),
    resolve=_resolve,
    build=_build_linear,
    example=_SHOWN,
)
EXPONENTIAL = Family(
    name="mixture_exponential",
    formula="L = c + k exp(sum_j t_j w_j), t = 0 for the reference domain",
    question="the loss of any mixture of a few domains; k exp(t_j) is the reducible loss at domain j alone",
    source="Ye et al. 2024, arXiv 2403.16952",
    choices=(
        WEIGHTS,
        PRIOR,
        Option("reference", "the domain whose t is 0; by default the one of the largest share in `prior`"),
    ),
    resolve=_resolve_exponential,
    build=_build_exponential,
    example=_SHOWN | {"reference": "w_a"},
)
LIGHTGBM = Learner(
    name="mixture_lightgbm",
    formula="L = sum of boosted regression trees in the w_j",
    question="how mixtures rank, from hundreds of small runs; needs the extra `mixtures`",
    source="Liu et al. 2024, arXiv 2407.01492",
    choices=(WEIGHTS, PRIOR, TREES, RATE),
    resolve=_resolve_lightgbm,
    build=_build_lightgbm,
    example=_SHOWN | {"trees": TREES.default, "rate": RATE.default},
    train=_train_lightgbm,
)

LAWS = (LINEAR, EXPONENTIAL, LIGHTGBM)

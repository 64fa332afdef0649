"""How large a vocabulary should be: three approaches of Tao et al. 2024 (arXiv 2407.13623), and compression.

V is the size of the vocabulary, N_v = V d its parameters at width d (once, where embeddings are tied), N_nv all
others, H the training characters, D = H f(V) the training tokens; C = 6 (N_nv + N_v) D. Losses of different
vocabularies compare after normalisation by the unigram (`LOSS_U`), not per token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.law import Law
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.power import coefficient, exponent
from analysis.tables.columns import Array, Column, Columns, FitError, read_column

N_NON_VOCAB = Column("n_params_non_vocab", "parameters outside of the vocabulary", "parameters")
N_VOCAB = Column("n_params_vocab", "parameters of the vocabulary, V times the width", "parameters")
VOCAB_SIZE = Column("vocab_size", "size of the vocabulary", "tokens")
N_CHARS = Column("n_chars", "training characters", "characters")
FLOPS = Column("flops", "training compute", "FLOPs")
WIDTH = Column("width", "width of the embedding", "1")
TOKENS = Column("n_tokens", "training tokens; where the column is missing, n_chars times f(vocab_size)", "tokens")
LOSS_U = Column("loss_u", "unigram-normalised loss, -mean ln p(w | context) / p_unigram(w)", "nats per token", "any")

# f(V) = a ln² V + b ln V + c tokens per character, measured from 1024 to 200 000 (Tao et al. 2024).
COMPRESSION = {"a": 0.00639222, "b": -0.15811069, "c": 1.20470122}
LARGEST_VOCABULARY = 200_000


# --- compression -----------------------------------------------------------------------------------------


def compression(columns: Columns, *, a: Any, b: Any, c: Any) -> Array:
    """f(V) = a ln² V + b ln V + c, tokens per character. Tao et al. 2024, the fit of token-character ratios."""
    log_v = np.log(columns["vocab_size"])
    ratio: Array = a * log_v**2 + b * log_v + c
    return ratio


def _compression_gradient(columns: Columns, *, a: Any, b: Any, c: Any) -> tuple[Array, ...]:
    log_v, like = np.log(columns["vocab_size"]), 0 * (a + b + c)
    return log_v**2 + like, log_v + like, 1 + 0 * log_v + like


def tokens_per_char(vocab_size: ArrayLike) -> Array:
    """f(V) with the published constants, which the authors use up to 200 000; from there on it is level."""
    return compression({"vocab_size": np.minimum(vocab_size, LARGEST_VOCABULARY)}, **COMPRESSION)


# --- approach 1: the envelope over compute ---------------------------------------------------------------

ENVELOPE_POINTS = 256
QUANTITIES = ("non_vocab", "vocab", "chars")


def runs(columns: Columns) -> NDArray[np.int64]:
    """Codes of the runs (N,). Runs of the same two sizes, repeated seeds, are one: their mean."""
    sizes = np.column_stack([columns["n_params_non_vocab"], columns["n_params_vocab"]])
    return np.unique(sizes, axis=0, return_inverse=True)[1].reshape(-1)


def _envelope_lines(columns: Columns, target: Array, weights: Array, options: Options) -> Steps:
    """Lines through the sizes and characters of the run that is best at each compute.

    The loss of each run is interpolated over ln C. The lines are least squares; the authors' are Huber's with
    delta 1e-3, nearly least absolute deviations.
    """
    exponents = options.get("exponents", EXPONENTS.default)
    if exponents not in ("fixed", "free"):
        raise FitError(f"exponents: {exponents!r} is unknown; allowed: fixed, free")
    run = columns["group"].astype(int)
    from scipy.interpolate import PchipInterpolator  # dear to import, and only used here

    _, first = np.unique(run, return_index=True)
    sizes_K2 = np.column_stack([columns["n_params_non_vocab"], columns["n_params_vocab"]])[first]
    log_flops = np.linspace(np.log(columns["flops"].min()), np.log(columns["flops"].max()), ENVELOPE_POINTS)
    loss_KG = np.full((len(sizes_K2), ENVELOPE_POINTS), np.inf)
    log_chars_KG = np.zeros_like(loss_KG)
    for k in range(len(sizes_K2)):
        x, place, count = np.unique(np.log(columns["flops"][run == k]), return_inverse=True, return_counts=True)
        if len(x) < 2:
            continue
        loss = np.bincount(place, target[run == k]) / count
        log_chars = np.bincount(place, np.log(columns["n_chars"][run == k])) / count
        inside = (log_flops >= x[0]) & (log_flops <= x[-1])
        loss_KG[k, inside] = PchipInterpolator(x, loss)(log_flops[inside])
        log_chars_KG[k] = np.interp(log_flops, x, log_chars)
    if not np.isfinite(loss_KG).any(1).sum() >= 2:
        raise FitError("vocabulary_isoflop: the envelope needs two or more runs with losses at two or more FLOPs each")

    present_RK = np.stack([np.bincount(run, row, len(sizes_K2)) > 0 for row in weights])
    lines = np.full((len(weights), 2, len(QUANTITIES)), np.nan)
    for r, present in enumerate(present_RK):
        best, covered = _winners(loss_KG, present)
        if covered.sum() >= 2:
            lines[r] = _lines(log_flops[covered], _found(sizes_K2, log_chars_KG, best)[covered], exponents == "fixed")

    best, covered = _winners(loss_KG, present_RK[0])
    found_G3 = _found(sizes_K2, log_chars_KG, best)[covered]
    slope, height = lines[0]
    return Steps(
        params={f"k_{name}": np.exp(lines[:, 1, q]) for q, name in enumerate(QUANTITIES)}
        | {f"a_{name}": lines[:, 0, q] for q, name in enumerate(QUANTITIES)},
        residuals=height[1] + slope[1] * log_flops[covered] - found_G3[:, 1],
        points={
            "flops": np.exp(log_flops[covered]),
            "n_params_non_vocab": np.exp(found_G3[:, 0]),
            "n_params_vocab": np.exp(found_G3[:, 1]),
            "n_chars": np.exp(found_G3[:, 2]),
            "loss_u": loss_KG[best, np.arange(ENVELOPE_POINTS)][covered],
        },
        warnings=_edge_warnings(sizes_K2, best[covered]),
    )


def _winners(loss_KG: Array, present_K: Any) -> tuple[Any, Any]:
    """The best run at each compute (G,), and whether there is any."""
    left_KG = np.where(present_K[:, None], loss_KG, np.inf)
    best = left_KG.argmin(0)
    return best, np.isfinite(left_KG[best, np.arange(left_KG.shape[1])])


def _found(sizes_K2: Array, log_chars_KG: Array, best: Any) -> Array:
    """ln N_nv, ln N_v and ln H of the best runs (G, 3)."""
    return np.column_stack([np.log(sizes_K2[best]), log_chars_KG[best, np.arange(len(best))]])


def _lines(x: Array, y_G3: Array, fixed: bool) -> Array:
    """Slopes and heights at x = 0 of three lines by least squares (2, 3)."""
    centred = x - x.mean()
    slope = centred @ y_G3 / (centred @ centred)
    if fixed:
        slope[[0, 2]] = 0.5
    lines: Array = np.stack([slope, y_G3.mean(0) - slope * x.mean()])
    return lines


def _edge_warnings(sizes_K2: Array, best: Any) -> tuple[str, ...]:
    non_vocab, vocab = sizes_K2.T
    warnings = []
    at_edge = np.isin(non_vocab[best], [non_vocab.min(), non_vocab.max()]).mean()
    if at_edge > 0.1:
        warnings.append(
            f"on {at_edge:.0%} of the envelope the best model is the smallest or largest of all; it bends the lines "
            "(leave those FLOPs out with --where)"
        )
    grids = [vocab[non_vocab == value] for value in non_vocab[best]]
    at_edge = np.mean([value in (grid.min(), grid.max()) for value, grid in zip(vocab[best], grids, strict=True)])
    if at_edge > 0.1:
        warnings.append(
            f"on {at_edge:.0%} of the envelope the best vocabulary is the smallest or largest tried for its model; "
            "try smaller or larger ones"
        )
    return tuple(warnings)


def _predict_lines(columns: Columns, **parameters: Any) -> dict[str, Array]:
    log_flops = np.log(columns["flops"])
    names = {"non_vocab": "n_params_non_vocab_opt", "vocab": "n_params_vocab_opt", "chars": "n_chars_opt"}
    return {
        column: parameters[f"k_{name}"] * np.exp(parameters[f"a_{name}"] * log_flops) for name, column in names.items()
    }


# --- approach 2: the vocabulary of least compute ---------------------------------------------------------


def optimal_vocabulary(
    n_non_vocab: ArrayLike,
    width: ArrayLike,
    *,
    a: float = COMPRESSION["a"],
    b: float = COMPRESSION["b"],
    c: float = COMPRESSION["c"],
) -> Array:
    """The V at which a text costs least compute, the root of d/dV [(N_nv + V d) f(V)] = 0.

    A larger vocabulary means fewer tokens, but more expensive ones. Tao et al. 2024, approach 2. Above 200 000 the
    published f(V) is an extrapolation.

    Args:
        n_non_vocab: parameters outside of the vocabulary.
        width: of the embedding; both are broadcast.
        a, b, c: of f(V), which has to fall at V = 1 and to rise in the end.

    Raises:
        FitError: for constants of f(V), or a model so small, that there is no such V.
    """
    n_non_vocab, width = np.broadcast_arrays(np.asarray(n_non_vocab, float), np.asarray(width, float))
    if not (a > 0 and b < 0):
        raise FitError(f"f(V): a = {a:g} and b = {b:g} are not allowed; allowed: a > 0 and b < 0")

    def slope(log_v: Array) -> Array:
        """Of the compute, by ln V, in units of 6 H."""
        vocab = width * np.exp(log_v)
        rise: Array = vocab * (a * log_v**2 + b * log_v + c) + (n_non_vocab + vocab) * (2 * a * log_v + b)
        return rise

    if (slope(np.zeros_like(width)) >= 0).any():
        raise FitError("n_params_non_vocab: so few parameters for their width have no best vocabulary above 1")
    return np.exp(_root(slope, np.zeros_like(width), np.full_like(width, -b / (2 * a))))


def _root(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where increasing functions change sign, between `low` and `high`, by bisection down to rounding."""
    for _ in range(64):
        middle = (low + high) / 2
        below = function(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _derivative_line(columns: Columns, target: Array, weights: Array, options: Options) -> Steps:
    """The line through the root of the smallest model that fits the roots of the others, by least squares.

    The authors' line is Huber's with delta 1e-3, nearly least absolute deviations.
    """
    constants = {option.name: _number(option, options) for option in CONSTANTS}
    n_non_vocab, width = columns["n_params_non_vocab"], target
    vocab = width * optimal_vocabulary(n_non_vocab, width, **constants)
    smallest = int(np.argmin(n_non_vocab))
    anchor = vocab[smallest]
    if options.get("anchor") is not None:
        anchor = _number(ANCHOR, options)
        if not anchor > 0:
            raise FitError(f"anchor: {anchor:g} is not allowed; allowed: a positive number")

    x, y = np.log(n_non_vocab / n_non_vocab[smallest]), np.log(vocab / vocab[smallest])
    spread = weights @ x**2
    if not spread[0] > 0:
        raise FitError(f"n_params_non_vocab: is {n_non_vocab[0]:g} in every row; its exponent needs a range of values")
    gamma = np.where(spread > 0, weights @ (x * y) / np.where(spread > 0, spread, 1.0), np.nan)
    return Steps(
        params={"k": np.exp(np.log(anchor) - gamma * np.log(n_non_vocab[smallest])), "gamma": gamma},
        residuals=gamma[0] * x - y,
        points={
            "n_params_non_vocab": n_non_vocab,
            "width": width,
            "vocab_size": vocab / width,
            "n_params_vocab": vocab,
        },
        warnings=(
            "the compute-minimal vocabularies are computed, not measured: the intervals say what the choice of models "
            "does to the line, and nothing about losses",
        ),
    )


def _number(option: Option, options: Options) -> float:
    value = options.get(option.name, option.default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise FitError(f"{option.name}: {value!r} is not allowed; allowed: a number")
    return number


def _predict_vocab(columns: Columns, *, k: Any, gamma: Any) -> dict[str, Array]:
    return {"n_params_vocab_opt": k * np.exp(gamma * np.log(columns["n_params_non_vocab"]))}


# --- approach 3: the loss --------------------------------------------------------------------------------


def vocabulary_variables(table: Any, options: Options) -> dict[str, Array]:  # noqa: ARG001  # every reader takes them
    """The variables of `vocabulary`; raises `FitError`."""
    names = list(table.columns) if hasattr(table, "columns") else list(table)
    if TOKENS.name not in names and N_CHARS.name in names:
        n_tokens = read_column(table, N_CHARS) * tokens_per_char(read_column(table, VOCAB_SIZE))
    else:
        n_tokens = read_column(table, TOKENS)
    return {
        "n_params_non_vocab": read_column(table, N_NON_VOCAB),
        "n_params_vocab": read_column(table, N_VOCAB),
        "n_tokens": n_tokens,
    }


def vocabulary(columns: Columns, *, E: Any, A1: Any, A2: Any, B: Any, alpha1: Any, alpha2: Any) -> Array:
    """L_u = -E + A1 N_nv^-alpha1 + A2 N_v^-alpha2 + B D^-alpha1. Tao et al. 2024, approach 3.

    As in the paper, the exponent of D is that of N_nv. The published constants are in millions of parameters and
    10^9 tokens; here the units are one parameter and one token.
    """
    vocab = np.exp(-alpha2 * np.log(columns["n_params_vocab"]))
    size = np.exp(-alpha1 * np.log(columns["n_params_non_vocab"]))
    loss: Array = -E + A1 * size + A2 * vocab + B * np.exp(-alpha1 * np.log(columns["n_tokens"]))
    return loss


def _vocabulary_gradient(
    columns: Columns, *, E: Any, A1: Any, A2: Any, B: Any, alpha1: Any, alpha2: Any
) -> tuple[Array, ...]:
    log_n, log_v, log_d = (np.log(columns[name]) for name in ("n_params_non_vocab", "n_params_vocab", "n_tokens"))
    size, vocab, data = np.exp(-alpha1 * log_n), np.exp(-alpha2 * log_v), np.exp(-alpha1 * log_d)
    return (
        -np.ones_like(size + vocab + E),
        size,
        vocab,
        data,
        -A1 * size * log_n - B * data * log_d,
        -A2 * vocab * log_v,
    )


def optimal_vocab_params(
    n_non_vocab: ArrayLike, flops: ArrayLike, *, A2: float, B: float, alpha1: float, alpha2: float
) -> Array:
    """The N_v of least loss at given N_nv and C, with D = C / 6 / (N_nv + N_v). Tao et al. 2024, approach 3.

    dL_u/dN_v = 0 reads alpha2 A2 N_v^(-alpha2 - 1) = alpha1 B (6/C)^alpha1 (N_nv + N_v)^(alpha1 - 1).
    """
    n_non_vocab, flops = np.broadcast_arrays(np.asarray(n_non_vocab, float), np.asarray(flops, float))
    level = np.log(alpha1 * B) - np.log(alpha2 * A2) + alpha1 * np.log(6 / flops)

    def excess(log_vocab: Array) -> Array:
        """ln of what a larger vocabulary costs in tokens, less ln of what it gains."""
        expense = level + (alpha1 - 1) * np.logaddexp(np.log(n_non_vocab), log_vocab)
        rise: Array = expense + (alpha2 + 1) * log_vocab
        return rise

    return np.exp(_root(excess, np.zeros_like(level), np.full_like(level, np.log(1e18))))


EXPONENTS = Option("exponents", "fixed: N_nv and H grow as C^0.5, as in the paper; free: all are fitted", "fixed")
CONSTANTS = tuple(
    Option(name, f"{name} of f(V) = a ln² V + b ln V + c, tokens per character", value)
    for name, value in COMPRESSION.items()
)
ANCHOR = Option("anchor", "the best N_v measured at the smallest model, which sets k; its root if none is given")
_MEANINGS = {"non_vocab": "N_nv", "vocab": "N_v", "chars": "H"}

LAWS = (
    Law(
        name="vocabulary",
        formula="L_u = -E + A1 N_nv^-alpha1 + A2 N_v^-alpha2 + B D^-alpha1",
        question="the loss by the parameters in and outside of the vocabulary and the tokens (approach 3)",
        source="Tao et al. 2024, arXiv 2407.13623",
        columns=(N_NON_VOCAB, N_VOCAB, TOKENS),
        parameters=(
            Parameter("E", "how far the loss falls below the unigram's at infinite scale, nats per token"),
            coefficient("A1", "n_params_non_vocab", "alpha1", "N_nv"),
            coefficient("A2", "n_params_vocab", "alpha2", "N_v"),
            coefficient("B", "n_tokens", "alpha1", "D"),
            exponent("alpha1", "N_nv and of D"),
            exponent("alpha2", "N_v"),
        ),
        function=vocabulary,
        gradient=_vocabulary_gradient,
        target=LOSS_U,
        objective="huber",
        read=vocabulary_variables,
    ),
    Procedure(
        name="vocabulary_isoflop",
        formula="N_nv = k_non_vocab C^a_non_vocab, likewise N_v and H, through the best run at each C",
        question="the best model, vocabulary and text for a compute, by the envelope of curves (approach 1)",
        source="Tao et al. 2024, arXiv 2407.13623",
        columns=(FLOPS, N_NON_VOCAB, N_VOCAB, N_CHARS),
        parameters=(
            *(Parameter(f"k_{name}", f"coefficient of {symbol} = k C^a") for name, symbol in _MEANINGS.items()),
            *(
                Parameter(f"a_{name}", f"exponent of {symbol} = k C^a", -4.0, 4.0, typical=(0.2, 0.8))
                for name, symbol in _MEANINGS.items()
            ),
        ),
        estimate=_envelope_lines,
        inputs=(FLOPS,),
        predict=_predict_lines,
        target=LOSS_U,
        choices=(EXPONENTS,),
        groups=runs,
        resample="groups",
    ),
    Procedure(
        name="vocabulary_derivative",
        formula="N_v = k N_nv^gamma through the roots V of d/dV [(N_nv + V d) f(V)] = 0",
        question="the vocabulary at which a text costs a model least compute, by arithmetic alone (approach 2)",
        source="Tao et al. 2024, arXiv 2407.13623",
        columns=(N_NON_VOCAB,),
        parameters=(
            Parameter("k", "coefficient of N_v = k N_nv^gamma"),
            Parameter("gamma", "exponent of N_v = k N_nv^gamma", -4.0, 4.0, typical=(0.5, 1.0)),
        ),
        estimate=_derivative_line,
        inputs=(N_NON_VOCAB,),
        predict=_predict_vocab,
        target=WIDTH,
        choices=(*CONSTANTS, ANCHOR),
    ),
    Law(
        name="compression",
        formula="f(V) = a ln² V + b ln V + c",
        question="how many tokens a character becomes, by the size of the vocabulary",
        source="Tao et al. 2024, arXiv 2407.13623",
        columns=(VOCAB_SIZE,),
        parameters=tuple(
            Parameter(name, f"coefficient of {term}", lower=-np.inf)
            for name, term in (("a", "ln² V"), ("b", "ln V"), ("c", "1"))
        ),
        function=compression,
        gradient=_compression_gradient,
        target=Column("tokens_per_char", "tokens of a text by its characters", "tokens per character"),
        objective="lsq",
    ),
)

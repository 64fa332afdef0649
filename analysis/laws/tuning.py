"""The best learning rate and batch size as power laws of size and data, and what a recipe costs.

A cell is a pair (N, D) whose runs differ in peak learning rate and batch size only. N counts the parameters without
embeddings, D and batches are in tokens. Shape letters: R resamples, N runs, G runs of one cell, C cells,
P coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitter.formula import Option, Options, Parameter
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.chinchilla import D, N
from analysis.laws.kaplan import BATCH
from analysis.tables.columns import LOSS, Array, Column, Columns, FitError, read_column
from train.record.edge import best_value, lowest_by_value

LR = Column("lr", "peak learning rate", "1")
# By how much (relative) a run may lie above the best of its cell and still be read.
THRESHOLDS = {"near_optimal": 0.0025, "surface": 0.02}

FLATTEST = 1e-3  # smallest curvature of a surface over its largest, both per width of the grid

SETTING = ("n_params", "n_tokens")

Recipe = Callable[[Any, Any], tuple[Array, Array]]


# --- cells and regret ------------------------------------------------------------------------------------


def cells(columns: Columns, by: tuple[str, ...] = SETTING) -> NDArray[np.int64]:
    """Which cell, a combination of values of the columns `by`, each run is of: counted from 0 in their order (N,).

    Runs of one cell share its optimum, so that a bootstrap that is to be honest draws whole cells.
    """
    settings = np.stack([columns[name] for name in by], axis=1)
    return np.unique(settings, axis=0, return_inverse=True)[1].reshape(-1)


def regret(table: Any, lr: Array, batch_tokens: Array, by: tuple[str, ...] = SETTING) -> dict[str, Array]:
    """What a recipe costs in each cell: loss of the run nearest to it over that of the cell's best run, minus one.

    Args:
        table: with the columns `by`, `lr`, `batch_tokens` and `loss`.
        lr: what the recipe recommends for each row (N,); within a cell it is the same. Likewise `batch_tokens`.
        by: columns that tell cells apart, such as `n_params_active` besides the usual two.

    Returns:
        One row per cell: its values of `by`; `lr` and `batch_tokens` of the nearest run, by distance in
        (ln lr, ln batch); `lr_best` and `batch_best`; `regret` (relative, 0.001 is 0.1 %).

    Raises:
        FitError: the table lacks a column, or holds what is no run.
    """
    columns = {name: read_column(table, Column(name, "", "")) for name in by}
    columns |= {column.name: read_column(table, column) for column in (LR, BATCH, LOSS)}
    distance = np.hypot(np.log(columns["lr"] / lr), np.log(columns["batch_tokens"] / batch_tokens))
    cell_N = cells(columns, by)
    nearest, best = [], []
    for cell in range(cell_N.max(initial=-1) + 1):
        runs = np.flatnonzero(cell_N == cell)
        nearest.append(int(runs[np.argmin(distance[runs])]))
        best.append(int(runs[np.argmin(columns["loss"][runs])]))
    return {name: columns[name][nearest] for name in (*by, "lr", "batch_tokens")} | {
        "lr_best": columns["lr"][best],
        "batch_best": columns["batch_tokens"][best],
        "regret": columns["loss"][nearest] / columns["loss"][best] - 1,
    }


# --- published recipes: (n_params, n_tokens) -> (lr, batch in tokens) -------------------------------------


def step_law_recipe(n_params: Any, n_tokens: Any) -> tuple[Array, Array]:
    """lr = 1.79 N^-0.713 D^0.307, B = 0.58 D^0.571. Li et al. 2025 (arXiv 2503.04715), abstract.

    N without embeddings (of a mixture of experts: all experts), 60M to 1B; D 2B to 100B; cosine to a final 1e-5.
    """
    return 1.79 * n_params**-0.713 * n_tokens**0.307, 0.58 * n_tokens**0.571


def porian_recipe(n_params: Any, n_tokens: Any) -> tuple[Array, Array]:
    """lr = 3.7 N^-0.36, B = 0.7576 N^0.703. Porian et al. 2024 (arXiv 2406.19146), as given in Li et al. 2025.

    N without embeddings; D = 20 N and a constant learning rate, whatever D is here.
    """
    return 3.7 * n_params**-0.36 + 0.0 * n_tokens, 0.7576 * n_params**0.703 + 0.0 * n_tokens


def ladder_recipe(n_params: Any, n_tokens: Any) -> tuple[Array, Array]:
    """lr = 0.0047 (N / 108e6)^(-1/3) / 2, B = 327680 (N / 108e6)^(2/3): a variant of Porian et al. 2024.

    The rule of OLMo's model ladder (Bhagia et al. 2024, arXiv 2412.04403), its learning rate halved as in OLMo-core.
    N without embeddings, D a multiple of 20 N, warm-up then decay.
    """
    scale = n_params / 108e6 + 0.0 * n_tokens
    return 0.0047 / 2 * scale ** (-1 / 3), 327680 * scale ** (2 / 3)


def deepseek_recipe(n_params: Any, n_tokens: Any) -> tuple[Array, Array]:
    """lr = 0.3118 C^-0.125, B = 0.2920 C^0.3271, C = 6 N D. DeepSeek-AI 2024 (arXiv 2401.02954), equation 1.

    There C counts attention besides 6 N D, and N and D are the best ones for C.
    """
    flops = 6 * n_params * n_tokens
    return 0.3118 * flops**-0.1250, 0.2920 * flops**0.3271


RECIPES: dict[str, Recipe] = {
    "step_law": step_law_recipe,
    "porian": porian_recipe,
    "ladder": ladder_recipe,
    "deepseek": deepseek_recipe,
}


# --- the law ---------------------------------------------------------------------------------------------


def tuned(
    columns: Columns,
    *,
    lr_factor: Any,
    lr_exponent_N: Any,
    lr_exponent_D: Any,
    batch_factor: Any,
    batch_exponent_D: Any,
) -> dict[str, Array]:
    """lr* = lr_factor N^lr_exponent_N D^lr_exponent_D, B* = batch_factor D^batch_exponent_D.

    Li et al. 2025 (arXiv 2503.04715), equation 1.
    """
    log_n, log_d = np.log(columns["n_params"]), np.log(columns["n_tokens"])
    return {
        "lr_opt": np.exp(np.log(lr_factor) + lr_exponent_N * log_n + lr_exponent_D * log_d),
        "batch_opt": np.exp(np.log(batch_factor) + batch_exponent_D * log_d) + 0 * log_n,
    }


def _estimate(columns: Columns, target: Array, weights: Array, options: Options) -> Steps:
    """The best runs or optima of every cell, then straight lines through their logarithms."""
    method, threshold = _read_options(options)
    cell_N = cells(columns)
    _check_cells(columns, cell_N)
    find = _near_optimal if method == "near_optimal" else _surface_optima
    log_lr_RK, log_batch_RK, weights_RK, row_K, warnings = find(columns, target, weights, cell_N, threshold)
    n_params, n_tokens = columns["n_params"][row_K], columns["n_tokens"][row_K]
    lr_RP = _regress(log_lr_RK, [np.log(n_params), np.log(n_tokens)], weights_RK)
    batch_RP = _regress(log_batch_RK, [np.log(n_tokens)], weights_RK)
    params = {
        "lr_factor": np.exp(lr_RP[:, 0]),
        "lr_exponent_N": lr_RP[:, 1],
        "lr_exponent_D": lr_RP[:, 2],
        "batch_factor": np.exp(batch_RP[:, 0]),
        "batch_exponent_D": batch_RP[:, 1],
    }
    used = weights_RK[0] > 0
    points = {
        "n_params": n_params[used],
        "n_tokens": n_tokens[used],
        "lr": np.exp(log_lr_RK[0, used]),
        "batch_tokens": np.exp(log_batch_RK[0, used]),
    }
    tuned_at = tuned(points, **{name: values[0] for name, values in params.items()})
    residuals = np.log([tuned_at["lr_opt"] / points["lr"], tuned_at["batch_opt"] / points["batch_tokens"]])
    advice = tuned(columns, **{name: values[0] for name, values in params.items()})
    lost = regret(dict(columns) | {"loss": target}, advice["lr_opt"], advice["batch_opt"])["regret"]
    derived = {"regret_mean": float(lost.mean()), "regret_worst": float(lost.max())}
    return Steps(params, residuals.ravel(), points, tuple(warnings), derived)


def _near_optimal(
    columns: Columns, loss_N: Array, weights_RN: Array, cell_N: NDArray[np.int64], threshold: float
) -> tuple[Array, Array, Array, NDArray[np.int64], list[str]]:
    """Every run whose loss is within `threshold` of the best of its cell (Li et al. 2025, section 3).

    Returns:
        ln lr and ln batch of the points (R, K), their weights (R, K), a row of the table of each one's cell (K,),
        and warnings.
    """
    best_RN = np.empty_like(weights_RN)
    for cell in range(cell_N.max() + 1):
        runs = cell_N == cell
        drawn = np.where(weights_RN[:, runs] > 0, loss_N[runs], np.inf)
        best_RN[:, runs] = drawn.min(axis=1, keepdims=True)
    kept_RN = np.where(loss_N <= best_RN * (1 + threshold), weights_RN, 0.0)
    shape = weights_RN.shape
    log_lr = np.broadcast_to(np.log(columns["lr"]), shape)
    log_batch = np.broadcast_to(np.log(columns["batch_tokens"]), shape)
    edges = sum(_at_edge(columns, loss_N, cell_N == cell) for cell in range(cell_N.max() + 1))
    warnings = []
    if edges:
        warnings.append(
            f"in {edges} of {cell_N.max() + 1} cells the best run has the smallest or largest lr or batch_tokens "
            "tried; the optimum may lie beyond"
        )
    return log_lr, log_batch, kept_RN, np.arange(len(loss_N)), warnings


def _at_edge(columns: Columns, loss_N: Array, runs: NDArray[np.bool_]) -> bool:
    """Whether the best of these runs has the smallest or largest learning rate or batch of them."""
    tried = [lowest_by_value(columns[name][runs].tolist(), loss_N[runs].tolist()) for name in ("lr", "batch_tokens")]
    return any(len(losses) > 1 and best_value(losses)[1] is not None for losses in tried)


def _surface_optima(
    columns: Columns, loss_N: Array, weights_RN: Array, cell_N: NDArray[np.int64], threshold: float
) -> tuple[Array, Array, Array, NDArray[np.int64], list[str]]:
    """The minimum of a quadratic in (ln lr, ln batch) in each cell, fitted to the runs within `threshold` of its best.

    It counts where the surface bends upwards in every direction and the minimum is inside the cell's grid, with the
    weight of the cell: how often it was drawn. Returns as `_near_optimal`, with a point for each cell.
    """
    n_cells, shape = int(cell_N.max()) + 1, (len(weights_RN), int(cell_N.max()) + 1)
    log_lr_RC, log_batch_RC, weights_RC = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for cell in range(n_cells):
        runs = np.flatnonzero(cell_N == cell)
        minima_R2, good_R = _quadratic_minimum(
            np.log([columns["lr"][runs], columns["batch_tokens"][runs]]), loss_N[runs], weights_RN[:, runs], threshold
        )
        log_lr_RC[:, cell], log_batch_RC[:, cell] = minima_R2.T
        weights_RC[:, cell] = np.where(good_R, weights_RN[:, runs].mean(axis=1), 0.0)
    lost = int((weights_RC[0] == 0).sum())
    warnings = [f"{lost} of {n_cells} cells have no minimum inside their grid and were left out"] if lost else []
    row_C = np.unique(cell_N, return_index=True)[1]
    if n_cells - lost < 4:
        raise FitError(
            f"step_law: {n_cells - lost} of {n_cells} cells have a minimum of loss inside their grid of lr and "
            f"batch_tokens, by a quadratic through their runs within {threshold:g} of the best; allowed: 4 or more"
        )
    return log_lr_RC, log_batch_RC, weights_RC, row_C, warnings


def _quadratic_minimum(
    grid_2G: Array, loss_G: Array, weights_RG: Array, threshold: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Minimum (R, 2) of loss = c + slope.z + z.curvature.z / 2 over z in `grid_2G`, and whether it is one (R,)."""
    best_R1 = np.where(weights_RG > 0, loss_G, np.inf).min(axis=1, keepdims=True)
    kept_RG = np.where(loss_G <= best_R1 * (1 + threshold), weights_RG, 0.0)
    middle, spread = grid_2G.mean(axis=1), np.ptp(grid_2G, axis=1)
    spread = np.where(spread > 0, spread, 1.0)
    x, y = (grid_2G - middle[:, None]) / spread[:, None]
    basis_PG = np.stack([np.ones_like(x), x, y, x**2, x * y, y**2])
    coefficients_RP, determined_R = _least_squares(basis_PG, loss_G[None], kept_RG)
    _, sx, sy, cxx, cxy, cyy = coefficients_RP.T
    determinant = 4 * cxx * cyy - cxy**2
    # Where it is a thousand times flatter in one direction than in another it has no minimum that data could show.
    convex_R = determined_R & (cxx > 0) & (determinant > FLATTEST * (2 * cxx + 2 * cyy) ** 2)
    safe = np.where(convex_R, determinant, 1.0)
    z_R2 = np.stack([(cxy * sy - 2 * cyy * sx) / safe, (cxy * sx - 2 * cxx * sy) / safe], axis=1)
    z_R2 = np.where(convex_R[:, None], z_R2, 0.0)
    minimum_R2 = middle + spread * z_R2
    inside_R = ((minimum_R2 >= grid_2G.min(axis=1)) & (minimum_R2 <= grid_2G.max(axis=1))).all(axis=1)
    return minimum_R2, convex_R & inside_R


def _regress(y_RK: Array, x_K: list[Array], weights_RK: Array) -> Array:
    """Intercept and slopes (R, P) of weighted least squares; nan where the weights leave them undetermined."""
    middle, spread = [x.mean() for x in x_K], [x.std() for x in x_K]
    scaled = [(x - m) / s for x, m, s in zip(x_K, middle, spread, strict=True)]
    coefficients_RP, determined_R = _least_squares(np.stack([np.ones_like(x_K[0]), *scaled]), y_RK, weights_RK)
    slopes = coefficients_RP[:, 1:] / spread
    intercept = coefficients_RP[:, :1] - (slopes * middle).sum(axis=1, keepdims=True)
    return np.where(determined_R[:, None], np.concatenate([intercept, slopes], axis=1), np.nan)


def _least_squares(basis_PK: Array, y_RK: Array, weights_RK: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Coefficients (R, P) of weighted least squares, and whether the weighted points determine them (R,)."""
    normal_RPP = np.einsum("rk,pk,qk->rpq", weights_RK, basis_PK, basis_PK, optimize=True)
    right_RP = np.einsum("rk,pk->rp", weights_RK * y_RK, basis_PK)
    eigenvalues = np.linalg.eigvalsh(normal_RPP)
    determined_R = eigenvalues[:, 0] > 1e-9 * eigenvalues[:, -1]
    safe = np.where(determined_R[:, None, None], normal_RPP, np.eye(len(basis_PK)))
    return np.linalg.solve(safe, right_RP[..., None])[..., 0], determined_R


def _read_options(options: Options) -> tuple[str, float]:
    method = options.get("method", "near_optimal")
    if method not in THRESHOLDS:
        raise FitError(f"method: {method!r} is not allowed; allowed: {', '.join(THRESHOLDS)}")
    threshold = options.get("threshold")
    if threshold is None:
        return method, THRESHOLDS[method]
    try:
        share = float(threshold)  # text, from the command line
    except (TypeError, ValueError):
        share = np.nan
    if not 0 < share < 1:
        raise FitError(f"threshold: {threshold!r} is not allowed; allowed: numbers between 0 and 1")
    return method, share


def _check_cells(columns: Columns, cell_N: NDArray[np.int64]) -> None:
    """Raises `FitError` unless the cells determine a plane over (ln N, ln D)."""
    first = np.unique(cell_N, return_index=True)[1]
    log_ND = np.log([columns["n_params"][first], columns["n_tokens"][first]])
    for name, values in zip(("n_params", "n_tokens"), log_ND, strict=True):
        if np.ptp(values) == 0:
            raise FitError(f"{name}: is {np.exp(values[0]):g} in every row; its exponent needs a range of values")
    if len(first) < 4:
        raise FitError(
            f"step_law: {len(first)} cells of (n_params, n_tokens) cannot determine 3 parameters; at least 4 are needed"
        )
    if abs(np.corrcoef(log_ND)[0, 1]) > 1 - 1e-6:
        raise FitError(
            "n_tokens: is a power of n_params in every row; to tell their exponents apart, vary n_tokens / n_params"
        )
    for name in ("lr", "batch_tokens"):
        if np.ptp(columns[name]) == 0:
            raise FitError(f"{name}: is {columns[name][0]:g} in every row; to find the best, vary it")


LAWS = (
    Procedure(
        name="step_law",
        formula="lr* = lr_factor N^lr_exponent_N D^lr_exponent_D, B* = batch_factor D^batch_exponent_D",
        question="the best peak learning rate and batch size (tokens) for N parameters and D tokens",
        source="Li et al. 2025, arXiv 2503.04715",
        columns=(N, D, LR, BATCH),
        parameters=(
            Parameter("lr_factor", "learning rate at N = D = 1; quote the rate at a size of interest instead"),
            Parameter("lr_exponent_N", "exponent of N in the learning rate", -np.inf, typical=(-1.2, 0.0)),
            Parameter("lr_exponent_D", "exponent of D in the learning rate", -np.inf, typical=(-0.5, 0.6)),
            Parameter("batch_factor", "batch in tokens at D = 1"),
            Parameter("batch_exponent_D", "exponent of D in the batch", -np.inf, typical=(0.2, 0.9)),
        ),
        estimate=_estimate,
        inputs=(N, D),
        predict=tuned,
        groups=cells,
        resample="groups",
        choices=(
            Option(
                "method",
                "near_optimal: lines through all runs close to the best of their cell; surface: lines through the "
                "minima of a quadratic in (ln lr, ln batch_tokens) in each cell",
                "near_optimal",
            ),
            Option(
                "threshold",
                "how far above the best loss of its cell a run may lie and still be read (relative); by default "
                + ", ".join(f"{value:g} for {name}" for name, value in THRESHOLDS.items()),
            ),
        ),
    ),
)

"""Designs and truths for the laws of `analysis.laws.sparsity`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from analysis.laws.sparsity import average_params, linear_pruning
from tests.analysis.simulate import Example

AVERAGE_TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}

# Frantar et al. 2023: T5 on C4, and ViT on JFT; a_D is given, B = a_D^b_D.
T5 = {"a_S": 16.8, "b_S": 0.722, "c_S": 45.0, "b_N": 0.245, "a_D": 6.90e8, "b_D": 0.203, "E": 0.651}
VIT = {"a_S": 294.0, "b_S": 0.821, "c_S": 468.0, "b_N": 0.392, "a_D": 2.37e8, "b_D": 0.890, "E": 4.517}


def sparse_truth(published: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in published.items() if name != "a_D"} | {
        "B": published["a_D"] ** published["b_D"]
    }


def pruned_and_dense(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """Dense models, and models pruned over three spans to three densities; six sizes, five lengths."""
    shares = [1.0]
    for (start, end), density in itertools.product([(0.25, 0.75), (0.0, 0.5), (0.5, 0.9)], (0.5, 0.25, 0.125)):
        shares.append(average_params(1.0, *linear_pruning(start, end, density)))
    sizes = (5e6, 15e6, 50e6, 150e6, 500e6, 1500e6)
    rows = [(n * share, d) for n, d, share in itertools.product(sizes, (2e8, 1e9, 4e9, 2e10, 1e11), shares)]
    n_params_average, n_tokens = np.array(rows).T
    return {"n_params_average": n_params_average, "n_tokens": n_tokens}


def sparsity_grid(rng: np.random.Generator) -> dict[str, Any]:  # noqa: ARG001
    """Dense to 97 % sparse; non-zero parameters over three decades."""
    grid = itertools.product(
        (0.0, 0.5, 0.75, 0.875, 0.9375, 0.96875), (0.7e6, 3e6, 12e6, 50e6, 200e6, 800e6), (3e8, 2e9, 1e10, 1e11)
    )
    sparsity, n_params, n_tokens = np.array(list(grid)).T
    return {"sparsity": sparsity, "n_params": n_params, "n_tokens": n_tokens}


EXAMPLES: tuple[Example, ...] = (
    Example(
        law="average_parameters",
        truth=AVERAGE_TRUTH,
        table=pruned_and_dense,
        noise=3e-3,
        fit={"delta": 3e-3},
        tolerance={"default": 0.1, "A": 0.3, "B": 0.3},
    ),
    Example(
        law="sparse",
        truth=sparse_truth(VIT),
        table=sparsity_grid,
        noise=1e-3,
        fit={"delta": 1e-3},
        tolerance={"default": 0.1},
    ),
)

"""Designs and truths for the laws of `analysis.laws.kaplan` and the curves of `analysis.laws.unraveling`."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.laws.unraveling import curve_loss
from tests.analysis.simulate import Example

# Kaplan et al. 2020 (arXiv 2001.08361): tables 2 and 3, section 5.1, and the caption of figure 1 for single laws.
BATCH_CONSTANTS = {"B_star": 2e8, "alpha_B": 0.21}
CURVE_CONSTANTS = {"alpha_N": 0.077, "N_c": 6.5e13, "alpha_S": 0.76, "S_c": 2.1e3, **BATCH_CONSTANTS}

SIZES = np.geomspace(1e6, 6.4e7, 7)
TOKENS = np.geomspace(1e7, 2e10, 12)


def _grid(**axes: np.ndarray) -> dict[str, Any]:
    return dict(zip(axes, (axis.ravel() for axis in np.meshgrid(*axes.values())), strict=True))


def curves(rng: np.random.Generator, *, noise: float, points: int = 100) -> dict[str, Any]:
    """Eight sizes at a batch of 2^19 tokens, and seven further batch sizes of one of them, from step 300 on."""
    sizes = np.geomspace(1e6, 6e7, 8)
    runs = [(n, 2.0**19) for n in sizes] + [(sizes[5], 2.0**k) for k in (14, 15, 16, 17, 18, 20, 21)]
    rows = []
    for number, (n_params, batch) in enumerate(runs):
        last = 3e4 if batch == 2.0**19 else 2e4 * (1 + 3e5 / batch)
        step = np.unique(np.round(np.geomspace(300, last, points)))
        loss = curve_loss(n_params, batch, step, **CURVE_CONSTANTS) * np.exp(noise * rng.standard_normal(len(step)))
        rows.append(np.stack([np.full(len(step), number), *np.broadcast_arrays(n_params, batch, step, loss)[:4]]))
    columns = np.concatenate(rows, axis=1)
    return dict(zip(("curve", "n_params", "batch_tokens", "step", "loss"), columns, strict=True))


EXAMPLES = (
    Example(
        law="kaplan",  # two seeds of each pair
        truth={"A_N": 6.4e13**0.076, "A_D": 1.8e13**0.103, "alpha_N": 0.076, "alpha_D": 0.103},
        table=lambda _: _grid(n_params=np.repeat(SIZES, 2), n_tokens=TOKENS),
        noise=0.005,
        fit={"delta": 0.01},
    ),
    Example(
        law="kaplan_size",  # five seeds of each size
        truth={"A_N": 8.8e13**0.076, "alpha_N": 0.076},
        table=lambda _: {"n_params": np.repeat(np.geomspace(3e5, 4e7, 8), 5)},
        noise=0.005,
        fit={"delta": 0.01},
    ),
    Example(
        law="kaplan_data",
        truth={"A_D": 5.4e13**0.095, "alpha_D": 0.095},
        table=lambda _: {"n_tokens": np.repeat(np.geomspace(2e7, 2e10, 8), 5)},
        noise=0.005,
        fit={"delta": 0.01},
    ),
    Example(
        law="kaplan_steps",
        truth={"A_N": 6.5e13**0.077, "A_S": 2.1e3**0.76, "alpha_N": 0.077, "alpha_S": 0.76},
        table=lambda _: _grid(n_params=SIZES, min_steps=np.geomspace(1e3, 1e5, 16)),
        noise=0.005,
        fit={"delta": 0.01},
    ),
    Example(
        law="critical_batch",  # three seeds of each batch size, two in every octave
        truth={"S_min": 2e3, "B_crit": 5e5},
        table=lambda _: {"batch_tokens": np.repeat(2.0 ** np.arange(15, 23.5, 0.5), 3)},
        noise=0.05,
        tolerance={"default": 0.15},
    ),
    Example(
        law="critical_batch_loss",
        truth={"B_star": 2e8, "inv_alpha_B": 1 / 0.21},
        table=lambda _: {"loss": np.repeat(np.linspace(2.5, 6.0, 20), 2)},
        noise=0.1,
        tolerance={"default": 0.1, "B_star": 0.5},
    ),
)

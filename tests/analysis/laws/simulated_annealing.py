"""Designs and truths for the laws of loss curves under learning-rate schedules."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.tables.columns import Array
from tests.analysis.simulate import Example


def cosine(steps: Array, *, peak: float, last: int, end: float = 0.0) -> Array:
    """From `peak` at step 0 to `end` at step `last`."""
    return end + (peak - end) / 2 * (1 + np.cos(np.pi * steps / last))


def stable_decay(steps: Array, *, peak: float, start: int, last: int, end: float = 0.0) -> Array:
    """`peak` up to step `start`, then in a line to `end` at step `last`."""
    return peak + (end - peak) * np.clip((steps - start) / (last - start), 0.0, 1.0)


def _table(curves: dict[str, tuple[Array, Array]]) -> dict[str, Any]:
    """`curves`: name -> (steps, learning rates)."""
    return {
        "curve": np.repeat(list(curves), [len(steps) for steps, _ in curves.values()]),
        "step": np.concatenate([steps for steps, _ in curves.values()]),
        "lr": np.concatenate([lr for _, lr in curves.values()]),
    }


def _three_schedules(_: np.random.Generator) -> dict[str, Any]:
    """Constant, cosine and warm-up-stable-decay of 20000 steps at 2e-4, logged every 200 steps from 600 on."""
    steps = np.arange(600, 20001, 200)
    return _table(
        {
            "constant": (steps, np.full(len(steps), 2e-4)),
            "cosine": (steps, cosine(steps, peak=2e-4, last=20000)),
            "wsd": (steps, stable_decay(steps, peak=2e-4, start=14000, last=20000)),
        }
    )


def _five_sizes(rng: np.random.Generator) -> dict[str, Any]:
    """The three schedules at five sizes, 1M to 100M, logged every 1000 steps."""
    one = {name: values[2::5] for name, values in _three_schedules(rng).items()}
    sizes = np.geomspace(1e6, 1e8, 5)
    n = len(one["step"])
    table = {name: np.tile(values, len(sizes)) for name, values in one.items()}
    table["n_params"] = np.repeat(sizes, n)
    table["curve"] = np.array(
        [f"{curve}-{size:.0f}" for curve, size in zip(table["curve"], table["n_params"], strict=True)]
    )
    return table


def _two_stages(_: np.random.Generator) -> dict[str, Any]:
    """A cosine, and runs whose learning rate drops after 8000 of 24000 steps to one of four levels or not at all.

    Logged densely after the drop, which is where C, beta and gamma show.
    """
    regular = np.arange(800, 24001, 800)
    after = 8000 + np.unique(np.round(np.geomspace(1, 16000, 40)).astype(int))
    around = np.unique(np.concatenate([regular[regular <= 8000], after]))
    peak = 3e-4
    curves = {
        "constant": (regular, np.full(len(regular), peak)),
        "cosine": (regular, cosine(regular, peak=peak, last=24000, end=3e-5)),
    }
    for share in (0.01, 0.03, 0.1, 0.3):
        curves[f"drop to {share:g}"] = (around, np.where(around > 8000, share * peak, peak))
    return _table(curves)


EXAMPLES = (
    Example(
        law="lr_annealing",
        options={"decay": 0.999, "warmup": "peak"},
        truth={"L0": 2.628, "A": 0.4297, "alpha": 0.55, "C": 0.411},
        table=_three_schedules,
        noise=0.001,
        tolerance={"default": 0.05, "L0": 0.01},
    ),
    Example(
        law="lr_annealing_size",
        options={"decay": 0.999, "warmup": "peak"},
        truth={"L0": 1.8, "A": 0.43, "alpha": 0.55, "B": 60.0, "beta": 0.28, "C": 0.05, "gamma": 0.12},
        table=_five_sizes,
        noise=0.002,
        tolerance={"default": 0.1, "C": 0.6, "gamma": 0.4, "L0": 0.02},
    ),
    Example(
        law="multi_power",
        truth={"L0": 2.9, "A": 0.52, "alpha": 0.5, "B": 420.0, "C": 2.0, "beta": 0.58, "gamma": 0.6},
        table=_two_stages,
        noise=0.0005,
        tolerance={"default": 0.1, "C": 0.6, "beta": 0.25, "gamma": 0.25, "B": 0.2},
    ),
)

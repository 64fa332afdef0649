"""Designs and truths for the laws of `analysis.laws.shifted`."""

import numpy as np

from tests.analysis.simulate import Example

# The best of equally many runs in each of 24 bins of compute.
FRONTIER = Example(
    law="frontier",
    truth={"E": 1.9, "A": 1.9e4, "B": 2e16, "c": 0.25},
    table=lambda _: {"flops": np.geomspace(1e14, 1e20, 24)},
    noise=0.002,
    x="flops",
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.1, "A": 1.0, "B": 0.5},
)

# Loss of four-digit addition, learnt at about 600 examples (coefficients near those of Caballero et al. 2022).
ONE_BREAK = Example(
    law="bnsl",
    options={"breaks": 1},
    truth={"E": 0.4, "A": 2.3, "c0": 0.055, "c1": 4.0, "d1": 600.0, "f1": 0.08},
    table=lambda _: {"examples": np.geomspace(40, 1500, 60)},
    noise=0.003,
    x="examples",
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.1, "f1": 0.2, "c1": 0.2},
)

# Slow, fast, slow: a skill that is learnt in the middle of a long range.
TWO_BREAKS = Example(
    law="bnsl",
    options={"breaks": 2},
    truth={"E": 0.3, "A": 12.0, "c0": 0.1, "c1": 0.5, "d1": 1e4, "f1": 0.3, "c2": -0.4, "gap2": 5.7, "f2": 0.3},
    table=lambda _: {"examples": np.geomspace(1e2, 1e9, 80)},
    noise=0.002,
    x="examples",
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.2, "f1": 0.5, "f2": 0.5},
)

# A loss that rises on its way (double descent), so that slopes change sign twice.
THREE_BREAKS = Example(
    law="bnsl",
    options={"breaks": 3},
    truth={
        "E": 0.5,
        "A": 8.0,
        "c0": 0.15,
        "c1": -0.55,
        "d1": 3e3,
        "f1": 0.3,
        "c2": 0.9,
        "gap2": 2.3,
        "f2": 0.3,
        "c3": -0.2,
        "gap3": 5.8,
        "f3": 0.4,
    },
    table=lambda _: {"examples": np.geomspace(1e1, 1e10, 120)},
    noise=0.002,
    x="examples",
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.2, "f1": 0.5, "f2": 0.5, "f3": 1.0},
)

# Fine-tuning losses at data sizes that double, as in Lin et al. 2024, with three seeds.
HESTNESS = Example(
    law="hestness",
    truth={"E": 1.1, "L0": 4.5, "x_half": 7e4, "beta": 0.46},
    table=lambda _: {"examples": np.repeat(200 * 2.0 ** np.arange(16), 3)},
    noise=0.004,
    x="examples",
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.1},
)

EXAMPLES = (FRONTIER, ONE_BREAK, HESTNESS)
MORE_BREAKS = (TWO_BREAKS, THREE_BREAKS)  # seconds for each fit with intervals

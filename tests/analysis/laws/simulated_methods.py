"""Designs and truths for the laws of `analysis.laws.methods`."""

import numpy as np

from tests.analysis.simulate import Example


def _two_parts() -> dict[str, np.ndarray]:
    """Encoder and decoder, each in six sizes."""
    encoder, decoder = np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e6, 1e9, 6))
    return {"n_params_encoder": encoder.ravel(), "n_params_decoder": decoder.ravel()}


BIVARIATE = Example(
    law="bivariate",
    truth={"E": 1.0, "A": 600.0, "p_e": 0.18, "p_d": 0.24},
    table=lambda _: _two_parts(),
    noise=0.003,
    fit={"objective": "lsq_log"},
    tolerance={"default": 0.1, "A": 0.3},
)

# Thirty models over two years, dated from a month in their middle; the density doubles in 3.3 months.
DENSING = Example(
    law="densing",
    truth={"density0": 0.3, "rate": 0.21},
    table=lambda _: {"time": np.linspace(-11.0, 13.0, 30)},
    noise=0.4,
    tolerance={"default": 0.15, "density0": 0.5},
)

EXAMPLES = (BIVARIATE, DENSING)

"""Designs and truths for the laws of mixtures and domains."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.analysis.simulate import Example

DOMAINS = ["w_web", "w_code", "w_books", "w_wiki", "w_papers"]


def _mixtures(n: int, domains: list[str]) -> Any:
    def table(rng: np.random.Generator) -> dict[str, Any]:
        return dict(zip(domains, rng.dirichlet(np.ones(len(domains)), size=n).T, strict=True))

    return table


def _grid(**axes: Any) -> Any:
    def table(_: np.random.Generator) -> dict[str, Any]:
        return {name: values.ravel() for name, values in zip(axes, np.meshgrid(*axes.values()), strict=True)}

    return table


SHARES = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
# Fractions of the parameters in effect, and the multipliers that follow.
FRACTIONS = dict(zip(SHARES, (0.16, 0.25, 0.48, 0.66, 0.81, 0.95, 1.0), strict=True))

EXAMPLES = (
    Example(
        law="mixture_linear",
        truth={"c_w_web": 3.1, "c_w_code": 4.2, "c_w_books": 3.4, "c_w_wiki": 3.6, "c_w_papers": 3.9},
        table=_mixtures(128, DOMAINS),
        noise=0.02,
        options={"weights": DOMAINS},
    ),
    # The loss on code of a small model: its own domain lowers it most, prose raises it.
    Example(
        law="mixture_exponential",
        truth={"c": 1.1, "k": 1.6, "t_w_code": -2.0, "t_w_books": 0.5, "t_w_wiki": -0.4},
        table=_mixtures(192, DOMAINS[:4]),
        noise=0.003,
        options={"weights": DOMAINS[:4], "reference": "w_web"},
    ),
    Example(
        law="d_cpt",
        truth={
            "E": 1.1,
            "A": 180.0,
            "B": 900.0,
            "C": 0.3,
            "alpha": 0.3,
            "beta": 0.35,
            "eta": 0.4,
            "gamma": 0.5,
            "eps": 0.08,
        },
        table=_grid(
            n_params=np.geomspace(1e8, 4e9, 5),
            n_tokens=np.geomspace(2e8, 2.6e10, 10),
            share=np.array([0, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1]),
        ),
        noise=0.001,
    ),
    Example(
        law="multilingual",
        truth={"L_inf": 1.0, "alpha": 0.35}
        | {f"beta_{share:g}": 600 * fraction**-0.35 for share, fraction in FRACTIONS.items()},
        table=_grid(n_params=np.geomspace(2e7, 2e9, 7), share=np.array(SHARES)),
        noise=0.003,
        options={"levels": list(SHARES)},
    ),
)

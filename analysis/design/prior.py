"""What is believed of a law before the runs: its constants, what they may be instead, and the noise.

assumed_prior(law, columns_of(candidates), noise=0.005, seed=0)      from nothing
prior_of_fit(result, noise=None, seed=0)                             from a fit

Shape letters: S values of the constants, P constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fitter.formula import Formula
from analysis.fitter.law import FitResult, Fittable, Law
from analysis.fitter.uncertainty import to_params
from analysis.tables.columns import Array, FitError

DRAWS = 20
SPREAD = 0.2  # by how much an assumed constant may be off, relative
NOISE = 0.005  # standard deviation of ln loss between seeds: what runs of 1e4 to 1e7 parameters show


def single_formula(law: Fittable) -> Law:
    """`single_formula(find_law("chinchilla"))`: the law itself; raises `FitError` for what is no single formula."""
    if law.single is None:
        raise FitError(f"{law.name}: is no single formula; allowed: a law with one, such as chinchilla")
    return law.single


@dataclass(frozen=True)
class Prior:
    """Constants believed before the runs, and draws of what they may be instead.

    Attributes:
        values: each constant, in the units of the table.
        draws: the same, (K,) each.
        fixed: those that the fit will hold.
        noise: standard deviation of ln loss between runs that differ by their seed.
        basis: where all this is from, in words.
    """

    values: dict[str, float]
    draws: dict[str, Array]
    fixed: dict[str, float]
    noise: float
    basis: str


# Shares of a typical small model's loss: at the middle of the candidates the floor, and what size and data lack.
_ASSUMED: dict[str, dict[str, float]] = {
    "chinchilla": {"E": 1.2, "A": 0.4, "B": 0.4, "alpha": 0.4, "beta": 0.4},
    "lr_bowl": {"L0": 2.5, "c": 0.015},
}


def assumed_prior(law: Formula, columns: Mapping[str, Array], noise: float, seed: int) -> Prior:
    """`assumed_prior(law, columns, 0.005, 0).values["alpha"]`: a prior from nothing: constants of small models, ±20 %
    each, a learning rate within a factor 2 of the middle.

    Raises:
        FitError: nothing is assumed of this law.
    """
    if law.name not in _ASSUMED:
        raise FitError(
            f"{law.name}: there is no assumption about its constants; allowed: --fit, --runs or --study, "
            f"or a law of {', '.join(_ASSUMED)}"
        )
    rng = np.random.default_rng(seed)
    middle = {name: float(np.exp(np.log(columns[name]).mean())) for name in law.centred}
    assumed = _ASSUMED[law.name] | ({"m": float(np.log(columns["lr"]).mean())} if law.name == "lr_bowl" else {})
    row = np.array([[assumed[name] for name in law.names]])
    off = rng.uniform(1 - SPREAD, 1 + SPREAD, (DRAWS, len(law.names)))
    draws = row * off
    for k in (k for k, p in enumerate(law.parameters) if p.lower < 0):  # a logarithm, whose zero means nothing
        draws[:, k] = row[0, k] + rng.uniform(-math.log(2), math.log(2), DRAWS)
    plain = _named(law, np.concatenate([row, draws]), middle)
    values = {name: float(v[0]) for name, v in plain.items()}
    return Prior(values, {name: v[1:] for name, v in plain.items()}, {}, noise, "assumed, each constant ±20 %")


def prior_of_fit(result: FitResult, noise: float | None, seed: int) -> Prior:
    """`prior_of_fit(result, None, 0).values["alpha"]`: a prior from a fit: its constants, draws from its
    bootstrap, and the noise that its residuals show.

    Raises:
        FitError: the fit is of a procedure, or its residuals are no logarithms and no noise is given.
    """
    law = result.law
    if law.single is None:
        raise FitError(f"{law.name}: goes in steps, which have no one Jacobian; allowed: a law with a formula")
    if noise is None:
        if not result.objective["name"].endswith("log"):
            raise FitError(
                "--noise: is needed, since the fit's residuals are no logarithms; allowed: its sd of ln loss"
            )
        n_free = len(law.names) - len(result.fixed)
        noise = math.sqrt(float((np.array(result.residuals) ** 2).sum()) / (result.n - n_free))
    if noise <= 0:
        raise FitError("--noise: the fit has no residuals to take it from; allowed: a standard deviation of ln loss")
    rng = np.random.default_rng(seed)
    table = np.array([result.bootstrap["params"][name] for name in law.names], dtype=float).T  # (resamples, P)
    if len(table):
        low, high = np.quantile(table, [0.05, 0.95], axis=0)
        inside = table[((table >= low) & (table <= high)).all(1)]
        table = rng.permutation(inside)[:DRAWS]  # the tails hold resamples that determined nothing
    draws = {name: table[:, k] if len(table) else np.empty(0) for k, name in enumerate(law.names)}
    spread = f"{len(table)} of its resamples" if len(table) else "no resamples"
    return Prior(dict(result.values), draws, dict(result.fixed), noise, f"a fit of {result.n} points, {spread}")


def _named(law: Formula, params_SP: Array, centre: Mapping[str, float]) -> dict[str, Array]:
    """Centred parameters (S, P) in the units of the table, (S,) each."""
    theta = np.array(
        [[math.log(v) if p.log else v for v, p in zip(row, law.parameters, strict=True)] for row in params_SP]
    )
    return {name: values[:, 0] for name, values in to_params(law, theta, centre).items()}

"""Every law there is, by its name, for the command line and the figures. A new one is an entry of `LAWS` in its module;
a new module is a name in `MODULES`.

find_law("bnsl")                       the family of broken laws
get_law("bnsl", {"breaks": 2})         one of them, from its complete options, as `fit.json` holds them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.fitter.law import Fittable, Predictor
from analysis.laws import (
    annealing,
    bowl,
    chinchilla,
    domains,
    envelope,
    isoflop,
    kaplan,
    methods,
    mixtures,
    over_training,
    power,
    precision,
    repetition,
    shifted,
    sparsity,
    tasks,
    tuning,
    unraveling,
    vocabulary,
)
from conf.command_line import pick

MODULES = (
    power,
    shifted,
    chinchilla,
    isoflop,
    envelope,
    kaplan,
    unraveling,
    over_training,
    annealing,
    repetition,
    mixtures,
    domains,
    precision,
    sparsity,
    vocabulary,
    tuning,
    bowl,
    methods,
    tasks,
)

LAWS: dict[str, Fittable] = {law.name: law for module in MODULES for law in module.LAWS}


def find_law(name: str) -> Fittable:
    """`find_law("chinchilla")`: what answers to a name; raises `UserError` naming those that exist."""
    return pick("law", name, LAWS)


def get_law(name: str, options: Mapping[str, Any] | None = None) -> Predictor:
    """`get_law("bnsl", {"breaks": 2})`: the law of that name, built from its complete options."""
    return find_law(name).rebuild(options or {})

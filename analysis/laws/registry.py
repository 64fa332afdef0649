"""Every law there is. A new one is an entry of `LAWS` in its module; a new module is a name in `MODULES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.fitter.law import Family, Law, Procedure
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

LAWS: dict[str, Law | Family | Procedure] = {law.name: law for module in MODULES for law in module.LAWS}


def find_law(name: str) -> Law | Family | Procedure:
    """What answers to a name; raises `UserError` naming those that exist."""
    return pick("law", name, LAWS)


def get_law(name: str, options: Mapping[str, Any] | None = None) -> Law | Procedure:
    """The law or procedure of that name, a family's member being built from its complete options."""
    found = find_law(name)
    return found.build(options or {}) if isinstance(found, Family) else found

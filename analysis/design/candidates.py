"""Runs that the trainer could make: shapes times tokens, or learning rates, each with its size and its price.

grid_of_sizes(setting, (16, 32), 8, (5.0, 200.0), inf)       candidates of two widths, 5 to 200 tokens per parameter
grid_of_rates(setting, 32, 8, 20.0, (1e-3, 1e-1))            of one width, over learning rates
columns_of(candidates)["n_params"]                           what a law reads of them (M,)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.tables.columns import Array, FitError
from conf.config import Config
from models.count import ParamCounts, count_params
from train.timetable.cost import run_cost

# Keys that the plan itself sets, and with which of its options.
PLANNED = {
    "model.width": "--widths or --sizes",
    "model.heads": "--head-dim",
    "model.depth": "--depth",
    "train.duration": "--tokens-per-param",
    "seed": "--seeds",
    "study": "--name",
}

LEVELS = 9  # lengths of training, or sizes, spread evenly in logarithm over what is asked for
LR_STEP = 2**0.25  # between neighbouring learning rates

Cell = dict[str, Any]
Span = tuple[float, float]


@dataclass(frozen=True)
class Candidate:
    """A run that could be made; seeds are chosen later.

    Attributes:
        cell: settings in the trainer's own keys.
        place: its row and column in the full grid of candidates: (size, tokens), or (0, learning rate).
        columns: what a law may read: `n_params`, `n_tokens`, `flops`, `lr`, `batch_tokens`, ….
    """

    cell: Cell
    place: tuple[int, int]
    columns: Mapping[str, float]

    @property
    def flops(self) -> float:
        return self.columns["flops"]


@dataclass(frozen=True)
class Setting:
    """What all candidates share: a base config, the size of its vocabulary, and how parameters are counted.

    Attributes:
        given: the settings that the base config was composed from, which every cell repeats.
        params: `total`, `non_embedding` or `non_vocab`, as in `analysis.tables.runs`.
    """

    base: Config
    given: Cell
    vocab_size: int
    params: str = "total"

    def model(self, width: int, head_dim: int) -> Config:
        """The base config at another width; raises `UserError` for an impossible one."""
        if width % head_dim:
            raise FitError(
                f"--widths: {width} cannot be cut into heads of {head_dim}; allowed: multiples, or another --head-dim"
            )
        model = dataclasses.replace(self.base.model, width=width, heads=width // head_dim)
        return dataclasses.replace(self.base, model=model)

    def counts(self, config: Config) -> ParamCounts:
        return count_params(config.model, vocab_size=self.vocab_size, context=config.data.context)

    def n_params(self, config: Config) -> int:
        """By the chosen convention, which is what the law calls N."""
        count: int = getattr(self.counts(config), self.params)
        return count

    def candidate(self, config: Config, tokens: float, place: tuple[int, int], lr: float | None = None) -> Candidate:
        """A run of about so many tokens, rounded to what its duration says; raises `UserError`."""
        duration = f"{tokens:.3g}tok".replace("e+0", "e").replace("e+", "e")
        optim = config.optim if lr is None else dataclasses.replace(config.optim, lr=float(f"{lr:.4g}"))
        config = dataclasses.replace(config, optim=optim, train=dataclasses.replace(config.train, duration=duration))
        cost, counts = run_cost(config, self.vocab_size), self.counts(config)
        cell = self.given | {
            "model.width": config.model.width,
            "model.depth": config.model.depth,
            "model.heads": config.model.heads,
            "train.duration": duration,
            "optim.lr": config.optim.lr,
        }
        columns = {
            "n_params": self.n_params(config),
            "n_tokens": cost.n_tokens,
            "flops": cost.flops,
            "lr": config.optim.lr,
            "batch_tokens": cost.tokens_per_step,
            "n_params_vocab": counts.vocab,
            "n_params_non_vocab": counts.non_vocab,
            "vocab_size": self.vocab_size,
        }
        return Candidate(cell, place, {name: float(value) for name, value in columns.items()})


def widths_of_sizes(setting: Setting, sizes: Span, head_dim: int) -> list[int]:
    """Widths whose parameters are spread evenly in logarithm over `sizes`, as near as whole heads allow.

    Raises:
        FitError: no width gives a size within the range.
    """
    low, high = sizes
    heads = 1
    counts: dict[int, int] = {}
    while (n := setting.n_params(setting.model(heads * head_dim, head_dim))) <= high:
        counts[heads * head_dim] = n
        heads += 1
    counts = {width: n for width, n in counts.items() if n >= low}
    if not counts:
        raise FitError(
            f"--sizes {low:g}..{high:g}: no width in steps of {head_dim} gives so many parameters; "
            "allowed: a wider range, or a smaller --head-dim"
        )
    asked = np.geomspace(low, high, LEVELS)
    return sorted({min(counts, key=lambda width: abs(math.log(counts[width] / n))) for n in asked})


def grid_of_sizes(
    setting: Setting, widths: Sequence[int], head_dim: int, ratios: Span, most_tokens: float
) -> list[Candidate]:
    """Every width with lengths of training spread evenly in logarithm over `ratios` of tokens per parameter.

    Raises:
        UserError: an impossible width, or a run that is too short.
    """
    candidates = []
    levels = np.geomspace(*ratios, LEVELS) if ratios[1] > ratios[0] else np.array([ratios[0]])
    for row, width in enumerate(sorted(set(widths))):
        config = setting.model(width, head_dim)
        n_params = setting.n_params(config)
        tokens = [n_params * ratio for ratio in levels.tolist()]
        candidates += [setting.candidate(config, n, (row, k)) for k, n in enumerate(tokens) if n <= most_tokens]
    return candidates


def grid_of_rates(setting: Setting, width: int, head_dim: int, ratio: float, lr: Span) -> list[Candidate]:
    """One size and length of training at every learning rate of a fine grid; raises `UserError`."""
    config = setting.model(width, head_dim)
    count = max(2, round(math.log(lr[1] / lr[0]) / math.log(LR_STEP)) + 1)
    tokens = setting.n_params(config) * ratio
    return [setting.candidate(config, tokens, (0, k), rate) for k, rate in enumerate(np.geomspace(*lr, count).tolist())]


def columns_of(candidates: Sequence[Candidate]) -> dict[str, Array]:
    """The columns of a table with a row for each candidate."""
    return {name: np.array([c.columns[name] for c in candidates]) for name in candidates[0].columns}

"""`Config(seed=1)`: all settings of one run, checked when they are made; and what `auto` means on a machine.

Config(model=ModelConfig(width=64, heads=4))      a checked configuration
Config(model=ModelConfig(width=30, heads=4))      ConfigError: one line with the key, the value and what is allowed
resolve(config, cuda=False)                       the same with `auto` replaced by what it means on this machine
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from conf.checks import check
from conf.schema import RUN, Settings


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """All settings of one run. Constructing one checks it, and raises `ConfigError`."""

    def __post_init__(self) -> None:
        check(self)


def resolve(config: Config, *, cuda: bool) -> Config:
    """Replace `auto`, and sizes that follow others, by what they mean here: a record and a run id say what was run.

    Args:
        config: a checked config.
        cuda: whether a GPU can be used; read only where `runtime.device` is `auto`.
    """
    device = config.runtime.device if config.runtime.device != "auto" else ("cuda" if cuda else "cpu")
    precision = config.runtime.precision
    if precision == "auto":
        precision = "bf16" if device == "cuda" else "fp32"
    scale = config.model.attention_scale
    if scale == "auto":
        # Tensor Programs V, definition 4.1: the product of correlated q and k grows like d, not like sqrt(d).
        follows = config.param.scales_everything and config.param.without != "attention_scale"
        scale = "1/d" if follows else "1/sqrt(d)"
    base = RUN.fullmatch(config.grow.base) if config.grow.base else None
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, attention_scale=scale, mlp_hidden=config.model.hidden),
        grow=dataclasses.replace(config.grow, base=base["id"] if base else None),
        runtime=dataclasses.replace(config.runtime, device=device, precision=precision),
    )

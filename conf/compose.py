"""Hydra overrides -> a checked `Config`. The one way in for the trainer, the sweeps and the tests."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.schema import Config, ConfigError

GROUPS = ("data", "model", "param", "optim", "schedule", "probe", "track")


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose the YAML groups with `overrides`, fill in the schema's defaults, and check the whole.

    Args:
        overrides: Hydra's override grammar, e.g. `["model=gpt_1m", "optim.lr=3e-3"]`.

    Raises:
        ConfigError: one line with the key's full path, the value and what is allowed.
    """
    _check_overrides(overrides)
    # As a plain dict; `to_config` checks the types after the composition, in our words.
    ConfigStore.instance().store(name="schema", node=OmegaConf.to_container(_schema()))
    try:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            composed = hydra.compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error
    return to_config(composed)


def to_config(values: DictConfig | dict[str, Any]) -> Config:
    """A mapping with the schema's keys (or fewer) as a checked `Config`; raises `ConfigError`."""
    try:
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(_schema(), values)))  # merges into a copy
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(_type_error(error)) from error


def read_config(path: Path) -> Config:
    """The `Config` that `to_yaml` rendered; raises `ConfigError` if the schema no longer takes it."""
    return to_config(cast(DictConfig, OmegaConf.load(path)))


def to_yaml(config: Config) -> str:
    """Every setting of `config`; `read_config` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


@cache
def _schema() -> DictConfig:
    """The schema with its types and defaults. OmegaConf makes frozen dataclasses read-only, shut to a merge."""
    node = OmegaConf.structured(Config)
    for group in (node, *node.values()):
        if isinstance(group, DictConfig):
            OmegaConf.set_readonly(group, False)
    return cast(DictConfig, node)


def choices(group: str) -> list[str]:
    """The YAML files of a group by name, named sizes (`gpt_10k`, `gpt_1m`) in their order."""

    def by_size(name: str) -> tuple[int, str]:
        size = re.search(r"(\d+)([km])$", name)
        return (int(size[1]) * {"k": 10**3, "m": 10**6}[size[2]] if size else 0), name

    return sorted((path.stem for path in (Path(__file__).parent / group).glob("*.yaml")), key=by_size)


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse unknown keys and choices with what is allowed, which Hydra's own messages leave out."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(_one_line(error)) from error
    for override in parsed:
        key = override.key_or_group
        if override.is_delete() or override.value() == "???":
            raise ConfigError(f"{override.input_line}: a setting cannot be deleted or left open; allowed: key=value")
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: one run takes one value; many runs are `python -m sweeps`")
        if key in GROUPS:
            if override.value() not in choices(key):
                raise ConfigError(f"{key}: {override.value()!r} is not a choice; allowed: {', '.join(choices(key))}")
            continue
        node: Any = _schema()
        path: list[str] = []
        for part in key.split("."):
            if not isinstance(node, DictConfig) or part not in node:
                siblings = [str(name) for name in node] if isinstance(node, DictConfig) else []
                close = difflib.get_close_matches(part, siblings, n=1)
                hint = f"did you mean {'.'.join([*path, close[0]])}?" if close else f"allowed: {', '.join(siblings)}"
                raise ConfigError(f"{key}: unknown key; {hint if siblings else '.'.join(path) + ' is a value'}")
            node = node[part]
            path.append(part)
        if isinstance(node, DictConfig):
            raise ConfigError(f"{key}: is a group; set one of its keys: {', '.join(str(name) for name in node)}")


def _one_line(error: BaseException) -> str:
    logging.getLogger(__name__).debug("composition failed", exc_info=error)
    return re.sub(r"\s+", " ", str(error)).strip()


def _type_error(error: OmegaConfBaseException) -> str:
    """`optim.lr: 'fast' is not a float` from OmegaConf's several lines."""
    message = str(error).splitlines()[0]
    key = error.full_key or ""
    match = re.search(r"Value '(?P<value>.*)' of type '.*' could not be converted to (?P<want>\w+)", message)
    if match:
        return f"{key}: {match['value']!r} is not allowed; allowed: {match['want'].lower()}"
    if "Incompatible value 'None'" in message or "is not Optional" in message:
        return f"{key}: null is not allowed; allowed: a value"
    return f"{key}: {message}" if key else message

"""Hydra overrides -> a checked `Config`. The one way in for the trainer, the sweeps and the tests.

Hydra takes a tenth of a second to compose, and a list of studies composes thousands of runs. So the YAML files that
are chosen are composed once, and the values of one run are put into a copy of their settings. Only what is plain and
correct goes that way; all else, and so every error, is left to Hydra and OmegaConf.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.config import Config
from conf.schema import ConfigError

GROUPS = ("data", "model", "param", "optim", "schedule", "probe", "track")


def compose(overrides: Sequence[str] = ()) -> Config:
    """Compose the YAML groups with `overrides`, fill in the schema's defaults, and check the whole.

    Args:
        overrides: Hydra's override grammar, e.g. `["model=gpt_1m", "optim.lr=3e-3"]`.

    Raises:
        ConfigError: one line with the key's full path, the value and what is allowed.
    """
    overrides = [_as_text(override) for override in overrides]
    return _quickly(overrides) or to_config(_by_hydra(overrides))


def _by_hydra(overrides: Sequence[str]) -> DictConfig:
    _check_overrides(overrides)
    # As a plain dict; `to_config` checks the types after the composition, in our words.
    ConfigStore.instance().store(name="schema", node=OmegaConf.to_container(_schema()))
    try:
        with hydra.initialize_config_module("conf", version_base="1.3"):
            return hydra.compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error


def to_config(values: DictConfig | dict[str, Any]) -> Config:
    """A mapping with the schema's keys (or fewer) as a checked `Config`; raises `ConfigError`."""
    try:
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(_schema(), values)))  # merges into a copy
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ConfigError):
            raise cause from None
        raise ConfigError(_type_error(error)) from error
    except OverflowError:  # a whole number of more than 308 digits
        raise ConfigError(f"{_too_large(values)}: is too large; allowed: a number below 1e308") from None


def _too_large(values: Any, prefix: str = "") -> str:
    """The full path of the first whole number in a mapping that no float can hold."""
    for name, value in values.items():
        if isinstance(value, (dict, DictConfig)):
            if path_of_inner := _too_large(value, f"{prefix}{name}."):
                return path_of_inner
        elif isinstance(value, int) and abs(value) > sys.float_info.max:
            return f"{prefix}{name}"
    return ""


def read_config(path: Path) -> Config:
    """The `Config` that `to_yaml` rendered; raises `ConfigError` if it is none, or the schema no longer takes it."""
    try:
        values = OmegaConf.load(path)
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ConfigError(f"cannot be read ({_one_line(error)})") from error
    return to_config(cast(DictConfig, values))


def to_yaml(config: Config) -> str:
    """Every setting of `config`; `read_config` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))


# --- the short way ---------------------------------------------------------------------------------------


_SCALARS = (int, float, bool, str)


class _NotPlain(Exception):  # noqa: N818  # no error yet: Hydra decides
    """An override that needs Hydra, or that may be a mistake."""


def _quickly(overrides: Sequence[str]) -> Config | None:
    """What `to_config(_by_hydra(overrides))` returns, or None where an override is not plain or something is wrong."""
    chosen: list[str] = []
    values: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    try:
        parsed = {override.key_or_group: override for override in map(_parse, overrides)}
        if len(parsed) < len(overrides):  # the same key twice: for a group an error, for a value the last one counts
            return None
        for key, override in parsed.items():
            if override.type is not OverrideType.CHANGE or override.package is not None:
                return None
            if key in GROUPS:
                chosen.append(cast(str, override.input_line))
            else:
                group, _, name = key.rpartition(".")
                values[group][name] = _plain(key, override.value())
        parts = _chosen(tuple(sorted(chosen))) | values.pop("", {})
        parts |= {group: dataclasses.replace(parts[group], **changes) for group, changes in values.items()}
        return Config(**parts)
    except (_NotPlain, ConfigError, HydraException):
        return None


@lru_cache(maxsize=1024)
def _chosen(choices: tuple[str, ...]) -> dict[str, Any]:
    """The fields of `Config` as these choices of YAML files leave them, not yet checked beside each other."""
    merged = OmegaConf.merge(_schema(), _by_hydra(choices))
    return {
        str(name): OmegaConf.to_object(node) if OmegaConf.is_config(node) else node for name, node in merged.items()
    }


@lru_cache(maxsize=2**16)
def _parse(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


@cache
def _types() -> dict[str, tuple[type, ...]]:
    """What the schema lets each setting be, by its path: `optim.clip` a float or None."""

    types: dict[str, tuple[type, ...]] = {}
    for spec in dataclasses.fields(Config):
        hint = get_type_hints(Config)[spec.name]
        inner = {f"{spec.name}.{name}": h for name, h in get_type_hints(hint).items()} if hint not in _SCALARS else {}
        for path, allowed in (inner or {spec.name: hint}).items():
            types[path] = get_args(allowed) or (allowed,)
    return types


def _plain(key: str, value: Any) -> Any:
    """A value as the schema wants it; raises `_NotPlain` for one that OmegaConf may convert otherwise, or refuse."""
    allowed = _types().get(key, ())
    if type(value) is int and int not in allowed and float in allowed and abs(value) <= 2**53:
        return float(value)
    if type(value) not in allowed or (isinstance(value, str) and ("$" in value or value == "???")):
        raise _NotPlain(key)
    return value


# --- the schema, and errors in our words -----------------------------------------------------------------


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


# Values that Hydra would take for a sweep, or for a number such as 12e34.
_AS_TEXT = {
    "train.keep": r"[\d,\s]*\d[\d,\s]*",
    "grow.pattern": r"[\d,\s]*\d[\d,\s]*",
    "grow.base": r"[0-9a-f]{16}",
}


def _as_text(override: str) -> str:
    key, _, value = override.partition("=")
    plain = re.fullmatch(_AS_TEXT.get(key.lstrip("+"), "(?!)"), value)
    return f"{key}='{value.replace(' ', '')}'" if plain else override


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
            raise ConfigError(
                f"{override.input_line}: one run takes one value; allowed: a text with commas in quotes within quotes, "
                f"\"{key}='a,b'\"; many runs are `python -m sweeps`"
            )
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

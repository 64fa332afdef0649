"""Which runs are the same run.

run_id(resolve(config, cuda=False))     '0f3c…', 16 hexadecimal digits: two configs that measure the same have the same
identity(config)                        {'seed': 0, 'data.source': 'stdlib', …}: what those digits are the hash of
NOT_IDENTITY                            ('study', 'train.micro_batch', …): settings that leave what is measured as it is

The more of a config is in its identity, the fewer runs are found again; what is left out must change no number beyond
the rounding of sums. The kind of a setting decides (`conf.schema.Kind`), and the record stores what was hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from conf.config import Config
from conf.schema import paths, walk

NOT_IDENTITY = paths("progress", "where")


def settings_of(config: Config, *, without: Collection[str]) -> dict[str, Any]:
    """The settings of a config as a cell holds them, by their full paths in the order of the schema, but for some."""
    return {path: value for path, _, value in walk(config) if path not in without}


def identity(config: Config) -> dict[str, Any]:
    """What a run id is the hash of: every setting but those of `NOT_IDENTITY`."""
    return settings_of(config, without=NOT_IDENTITY)


def run_id(config: Config) -> str:
    """16 hexadecimal digits that name what a resolved config (`conf.config.resolve`) measures."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

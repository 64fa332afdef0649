"""Every setting of a run: its default, its meaning and its range; and what a run's identity is made of.

The YAML files beside this module only say what differs from the defaults here. Constructing a `Config` checks it
(`conf.checks`): a `ConfigError` is one line that names the key's full path, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from conf.config import Config
from conf.schema import walk

# Keys that cannot change what a run measures beyond the rounding of sums; `conf.identity.run_id` leaves them out.
NOT_IDENTITY = (
    "study",
    "track",
    "train.micro_batch",
    "train.checkpoint_every",
    "train.keep",
    "eval.batch_size",
    "runtime.device",
    "runtime.threads",
    "runtime.compile",
    "runtime.progress",
    "runtime.runs_dir",
    "runtime.cache_dir",
)


def settings_of(config: Config, *, without: Collection[str]) -> dict[str, Any]:
    """The settings of a config as a cell holds them, by their full paths in the order of the schema, but for some.

    Args:
        without: full paths, and names of groups for all their settings.
    """
    return {
        path: value for path, _, value in walk(config) if path not in without and path.partition(".")[0] not in without
    }


def identity(config: Config) -> dict[str, Any]:
    """What a run id is the hash of: every setting but those of `NOT_IDENTITY`."""
    return settings_of(config, without=NOT_IDENTITY)


def run_id(config: Config) -> str:
    """16 hexadecimal digits that name what a resolved config (`conf.config.resolve`) measures."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Every setting of a run: its default, its meaning and its range; and what a run's identity is made of.

The YAML files beside this module only say what differs from the defaults here. Constructing a `Config` checks it
(`conf.checks`): a `ConfigError` is one line that names the key's full path, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
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


def identity(config: Config) -> dict[str, Any]:
    """What a run id is the hash of: every setting but those of `conf.identity.NOT_IDENTITY`."""
    return {
        path: value
        for path, _, value in walk(config)
        if not any(path == key or path.startswith(f"{key}.") for key in NOT_IDENTITY)
    }


def run_id(config: Config) -> str:
    """16 hexadecimal digits that name what a resolved config (`conf.config.resolve`) measures."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

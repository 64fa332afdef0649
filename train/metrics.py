"""What a row of metrics may hold: each metric's name, unit, reduction and cadence, declared here and nowhere else.

Under several processes the probes are the leading one's, on its own windows. `{l}` stands for a block's index from 0,
`{role}` for a role of `models.roles`. A probe measures with the weights that gave the row's `train_loss`, before the
step's update.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

Cadence = Literal["log", "eval", "probe"]


@dataclass(frozen=True)
class Metric:
    """A declared metric."""

    name: str
    unit: str
    reduction: str
    cadence: Cadence
    doc: str


METRICS = (
    Metric("step", "steps", "none", "log", "updates done"),
    Metric("tokens", "tokens", "none", "log", "tokens trained on"),
    Metric("flops", "FLOPs", "none", "log", "spent on training, matmuls only, inherited ones included"),
    Metric("lr", "1", "none", "log", "base learning rate of this step"),
    Metric("train_loss", "nats/token", "mean over the batch", "log", "cross-entropy, without z-loss"),
    Metric("grad_norm", "1", "2-norm over all parameters", "log", "before clipping"),
    Metric("val_loss", "nats/token", "mean over validation windows", "eval", "cross-entropy"),
    Metric("val_loss_se", "nats/token", "standard error over windows", "eval", "of val_loss"),
    Metric("block{l}/attention_logit_max", "1", "max", "probe", "largest attention logit, after scaling"),
    Metric("block{l}/attention_entropy", "nats", "mean", "probe", "entropy of the attention weights"),
    Metric("block{l}/query_rms", "1", "root mean square", "probe", "queries as they enter the product"),
    Metric("block{l}/key_rms", "1", "root mean square", "probe", "keys as they enter the product"),
    Metric("block{l}/output_rms", "1", "root mean square", "probe", "residual stream after the block"),
    Metric("log_z_mean", "nats", "mean", "probe", "log-sum-exp of the output logits"),
    Metric("logit_mean", "1", "mean", "probe", "output logits"),
    Metric("{role}/gradient_rms", "1", "root mean square", "probe", "gradients before clipping"),
    Metric("{role}/parameter_rms", "1", "root mean square", "probe", "weights before the update"),
    Metric("{role}/update_rms", "1", "root mean square", "probe", "change of the weights, decay included"),
)


@cache
def _declared(name: str) -> bool:
    patterns = (re.escape(m.name).replace(r"\{l\}", r"\d+").replace(r"\{role\}", r"[a-z_]+") for m in METRICS)
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def check_declared(names: Iterable[str]) -> None:
    """Raises `KeyError` for a name that `METRICS` does not declare."""
    for name in names:
        if not _declared(name):
            raise KeyError(f"{name}: a metric that train/metrics.py does not declare")

"""What a row of metrics may hold: each metric's name, unit, reduction and cadence, declared here and nowhere else.

Under several processes the probes are the leading one's, on its own windows. `{l}` stands for a block's index from 0,
`{n}` for a number of blocks, `{role}` for a role of `models.roles`, `{tensor}` for a matrix or table: `block{l}/query`
(key, value, out, gate, up, down), `tokens` or `readout`. A probe measures with the weights that gave the row's
`train_loss`, before the step's update.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Row = dict[str, Any]
"""A row of metrics: what was measured at one step, by name; a loss may still be a tensor."""

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
    Metric("embedding_abs", "1", "mean of |x|", "probe", "residual stream before the first block"),
    Metric("block{l}/attention_logit_max", "1", "max", "probe", "largest attention logit, after scaling"),
    Metric("block{l}/attention_entropy", "nats", "mean", "probe", "entropy of the attention weights"),
    Metric("block{l}/query_rms", "1", "root mean square", "probe", "queries as they enter the product"),
    Metric("block{l}/key_rms", "1", "root mean square", "probe", "keys as they enter the product"),
    Metric("block{l}/qk_cosine", "1", "max", "probe", "cosine of a query and a key that it may attend to"),
    Metric("block{l}/attention_abs", "1", "mean of |x|", "probe", "attention branch, before the residual multiplier"),
    Metric("block{l}/mlp_abs", "1", "mean of |x|", "probe", "MLP branch, before the residual multiplier"),
    Metric("block{l}/output_abs", "1", "mean of |x|", "probe", "residual stream after the block"),
    Metric("block{l}/output_rms", "1", "root mean square", "probe", "residual stream after the block"),
    Metric("block{l}/output_variance", "1", "variance over features, mean over tokens", "probe", "after the block"),
    Metric("block{l}/gradient_norm", "1", "2-norm over the block's parameters", "probe", "gradients before clipping"),
    Metric("log_z_mean", "nats", "mean", "probe", "log-sum-exp of the output logits"),
    Metric("logit_mean", "1", "mean", "probe", "output logits"),
    Metric("logits_abs", "1", "mean of |x|", "probe", "output logits"),
    Metric("{role}/gradient_rms", "1", "root mean square", "probe", "gradients before clipping"),
    Metric("{role}/parameter_rms", "1", "root mean square", "probe", "weights before the update"),
    Metric("{role}/update_rms", "1", "root mean square", "probe", "change of the weights, decay included"),
    Metric("{tensor}/gradient_rms", "1", "root mean square", "probe", "gradient before clipping"),
    Metric("{tensor}/adam_rms", "1", "root mean square", "probe", "m / (sqrt(v) + eps), both debiased"),
    Metric("{tensor}/staleness", "1", "root mean square", "probe", "clipped gradient / sqrt(v), v debiased"),
    Metric("block{l}/removal_loss", "nats/token", "mean over validation windows", "eval", "rise without the block"),
    Metric("angle/{l}/{n}", "pi", "mean over tokens", "eval", "between the inputs of blocks l and l + n"),
)


def block_name(layer: int) -> str:
    """What names of metrics call the block at this place in the depth, from 0."""
    return f"block{layer}"


MATRIX_NAME = r"(?:block\d+/(?:query|key|value|out|gate|up|down)|readout)"
"""A regular expression for the names of all matrices; a table of tokens has rows without gradient, and is none."""

TABLE_NAME = "tokens"

_PLACEHOLDERS = {
    r"\{l\}": r"\d+",
    r"\{n\}": r"[1-9]\d*",
    r"\{role\}": r"[a-z_]+",
    r"\{tensor\}": rf"(?:{MATRIX_NAME}|{TABLE_NAME})",
}


@cache
def _declared(name: str) -> bool:
    for metric in METRICS:
        pattern = re.escape(metric.name)
        for placeholder, allowed in _PLACEHOLDERS.items():
            pattern = pattern.replace(placeholder, allowed)
        if re.fullmatch(pattern, name):
            return True
    return False


def check_declared(names: Iterable[str]) -> None:
    """Raises `KeyError` for a name that `METRICS` does not declare."""
    for name in names:
        if not _declared(name):
            raise KeyError(f"{name}: a metric that `train.record.metrics` does not declare")

"""How much memory a run takes, by a rule of thumb, and how many sequences fit into it. No torch.

activation_bytes(model, vocab_size=257, context=128)                       what backward keeps of one sequence
auto_micro_batch(32, bytes_per_sequence=5e6, budget_bytes=1e9)             32: all at once
state_bytes(n_params=100_000)                                              1.6 MB of weights, gradients and moments

`train.measure.memory` measures what the first of them estimates.
"""

from __future__ import annotations

from conf.schema import ModelConfig

ACTIVATION_SHARE = 1 / 8
"""The share of the memory that activations may take: several runs share a machine, and a GPU."""

_BYTES = 4  # of a number in fp32


def activation_bytes(model: ModelConfig, *, vocab_size: int, context: int) -> int:
    """Bytes that backward keeps of one sequence: about 12 streams and 3 MLP layers per block, 4 copies of the logits,
    and of the attention logits too where no fused kernel takes care of them."""
    scores = 0 if model.attention_softcap is None else 4 * model.heads * context
    if model.param_tokens is not None:
        scores += 3 * 4 * model.param_tokens
    per_token = model.depth * (12 * model.width + 3 * model.hidden + scores) + 4 * vocab_size
    return _BYTES * per_token * context


def state_bytes(n_params: int) -> int:
    """Bytes of the weights, their gradients and AdamW's two moments."""
    return 4 * _BYTES * n_params


def auto_micro_batch(batch_size: int, bytes_per_sequence: float, budget_bytes: float) -> int:
    """The largest divisor of `batch_size` whose activations fit into the budget; 1 if none does."""
    fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0 and n * bytes_per_sequence <= budget_bytes]
    return max(fitting, default=1)

"""The training recipe that the studies of norm placement share.

LLaMA's blocks, as in all three papers: RMSNorm, SwiGLU, RoPE, untied readout, no biases, no QK-norm; every matrix from
one normal distribution whatever its shape; Adam; warm-up, then a cosine to a tenth of the peak. The papers train on web
text with 32,000 tokens and more; here it is the standard library's source as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings


@dataclass(frozen=True)
class Scale:
    """What one profile trains: a width at some depths, how long and on what, and how often blocks are probed."""

    width: int
    heads: int
    depths: tuple[int, ...]
    context: int
    batch: int
    steps: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    val_windows: int
    probe_every: str


def recipe(scale: Scale) -> Settings:
    """What every run at this scale has, but its placement, depth, learning rate and seed."""
    return {
        "data": "stdlib",
        "data.context": scale.context,
        "model.width": scale.width,
        "model.heads": scale.heads,
        "model.norm": "rmsnorm",
        "model.activation": "swiglu",
        "param.init": "constant",
        "param.readout_scale": 1.0,
        "optim.weight_decay": 0.0,
        "schedule": "cosine",
        "schedule.warmup": "10%",
        "schedule.floor": 0.1,
        "train.batch_size": scale.batch,
        "train.duration": f"{scale.steps}steps",
        "train.checkpoint_every": "100%",
        "eval.every": "100%",
        "eval.sequences": scale.val_windows,
        "probe.every": scale.probe_every,
        "probe.sequences": 4,
    }

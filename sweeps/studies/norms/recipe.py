"""The training recipe that the studies of norm placement share.

LLaMA's blocks, as in all three papers: RMSNorm, SwiGLU, RoPE, untied readout, no biases, no QK-norm; every matrix from
one normal distribution whatever its shape; Adam; warm-up, then a cosine to a tenth of the peak. The papers train on web
text with 32,000 tokens and more; here it is the standard library's source as bytes.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint
from sweeps.studies.scale import Scale


def recipe(scale: Scale) -> GridPoint:
    """What every run at this scale has, but its placement, depth, learning rate and seed."""
    return (
        scale.training()
        | scale.wide(scale.widths[0])
        | {
            "model.norm": "rmsnorm",
            "model.activation": "swiglu",
            "param.init": "constant",
            "param.readout_scale": 1.0,
            "optim.weight_decay": 0.0,
            "schedule": "cosine",
            "schedule.warmup": "10%",
            "schedule.floor": 0.1,
        }
    )

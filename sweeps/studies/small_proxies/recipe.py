"""The training recipe that the studies share, at three scales, and its grid of learning rates.

Section 2.1 of Wortsman et al. 2023 (arXiv 2309.14322): pre-LN with LayerNorm, RoPE, GELU, QK-norm, untied readout at
the scale of a matrix, AdamW (0.9, 0.95), clipping at 1, z-loss 1e-4, independent weight decay 1e-4, warm-up over 5 %
of the steps, cosine to an absolute 1e-5. There 256 sequences of 512 tokens of C4 for 1e5 steps, and sizes from 2.4M to
4.8B with depth, width and heads scaled together; here the standard library's source as bytes, and what the hardware
allows. The window of learning rates leaves out 3e-4 at `cpu`, where so few steps learn little at that rate.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product, zipped
from train.record.manifest import Profile


@dataclass(frozen=True)
class Scale:
    """Sizes as (width, depth), and how long and on what each is trained."""

    sizes: tuple[tuple[int, int], ...]
    head_dim: int
    steps: int
    context: int
    batch: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    val_windows: int
    probe_every: str = "4%"


MORE_SEEDS = (0, 1, 2, 3, 4)

SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        sizes=((16, 1), (32, 1)),
        head_dim=16,
        steps=20,
        context=16,
        batch=4,
        lrs=(1e-3, 1e-2, 1e-1),
        seeds=(0, 1),
        val_windows=16,
        probe_every="20%",
    ),
    "cpu": Scale(
        sizes=((32, 2), (64, 3), (96, 3)),
        head_dim=32,
        steps=250,
        context=64,
        batch=16,
        lrs=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
        seeds=(0, 1, 2),
        val_windows=256,
    ),
    "gpu": Scale(
        sizes=((128, 3), (256, 3), (512, 6)),
        head_dim=64,
        steps=1000,
        context=256,
        batch=16,
        lrs=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
        seeds=(0, 1, 2),
        val_windows=512,
    ),
}


def recipe(profile: Profile) -> Settings:
    """What every run of these studies has, but its size, learning rate and seed."""
    scale = SCALES[profile]
    return {
        "data": "stdlib",
        "data.context": scale.context,
        "model.norm": "layernorm",
        "model.qk_norm": "head",
        "param.readout_scale": 1.0,
        "optim.z_loss": 1e-4,
        "optim.weight_decay": 1e-4,
        "optim.decay": "independent",
        "schedule": "cosine",
        "schedule.warmup": "5%",
        "schedule.floor": 1e-5,
        "schedule.floor_is": "absolute",
        "train.batch_size": scale.batch,
        "train.duration": f"{scale.steps}steps",
        "train.checkpoint_every": "100%",
        "eval.every": "100%",
        "eval.sequences": scale.val_windows,
        "probe.every": scale.probe_every,
        "probe.sequences": 4,
    }


def sizes(profile: Profile, *, most: int | None = None) -> list[Settings]:
    """The sizes, smallest first; only the first `most` of them on request."""
    return [size(profile, width, depth) for width, depth in SCALES[profile].sizes[:most]]


def size(profile: Profile, width: int, depth: int) -> Settings:
    """A model of this width and depth, with heads of the scale's dimension."""
    heads = max(1, width // SCALES[profile].head_dim)
    return {"model.width": width, "model.depth": depth, "model.heads": heads}


def lrs(profile: Profile) -> list[Settings]:
    """The grid of peak learning rates."""
    return zipped({"optim.lr": SCALES[profile].lrs})


def seeds(profile: Profile, *, more: bool = False) -> list[Settings]:
    """The seeds; every setting has the same ones, so that arms are compared by pairs. `more` of them at `cpu`, for
    studies of few sizes whose effects are as small as the noise of three."""
    return product({"seed": MORE_SEEDS if more and profile == "cpu" else SCALES[profile].seeds})


def lr_sweep(
    profile: Profile, arms: list[Settings], *, most_sizes: int | None = None, more_seeds: bool = False
) -> list[Settings]:
    """Arms times sizes times learning rates times seeds; an arm's settings replace the recipe's."""
    grid = cross(sizes(profile, most=most_sizes), lrs(profile), seeds(profile, more=more_seeds))
    return [recipe(profile) | cell | arm for arm in arms for cell in grid]

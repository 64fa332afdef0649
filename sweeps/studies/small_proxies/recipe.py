"""The training recipe that the studies share, at three scales, and its grid of learning rates.

Section 2.1 of Wortsman et al. 2023 (arXiv 2309.14322): pre-LN with LayerNorm, RoPE, GELU, QK-norm, untied readout at
the scale of a matrix, AdamW (0.9, 0.95), clipping at 1, z-loss 1e-4, independent weight decay 1e-4, warm-up over 5 %
of the steps, cosine to an absolute 1e-5. There 256 sequences of 512 tokens of C4 for 1e5 steps, and sizes from 2.4M to
4.8B with depth, width and heads scaled together; here the standard library's source as bytes, and what the hardware
allows. The window of learning rates leaves out 3e-4 at `cpu`, where so few steps learn little at that rate.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, under, zipped
from sweeps.studies.scale import scales
from train.record.manifest import Profile

# A width goes with the depth below it.
SCALES = scales(
    widths=((16, 32), (32, 64, 96), (128, 256, 512)),
    depths=((1, 1), (2, 3, 3), (3, 3, 6)),
    head_dim=(16, 32, 64),
    context=(16, 64, 256),
    batch=(4, 16, 16),
    steps=(20, 250, 1000),
    lrs=((1e-3, 1e-2, 1e-1), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    seeds=(2, 3, 3),
    val_windows=(16, 256, 512),
    probe_every=("20%", "4%", "4%"),
)


def recipe(profile: Profile) -> GridPoint:
    """What every run of these studies has, but its size, learning rate and seed."""
    return SCALES[profile].training() | {
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
    }


def sizes(profile: Profile, *, most: int | None = None) -> list[GridPoint]:
    """The sizes, smallest first; only the first `most` of them on request."""
    scale = SCALES[profile]
    return [scale.model(width, depth) for width, depth in zip(scale.widths, scale.depths, strict=True)][:most]


def models(profile: Profile, *shapes: tuple[int, int]) -> list[GridPoint]:
    """Models of these widths and depths, with heads of the recipe's dimension."""
    return [SCALES[profile].model(*shape) for shape in shapes]


def seeds(profile: Profile, *, more: bool = False) -> list[GridPoint]:
    """The recipe's, or five of them at `cpu`, for studies of few sizes whose effects are as small as the noise of
    three."""
    return zipped({"seed": range(5)}) if more and profile == "cpu" else SCALES[profile].each_seed()


def runs(profile: Profile, arms: list[GridPoint], *grids: list[GridPoint]) -> list[GridPoint]:
    """Arms times grids; an arm's settings replace the recipe's."""
    return [recipe(profile) | cell for cell in under(arms, cross(*grids))]


def lr_sweep(
    profile: Profile,
    arms: list[GridPoint],
    *,
    most_sizes: int | None = None,
    more_seeds: bool = False,
    lowest: float = 0.0,
) -> list[GridPoint]:
    """Arms times sizes times learning rates, from the `lowest` on, times seeds."""
    rates = SCALES[profile].rates(lowest)
    return runs(profile, arms, sizes(profile, most=most_sizes), rates, seeds(profile, more=more_seeds))

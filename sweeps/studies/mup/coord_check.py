"""Coordinate check: the size of every activation over the first steps, against width and against depth.

Under muP the coordinates of every module stay of one size as the width grows, and under the standard parametrisation
they grow from the first update on (Yang et al. 2022, arXiv 2203.03466, appendix D.1; Dey et al. 2024, nanoGPT-mup,
whose settings these are: two blocks, a deliberately large learning rate of 1e-2, constant, no decay). Models of all
widths see the same batches. Each rule of muP is then switched off alone (`param.without`): a check that passes without
a rule would say nothing about it. Theory says which module breaks, by which power of the width d, and when
(`analysis.figures.mup.coord_check.CONTROLS`). Two of the rules are about the dimension of a head, and matter only where
it grows: their runs, and the muP that they are compared with, have one head.

Depth (Dey et al. 2025, arXiv 2505.01618, figure 7): with residual branches times m_L^-alpha the stream after the last
block is free of depth at alpha = 1 (CompleteP) and 1/2 (depth-muP); with none (muP, alpha = 0) it grows as L^1/2 at
initialisation, and its change as L. The embedding has unit variance there: at alpha = 1 the branches' part of the
stream vanishes like L^-1/2, and an embedding of 1/sqrt(width) would leave too little beside it for a flat line at L =
2.

What the `cpu` profile found (widths 32 to 512, depths 2 to 32, three seeds, 95 % intervals): after seven updates
attention and MLP outputs have a slope of 1.46 (1.2 to 1.7) under the standard parametrisation, and the steepest of any
module and update is 0.06 (0.03 to 0.10) under muP and CompleteP. Each rule that is off shows in the module and with the
sign that theory names, at initialisation to 0.02 of its exponent. After updates two fall short of it: logits without
`readout_lr` have a slope of 0.57 (0.54 to 0.60) for 1, since seven updates add up in step only partly, and the largest
attention logit without `attention_scale` one of 0.37 (0.21 to 0.53) for 0.5. Over depth muP's stream grows as L^1.05,
CompleteP's and depth-muP's fall slightly, as L^-0.10 and L^-0.06.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from train.record.manifest import Profile

ARMS: tuple[Settings, ...] = ({"param": "standard"}, {"param": "mup"}, {"param": "completep"})
RULES: tuple[Settings, ...] = tuple(
    {"param": "mup", "param.without": rule}
    for rule in ("hidden_lr", "hidden_init", "readout_init", "readout_lr", "embedding_std")
)
HEAD_RULES: tuple[Settings, ...] = tuple(
    {"param": "mup", "param.without": rule, "model.heads": 1} for rule in ("none", "attention_scale", "query_init")
)
# muP has no rule for the depth: its learning rate is that of CompleteP, and its branches are not scaled.
DEPTH_ARMS: tuple[Settings, ...] = (
    {"param": "mup"},
    {"param": "completep", "param.depth_alpha": 0.5},
    {"param": "completep"},
    {"param": "completep", "param.without": "residual_multiplier"},
)


@dataclass(frozen=True)
class Scale:
    """Widths from the base width on at `DEPTH` blocks, and depths from the base depth on at one width; muP without a
    rule, or beside it, and the parametrisations that are compared over the depth."""

    widths: tuple[int, ...]
    head_dim: int
    depths: tuple[int, ...]
    deep_width: int
    steps: int
    batch: int
    context: int
    seeds: tuple[int, ...]
    controls: tuple[Settings, ...] = (*RULES, *HEAD_RULES)
    depth_arms: tuple[Settings, ...] = DEPTH_ARMS


DEPTH = 2
SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        widths=(8, 32),
        head_dim=4,
        depths=(2, 8),
        deep_width=16,
        steps=4,
        batch=4,
        context=16,
        seeds=(0, 1),
        controls=RULES[:2],
        depth_arms=DEPTH_ARMS[::2],
    ),
    "cpu": Scale(
        widths=(32, 64, 128, 256, 512),
        head_dim=16,
        depths=(2, 4, 8, 16, 32),
        deep_width=64,
        steps=8,
        batch=8,
        context=64,
        seeds=(0, 1, 2),
    ),
    "gpu": Scale(
        widths=(128, 512, 2048),
        head_dim=64,
        depths=(2, 8, 32),
        deep_width=256,
        steps=11,
        batch=8,
        context=1024,
        seeds=(0, 1, 2),
    ),
}


def few_steps(*, steps: int, batch: int, context: int) -> Settings:
    """What every run of a coordinate check has: few steps at a large rate, all of them probed."""
    return {
        "data": "stdlib",
        "data.context": context,
        "param.base_depth": DEPTH,
        "param.readout_scale": 1.0,
        "optim.lr": 1e-2,
        "optim.weight_decay": 0.0,
        "optim.clip": None,
        "schedule": "constant",
        "schedule.warmup": "0steps",
        "train.batch_size": batch,
        "train.duration": f"{steps}steps",
        "train.checkpoint_every": "100%",
        "train.diverged_above": 1e3,  # a run that blows up is what the check is to show
        "eval.every": "100%",
        "eval.sequences": 2,
        "probe.every": "1steps",
        "probe.sequences": batch,
    }


def widths_from(base: int, widths: tuple[int, ...], head_dim: int) -> list[Settings]:
    """Models of `DEPTH` blocks with heads of one dimension."""
    return [
        {"model.width": width, "model.heads": width // head_dim, "model.depth": DEPTH, "param.base_width": base}
        for width in widths
    ]


def coord_check(profile: Profile) -> list[Settings]:
    """Widths, rules switched off, and depths; every run is a few steps long and probes each of them."""
    scale = SCALES[profile]
    common = few_steps(steps=scale.steps, batch=scale.batch, context=scale.context)
    seeds = product({"seed": scale.seeds})
    widths = widths_from(scale.widths[0], scale.widths, scale.head_dim)
    deep: Settings = {
        "model.width": scale.deep_width,
        "model.heads": scale.deep_width // scale.head_dim,
        "param.base_width": scale.deep_width,
        "param.embedding_std": 1.0,
    }
    depths: list[Settings] = [deep | {"model.depth": depth} for depth in scale.depths]
    grids = [((*ARMS, *scale.controls), widths), (scale.depth_arms, depths)]
    return [common | cell | arm for arms, cells in grids for arm in arms for cell in cross(cells, seeds)]


STUDIES = (
    Study(
        name="mup/coord_check",
        claim="Activations keep their size over width under muP, and over depth under CompleteP, rule by rule.",
        cells=coord_check,
    ),
)

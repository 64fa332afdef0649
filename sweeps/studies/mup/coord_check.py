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

Where a rule that is off falls short of its exponent at `cpu`: seven updates add up in step only partly, which logits
without `readout_lr` need, and the largest attention logit without `attention_scale`.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, under
from sweeps.cells.study import Study
from sweeps.studies.mup.recipe import each_width, few_steps
from sweeps.studies.scale import scales
from train.record.manifest import Profile

ARMS: list[GridPoint] = [{"param": "standard"}, {"param": "mup"}, {"param": "completep"}]
RULES: list[GridPoint] = [
    {"param": "mup", "param.without": rule}
    for rule in ("hidden_lr", "hidden_init", "readout_init", "readout_lr", "embedding_std")
]
HEAD_RULES: list[GridPoint] = [
    {"param": "mup", "param.without": rule, "model.heads": 1} for rule in ("none", "attention_scale", "query_init")
]
# muP has no rule for the depth: its learning rate is that of CompleteP, and its branches are not scaled.
DEPTH_ARMS: list[GridPoint] = [
    {"param": "mup"},
    {"param": "completep", "param.depth_alpha": 0.5},
    {"param": "completep"},
    {"param": "completep", "param.without": "residual_multiplier"},
]

SCALES = scales(
    widths=((8, 32), (32, 64, 128, 256, 512), (128, 512, 2048)),
    depths=((2, 8), (2, 4, 8, 16, 32), (2, 8, 32)),
    head_dim=(4, 16, 64),
    context=(16, 64, 1024),
    batch=(4, 8, 8),
    steps=(4, 8, 11),
    lrs=((1e-2,), (1e-2,), (1e-2,)),
    seeds=(2, 3, 3),
    val_windows=(2, 2, 2),
)


def cells(profile: Profile) -> list[GridPoint]:
    """Widths, rules switched off, and depths at twice the base width; every step is probed."""
    scale = SCALES[profile]
    smoke = profile == "smoke"
    width = 2 * scale.widths[0]
    unit: GridPoint = {"param.base_width": width, "param.embedding_std": 1.0}
    depths = [scale.model(width, depth) | unit for depth in scale.depths]
    over_widths = [*ARMS, *(RULES[:2] if smoke else [*RULES, *HEAD_RULES])]
    return [
        few_steps(scale) | cell
        for arms, models in ((over_widths, each_width(scale)), (DEPTH_ARMS[:: 2 if smoke else 1], depths))
        for cell in under(arms, cross(models, scale.each_seed()))
    ]


STUDY = Study(
    claim="Activations keep their size over width under muP, and over depth under CompleteP, rule by rule.", cells=cells
)

"""Warning signs: ways in which muP fails silently, and what shows each of them before a sweep is spent on it.

A warning sign is a number of the first steps, drawn against width, that differs in a sick set-up from that of a healthy
one; a loss at the base width says nothing, where all rules are 1. Each sick arm has its healthy twin:

- `updates`: the scheduler writes one rate into all groups of the optimiser, and the hidden matrices lose their 1/m.
  Their updates do not shrink with the width (Yang et al. 2022, arXiv 2203.03466, table 3). Twin: muP.
- `readout`: the readout learns like the embedding, as a tied one does without its multiplier. The logits grow with the
  width (ibid., table 3, output weights). Twin: muP.
- `attention`: heads grow with the width, and attention is scaled by 1/d^1/2. Attention logits grow (ibid., definition
  4.1), already by the first update; later ones scatter their maximum more than the width does. Twin: muP with 1/d.
- `epsilon`: gradients of hidden matrices fall as 1/m, Adam's epsilon does not, and where they meet Adam's direction
  shrinks (Dey et al. 2025, arXiv 2505.01618, table 1; Wortsman et al. 2023, arXiv 2309.14322, section 3.4). An epsilon
  of 1e-3 stands for what 1e-8 does at a width that is out of reach here. Twin: CompleteP, which divides it by m.
- `decay`: PyTorch's coupled decay multiplies it by the learning rate, whose 1/m then makes the decay fall with the
  width; the weights of the wide model shrink less. The rule is lambda m (the `mup` package; Dey et al. 2025, table 1).
  The sick arm undoes it with a decay of lambda / m, which also takes it from the embedding. lambda = 10 in 8 steps
  stands for 0.1 in 800. Twin: coupled decay with lambda m.
- `horizon`: the proxy is trained for too few steps. muP says nothing about them, and the best rate of the base model
  itself falls with the length of training (Bjorck et al. 2024, arXiv 2409.19913). No twin: a transfer needs it
  constant.

Left out: a base width too small for the law of large numbers, which takes transfers from several bases to show, and a
readout tied to the embedding but scaled as a hidden matrix, which no setting of the trainer can make.

That a best rate falls with the length of training is not seen between the lengths of `cpu`; the other five signs are
plain within eight steps.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, product, under
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen
from sweeps.studies.mup.recipe import DEPTH, each_width, few_steps, powers_of_two
from sweeps.studies.scale import scales
from train.record.manifest import Profile

SCALES = scales(
    widths=((8, 32), (32, 64, 128, 256), (128, 512, 2048)),
    depths=((DEPTH,), (DEPTH,), (DEPTH,)),
    head_dim=(4, 16, 64),
    context=(16, 64, 256),
    batch=(4, 8, 16),
    steps=(4, 8, 11),
    lrs=(powers_of_two(-9, -3, 3), powers_of_two(*range(-8, -1)), powers_of_two(*range(-10, -5))),
    seeds=(2, 3, 3),
    val_windows=(16, 256, 512),
)
LENGTHS: dict[Profile, tuple[int, ...]] = {"smoke": (4, 12), "cpu": (50, 200, 800), "gpu": (100, 400)}
EPSILON = 1e-3
DECAY = 10.0

ARMS: list[GridPoint] = [
    {"param": "mup"},
    {"param": "mup", "param.without": "hidden_lr"},
    {"param": "mup", "param.without": "readout_lr"},
    {"param": "mup", "model.heads": 1},
    {"param": "mup", "model.heads": 1, "param.without": "attention_scale"},
    {"param": "mup", "optim.eps": EPSILON},
    {"param": "completep", "optim.eps": EPSILON},
    {"param": "mup", "optim.decay": "coupled", "optim.weight_decay": DECAY},
]
TRAINED: GridPoint = {
    "param": "mup",
    "optim.clip": 1.0,
    "schedule": "linear",
    "schedule.warmup": "10%",
    "train.diverged_above": 3.0,
    "probe.every": None,
}


def cells(profile: Profile) -> list[GridPoint]:
    """Every arm over the widths, the decay that forgets m, and the base model over lengths of training at each rate."""
    scale = SCALES[profile]
    base, *wider = each_width(scale)
    forgetful: list[GridPoint] = [  # at the base width nothing is forgotten
        {"param": "mup", "optim.decay": "coupled", "optim.weight_decay": DECAY * scale.widths[0] / width}
        for width in scale.widths[1:]
    ]
    decaying = [model | decay for model, decay in zip(wider, forgetful, strict=True)]
    trained = base | TRAINED | {"eval.sequences": scale.val_windows}
    lengths = product({"train.duration": [f"{steps}steps" for steps in LENGTHS[profile]]})
    grid = [
        *under(ARMS, cross([base, *wider], scale.each_seed())),
        *cross(decaying, scale.each_seed()),
        *cross([trained], lengths, scale.rates(), scale.each_seed()),
    ]
    return [few_steps(scale) | cell for cell in grid]


STUDY = Study(
    claim="What silently breaks muP shows in a number of its first steps, drawn against width.",
    cells=cells,
    widen=Widen(key="optim.lr", at_most=3),
)

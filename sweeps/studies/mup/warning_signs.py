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

What the `cpu` profile found (widths 32 to 256, three seeds): five of the six signs are plain within eight steps, with
slopes that differ from the healthy run's by 0.3 to 0.9 and intervals of 0.1 or less. The sixth, a best rate that falls
with the length of training, is not there between 50 and 800 steps: -0.06 per doubling (-0.23 to 0.11).

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.cells.widen import Widen
from sweeps.studies.mup.coord_check import few_steps, widths_from
from train.record.manifest import Profile


@dataclass(frozen=True)
class Scale:
    """Widths from the base on; lengths of training of the base model, at rates of 2^k."""

    widths: tuple[int, ...]
    head_dim: int
    steps: int
    lengths: tuple[int, ...]
    log2_lrs: range
    batch: int
    context: int
    seeds: tuple[int, ...]
    val_windows: int


SCALES: dict[Profile, Scale] = {
    "smoke": Scale(
        widths=(8, 32),
        head_dim=4,
        steps=4,
        lengths=(4, 12),
        log2_lrs=range(-9, 4, 6),
        batch=4,
        context=16,
        seeds=(0, 1),
        val_windows=16,
    ),
    "cpu": Scale(
        widths=(32, 64, 128, 256),
        head_dim=16,
        steps=8,
        lengths=(50, 200, 800),
        log2_lrs=range(-8, -1),
        batch=8,
        context=64,
        seeds=(0, 1, 2),
        val_windows=256,
    ),
    "gpu": Scale(
        widths=(128, 512, 2048),
        head_dim=64,
        steps=11,
        lengths=(100, 400),
        log2_lrs=range(-10, -5),
        batch=16,
        context=256,
        seeds=(0, 1, 2),
        val_windows=512,
    ),
}

EPSILON = 1e-3
DECAY = 10.0

ARMS: list[Settings] = [
    {"param": "mup"},
    {"param": "mup", "param.without": "hidden_lr"},
    {"param": "mup", "param.without": "readout_lr"},
    {"param": "mup", "model.heads": 1},
    {"param": "mup", "model.heads": 1, "param.without": "attention_scale"},
    {"param": "mup", "optim.eps": EPSILON},
    {"param": "completep", "optim.eps": EPSILON},
    {"param": "mup", "optim.decay": "coupled", "optim.weight_decay": DECAY},
]


def warning_signs(profile: Profile) -> list[Settings]:
    """Every arm over the widths, the decay that forgets m, and the base model over lengths of training."""
    scale = SCALES[profile]
    base = scale.widths[0]
    common = few_steps(steps=scale.steps, batch=scale.batch, context=scale.context)
    seeds = product({"seed": scale.seeds})
    widths = widths_from(base, scale.widths, scale.head_dim)
    arms = [common | cell | arm for arm in ARMS for cell in cross(widths, seeds)]
    forgetful: Settings = {"param": "mup", "optim.decay": "coupled"}
    forgetful_decay = [
        common | forgetful | cell | {"optim.weight_decay": DECAY * base / int(str(cell["model.width"]))}
        for cell in cross(widths[1:], seeds)  # at the base width nothing is forgotten
    ]
    trained: Settings = {
        "param": "mup",
        "optim.clip": 1.0,
        "schedule": "linear",
        "schedule.warmup": "10%",
        "train.diverged_above": 3.0,
        "eval.sequences": scale.val_windows,
        "probe.every": None,
    }
    lengths: list[Settings] = [{"train.duration": f"{steps}steps"} for steps in scale.lengths]
    rates = product({"optim.lr": [2.0**k for k in scale.log2_lrs]})
    horizon = [common | widths[0] | trained | cell for cell in cross(lengths, rates, seeds)]
    return [*arms, *forgetful_decay, *horizon]


STUDIES = (
    Study(
        name="mup/warning_signs",
        claim="What silently breaks muP shows in a number of its first steps, drawn against width.",
        cells=warning_signs,
        widen=Widen(key="optim.lr", at_most=3),
    ),
)

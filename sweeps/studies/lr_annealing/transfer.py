"""One schedule's loss curve from another's: constant and cosine runs, and runs with a late decay to be predicted.

The law L = L0 + A S1^-alpha - C S2 (Tissue et al. 2024, arXiv 2408.11029) knows a run by its learning rates alone: by
their sum S1, and by S2, how much and how long ago they were lowered. It is fitted to a constant rate and a cosine, and
asked for two runs that stay at the peak and fall in a line over the last 10 or 20 % of the steps.

All runs of a seed share their weights at the start and the order of their batches, so that they differ by the schedule
alone; the second seed tells the noise. A fifth of the values of the source are noise: what is not noise is learnt
exactly, and gradients that vanish leave nothing to anneal. The learning rate is a compromise (width 48): at 2e-2 and
batches of 32 pairs a cosine ends 4 % below a constant rate, but constant runs of two seeds differ by 1.6 % from step to
step, and some spike; at 5e-3 and batches of 64 it is 1.5 % against a scatter of 0.2 %. Rate and batch of `gpu` are a
guess.

The fitted curves of `cpu` do not tell the memory of S2: they like the shortest one best, and 0.5 to 2 % of the run
almost equally, so that the 5 % of the published fits would do as well.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross
from sweeps.cells.study import Study
from sweeps.studies.scale import scales
from sweeps.studies.zipf import DIGITS, pairs
from train.record.manifest import Profile

SCHEDULES: list[GridPoint] = [
    {"schedule": "constant"},
    {"schedule": "cosine"},
    {"schedule": "wsd", "schedule.cooldown": "10%"},
    {"schedule": "wsd", "schedule.cooldown": "20%"},
]
KEYS: dict[Profile, int] = {"smoke": 2**12, "cpu": 2**20, "gpu": 2**22}
SCALES = scales(
    widths=((16,), (48,), (256,)),
    depths=((1,), (1,), (1,)),
    head_dim=(16, 16, 32),
    context=(DIGITS, DIGITS, DIGITS),
    batch=(16, 64, 256),
    steps=(50, 4000, 8000),
    lrs=((1e-2,), (5e-3,), (4e-3,)),
    seeds=(2, 2, 2),
    val_windows=(2**8, 2**12, 2**16),
)


def cells(profile: Profile) -> list[GridPoint]:
    """Schedules times seeds."""
    scale = SCALES[profile]
    source = pairs(keys=KEYS[profile], train=scale.steps * scale.batch, val=scale.val_windows)
    run = scale.training() | source | scale.model(scale.widths[0], 1) | scale.rates()[0]
    run |= {"data.noise": 0.2, "schedule.warmup": "2%", "eval.every": "1%"}
    return cross([run], SCHEDULES, scale.each_seed())


STUDY = Study(
    claim="A law fitted to a constant and a cosine schedule predicts the loss curves of late linear decays.",
    cells=cells,
)

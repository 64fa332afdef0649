"""With and without QK-norm over learning rates and sizes (figures 1 and 2)."""

from __future__ import annotations

from sweeps.grid import Cell
from sweeps.studies.small_proxies.recipe import lr_sweep
from sweeps.study import Study
from train.record import Profile

ARMS: list[Cell] = [{"model.qk_norm": "none"}, {"model.qk_norm": "head"}]


def qk_norm(profile: Profile) -> list[Cell]:
    """Both arms at every size."""
    return lr_sweep(profile, ARMS)


STUDIES = (
    Study(
        name="small_proxies/qk_norm",
        claim="Attention logits grow until training fails at high learning rates; QK-norm prevents it.",
        cells=qk_norm,
    ),
)

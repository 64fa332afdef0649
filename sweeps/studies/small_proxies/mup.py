"""The standard parametrisation and three variants of muP over widths (figures 8, E.4 to E.6).

The base width is the smallest, where `simple` and `intermediate` are the standard parametrisation to the bit; their
runs there are the standard ones. Depth is fixed: the rules know width alone. `simple` is also run without QK-norm at
the highest rates of the largest width. The window leaves out the lowest rates, where no width has its optimum.

With QK-norm `full` differs from `intermediate` by the attention's 1/d alone, and by an embedding that keeps the
standard deviation of the base width: queries that are normalised may not start at zero. Widths differ by a factor of 3
at `cpu`, from a base of 32, which is less than the law of large numbers asks for; `mup/transfer` spans a factor of 8.

Whether the best rate of a muP stays is within the noise of a step of the grid at `cpu` for all variants but
`intermediate`. Without QK-norm muP fails at the highest rates: it takes the place of no norm.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, models, runs, seeds
from train.record.manifest import Profile

DEPTH: dict[Profile, int] = {"smoke": 1, "cpu": 2, "gpu": 3}
WIDTHS: dict[Profile, tuple[int, ...]] = {"smoke": (16, 32), "cpu": (32, 96), "gpu": (128, 256, 384)}
LOWEST_LR: dict[Profile, float] = {"smoke": 1e-2, "cpu": 3e-3, "gpu": 1e-3}


def cells(profile: Profile) -> list[GridPoint]:
    """Every arm and width over learning rates and seeds, and the control without QK-norm."""
    scale = SCALES[profile]
    base, *wider = models(profile, *((width, DEPTH[profile]) for width in WIDTHS[profile]))
    simple, intermediate, full = (
        {"param": "mup", "param.variant": variant, "param.base_width": base["model.width"]}
        for variant in ("simple", "intermediate", "full")
    )
    grid = cross(scale.rates(LOWEST_LR[profile]), seeds(profile))
    high = product({"optim.lr": scale.lrs[-2:]})
    return [
        *runs(profile, [{}, full], [base, *wider], grid),
        *runs(profile, [simple, intermediate], wider, grid),
        *runs(profile, [simple | {"model.qk_norm": "none"}], wider[-1:], high, seeds(profile)),
    ]


STUDY = Study(
    claim="muP keeps the best learning rate, but makes training neither better nor less sensitive to it.", cells=cells
)

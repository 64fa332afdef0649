"""The standard parametrisation and three variants of muP over widths (figures 8, E.4 to E.6).

The base width is the smallest, where `simple` and `intermediate` are the standard parametrisation to the bit; their
runs there are the standard ones. Depth is fixed: the rules know width alone. `simple` is also run without QK-norm at
the highest rates of the largest width. The window leaves out the lowest rates, where no width has its optimum.

With QK-norm `full` differs from `intermediate` by the attention's 1/d alone, and by an embedding that keeps the
standard deviation of the base width: queries that are normalised may not start at zero. Widths differ by a factor of 3
at `cpu`, from a base of 32, which is less than the law of large numbers asks for; `mup/transfer` spans a factor of 8.

What the `cpu` profile found (widths 32 and 96, 250 steps, three seeds): the standard parametrisation's best rate halves
over a factor of 3 in width (log2 -0.93, -1.33 to -0.54); that of every muP stays within 0.3 of log2, which is sure for
`intermediate` (-0.4 to 0.6) and within the noise of a step of the grid for the others. At width 96 no variant beats the
standard parametrisation at its own best rate by more than the scatter of seeds (ln loss -0.009 to 0.015), nor is one
less sensitive. Without QK-norm muP loses 0.5 nats at a rate of 0.3: it takes the place of no norm.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from sweeps.cells.grid import Settings, cross, product, where
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import SCALES, lrs, recipe, seeds, size
from train.record.manifest import Profile

DEPTH: dict[Profile, int] = {"smoke": 1, "cpu": 2, "gpu": 3}
WIDTHS: dict[Profile, tuple[int, ...]] = {"smoke": (16, 32), "cpu": (32, 96), "gpu": (128, 256, 384)}
LOWEST_LR: dict[Profile, float] = {"smoke": 1e-2, "cpu": 3e-3, "gpu": 1e-3}


def mup(profile: Profile) -> list[Settings]:
    """Every arm and width over learning rates and seeds, and the control without QK-norm."""
    base, *wider = WIDTHS[profile]
    grid = cross(where(lrs(profile), lambda cell: float(cell["optim.lr"] or 0) >= LOWEST_LR[profile]), seeds(profile))

    def runs(widths: list[int], *arms: Settings, over: list[Settings] = grid) -> list[Settings]:
        models = [size(profile, width, DEPTH[profile]) for width in widths]
        return [recipe(profile) | cell | arm for arm in arms for cell in cross(models, over)]

    simple, intermediate, full = (_mup(variant, base) for variant in ("simple", "intermediate", "full"))
    high = cross(product({"optim.lr": SCALES[profile].lrs[-2:]}), seeds(profile))
    return [
        *runs([base, *wider], {}, full),
        *runs(wider, simple, intermediate),
        *runs(wider[-1:], simple | {"model.qk_norm": "none"}, over=high),
    ]


def _mup(variant: str, base: int) -> Settings:
    return {"param": "mup", "param.variant": variant, "param.base_width": base}


STUDIES = (
    Study(
        name="small_proxies/mup",
        claim="muP keeps the best learning rate, but makes training neither better nor less sensitive to it.",
        cells=mup,
    ),
)

"""Capped attention logits against QK-norm, and both together, over learning rates.

A cap puts logits z through c tanh(z / c): Gemma 2 (Gemma Team 2024, arXiv 2408.00118) has c = 50. Rybakov et al. 2024
(arXiv 2410.16682) push 830M parameters to divergence by the learning rate, and find that QK-norm with a cap, and a norm
of queries, keys and values in place of the one before them, bear 1.5 times the rate of QK-norm alone. Here the recipe
of `small_proxies` at one size, with rates close to each other where training fails; its runs with and without QK-norm
are the same ones.

What the `cpu` profile found (147K parameters, three seeds, 95 % intervals): capped logits stay at their cap while the
RMS of queries times that of keys grows by as many decades as without one (0.96, 0.89 to 1.02). QK-norm bears a rate 2.8
times that of neither (1.5 to 5.1), and 1.6 times that of the better cap (0.97 to 2.6); a cap beside it adds to that in
every seed, by a factor between 1.2 and 3. QKV-norm bears less than QK-norm (a factor of 0.59, 0.39 to 0.89). Entropy
does not collapse under a cap at high rates, as it does without: logits that all stand at plus or minus the cap are
equal, and attention is spread over those at plus. At 3e-2, before they saturate, it does fall.

The `gpu` profile has not been run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.cells.grid import Settings, cross, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import recipe, size
from train.record.manifest import Profile

ARMS: list[Settings] = [
    {"model.qk_norm": "none"},
    {"model.qk_norm": "none", "model.attention_softcap": 50.0},
    {"model.qk_norm": "none", "model.attention_softcap": 20.0},
    {"model.qk_norm": "head"},
    {"model.qk_norm": "head", "model.attention_softcap": 50.0},
    {"model.qk_norm": "qkv"},
]


@dataclass(frozen=True)
class Part:
    """The size, as width and depth, and the learning rates."""

    size: tuple[int, int]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]


PARTS: dict[Profile, Part] = {
    "smoke": Part(size=(16, 1), lrs=(1e-1,), seeds=(0, 1)),
    "cpu": Part(size=(64, 3), lrs=(1e-2, 3e-2, 6e-2, 1e-1, 1.5e-1, 2e-1, 3e-1), seeds=(0, 1, 2)),
    "gpu": Part(size=(256, 3), lrs=(1e-2, 3e-2, 6e-2, 1e-1, 1.5e-1, 2e-1, 3e-1), seeds=(0, 1, 2)),
}


def softcap_vs_qk_norm(profile: Profile) -> list[Settings]:
    """Arms times rates times seeds."""
    part = PARTS[profile]
    grid = cross([recipe(profile) | size(profile, *part.size)], product({"optim.lr": part.lrs, "seed": part.seeds}))
    return [cell | arm for arm in ARMS for cell in grid]


STUDIES = (
    Study(
        name="stability/softcap_vs_qk_norm",
        claim="A cap bounds the attention logits, but not queries and keys behind them; QK-norm bears a higher rate.",
        cells=softcap_vs_qk_norm,
    ),
)

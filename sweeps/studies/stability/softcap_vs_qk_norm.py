"""Capped attention logits against QK-norm, and both together, over learning rates.

A cap puts logits z through c tanh(z / c): Gemma 2 (Gemma Team 2024, arXiv 2408.00118) has c = 50. Rybakov et al. 2024
(arXiv 2410.16682) push 830M parameters to divergence by the learning rate, and find that QK-norm with a cap, and a norm
of queries, keys and values in place of the one before them, bear 1.5 times the rate of QK-norm alone. Here the recipe
of `small_proxies` at one size, with rates close to each other where training fails; its runs with and without QK-norm
are the same ones.

Entropy does not collapse under a cap at high rates, as it does without: logits that all stand at plus or minus the cap
are equal, and attention is spread over those at plus. Before they saturate, it does fall.
"""

from __future__ import annotations

from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.studies.small_proxies.recipe import models, runs, seeds
from sweeps.studies.stability.entropy_collapse import SHAPE
from train.record.manifest import Profile

ARMS: list[GridPoint] = [
    {"model.qk_norm": "none"},
    {"model.qk_norm": "none", "model.attention_softcap": 50.0},
    {"model.qk_norm": "none", "model.attention_softcap": 20.0},
    {"model.qk_norm": "head"},
    {"model.qk_norm": "head", "model.attention_softcap": 50.0},
    {"model.qk_norm": "qkv"},
]
LRS = (1e-2, 3e-2, 6e-2, 1e-1, 1.5e-1, 2e-1, 3e-1)


def cells(profile: Profile) -> list[GridPoint]:
    """Arms times rates times seeds."""
    rates = product({"optim.lr": LRS if profile != "smoke" else (1e-1,)})
    return runs(profile, ARMS, models(profile, SHAPE[profile]), rates, seeds(profile))


STUDY = Study(
    claim="A cap bounds the attention logits, but not queries and keys behind them; QK-norm bears a higher rate.",
    cells=cells,
)

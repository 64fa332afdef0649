"""Which function draws which study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.figures import demo, laws, lr_annealing
from analysis.figures.growth import cooldowns, tokenformer
from analysis.figures.gstack import factor, law, noise, operators, patterns, spike, timing
from analysis.figures.mup import coord_check, transfer, warning_signs
from analysis.figures.norms import layernorm_scaling, mix_ln, peri_ln
from analysis.figures.small_proxies import (
    epsilon,
    gradient_rms,
    logit_prediction,
    mup,
    qk_norm,
    steps_and_batch,
    transplanted_logits,
    warmup,
    weight_decay,
    width_depth,
    z_loss,
)
from analysis.figures.stability import beta2_spikes, entropy_collapse, softcap_vs_qk_norm
from conf.command_line import pick

# (table of the study's runs, folder for its files) -> claims. Writes .png, .svg and .csv; prints what it found.
Draw = Callable[[pl.DataFrame, Path], list[Claim]]

FIGURES: dict[str, Draw] = {
    "demo/ladder": demo.ladder,
    "laws/known_floor": laws.known_floor,
    "lr_annealing/transfer": lr_annealing.transfer,
    "norms/layernorm_scaling": layernorm_scaling.draw,
    "norms/mix_ln": mix_ln.draw,
    "norms/peri_ln": peri_ln.draw,
    "small_proxies/qk_norm": qk_norm.draw,
    "small_proxies/mup": mup.draw,
    "small_proxies/steps_and_batch": steps_and_batch.draw,
    "small_proxies/warmup": warmup.draw,
    "small_proxies/weight_decay": weight_decay.draw,
    "small_proxies/width_depth": width_depth.draw,
    "small_proxies/z_loss": z_loss.draw,
    "small_proxies/epsilon": epsilon.draw,
    "small_proxies/gradient_rms": gradient_rms.draw,
    "small_proxies/logit_prediction": logit_prediction.draw,
    "small_proxies/transplanted_logits": transplanted_logits.draw,
    "mup/coord_check": coord_check.draw,
    "mup/transfer": transfer.draw,
    "mup/warning_signs": warning_signs.draw,
    "stability/softcap_vs_qk_norm": softcap_vs_qk_norm.draw,
    "stability/entropy_collapse": entropy_collapse.draw,
    "stability/beta2_spikes": beta2_spikes.draw,
    "gstack/operators": operators.operators,
    "gstack/timing": timing.timing,
    "gstack/factor": factor.factor,
    "gstack/law": law.law,
    "gstack/spike": spike.spike,
    "gstack/patterns": patterns.patterns,
    "gstack/noise": noise.noise,
    "growth/tokenformer": tokenformer.tokenformer,
    "growth/cooldowns": cooldowns.cooldowns,
}


def get_figure(study: str) -> Draw:
    """The function that draws a study; raises `UserError` naming those that exist."""
    return pick("study", study, FIGURES)

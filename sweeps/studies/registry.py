"""Every study there is. A new one is a module under `sweeps/studies/` and its name in these two lists."""

from __future__ import annotations

from sweeps.cells.study import Study
from sweeps.studies import demo, laws, lr_annealing
from sweeps.studies.growth import cooldowns, tokenformer
from sweeps.studies.gstack import factor, law, noise, operators, patterns, spike, timing
from sweeps.studies.mup import coord_check, transfer, warning_signs
from sweeps.studies.norms import layernorm_scaling, mix_ln, peri_ln
from sweeps.studies.small_proxies import (
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
from sweeps.studies.stability import beta2_spikes, entropy_collapse, softcap_vs_qk_norm

MODULES = (
    demo,
    laws,
    lr_annealing,
    layernorm_scaling,
    mix_ln,
    peri_ln,
    qk_norm,
    mup,
    steps_and_batch,
    warmup,
    weight_decay,
    width_depth,
    z_loss,
    epsilon,
    gradient_rms,
    logit_prediction,
    transplanted_logits,
    coord_check,
    transfer,
    warning_signs,
    softcap_vs_qk_norm,
    entropy_collapse,
    beta2_spikes,
    operators,
    timing,
    factor,
    law,
    spike,
    patterns,
    noise,
    tokenformer,
    cooldowns,
)

STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}

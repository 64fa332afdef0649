"""`run_seconds(config, cost, at)`: how long a run takes at a speed, from its FLOPs and its steps."""

from __future__ import annotations

import math

from conf.config import Config
from sweeps.plan.capacity import Speed
from train.timetable.cost import RunCost


def run_seconds(config: Config, cost: RunCost, at: Speed, *, until: int | None = None) -> float:
    """Estimated seconds of a run up to a step, or its end: its matmuls with those of the evaluations, its steps and
    those of its tuning, its start and end."""
    until = cost.n_steps if until is None else until
    evaluations = math.ceil(until / cost.every(config.eval.every))
    forward_flops = cost.flops / cost.n_tokens / 3
    eval_flops = evaluations * config.eval.sequences * config.data.context * forward_flops
    steps = until + cost.tuning.tokens // cost.tokens_per_step
    return (cost.executed_by(until).flops + eval_flops) / at.flops_per_second + steps * at.step_seconds + at.run_seconds

"""What runs cost: seconds from FLOPs. No torch."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from conf.schema import Config
from models.count import RunCost

# What models of 40K to 700K parameters reached of the matmul rate, one thread each, on a shared x86 machine; and what
# a step and a run take besides matmuls.
CPU_UTILISATION = 0.5
CPU_STEP_SECONDS = 4e-3
CPU_RUN_SECONDS = 1.0

# Nominal: small kernels reach a small part of a data-centre GPU, and a step is bound by launching them.
GPU_FLOPS_PER_SECOND = 4e13
GPU_STEP_SECONDS = 2e-2
GPU_RUN_SECONDS = 5.0


@dataclass(frozen=True)
class Speed:
    """How fast one run goes beside the others, and what that is taken from."""

    flops_per_second: float
    step_seconds: float
    run_seconds: float
    basis: str


def speed(device: str, *, jobs: int, threads: int) -> Speed:
    """The speed of one of `jobs` runs with `threads` threads each; on a GPU they share its one rate."""
    if device == "cuda":
        basis = f"assumed, not measured: {GPU_FLOPS_PER_SECOND:.0e} FLOP/s for the whole GPU"
        return Speed(GPU_FLOPS_PER_SECOND / jobs, GPU_STEP_SECONDS, GPU_RUN_SECONDS, basis)
    rate = core_rate()
    basis = f"assumed: {CPU_UTILISATION:.0%} of the {rate / 1e9:.0f} GFLOP/s per core that a matmul reaches here"
    return Speed(CPU_UTILISATION * rate * threads, CPU_STEP_SECONDS, CPU_RUN_SECONDS, basis)


@cache
def core_rate(seconds: float = 0.02) -> float:
    """FLOP/s of one core on a float32 matmul, by CPU time, so that other processes do not count.

    The matmul is so small that no library spreads it over threads: theirs would spin while others have the cores.
    """
    size = 64
    a = np.ones((size, size), dtype=np.float32)
    out = np.empty_like(a)
    best, until, n = math.inf, time.perf_counter() + seconds, 0
    while n < 5 or time.perf_counter() < until:  # where others have the cores, time passes without a measurement
        n += 1
        start = time.process_time()
        for _ in range(200):
            np.matmul(a, a, out=out)
        best = min(best, max((time.process_time() - start) / 200, 1e-9))
    return 2 * size**3 / best


def run_seconds(config: Config, cost: RunCost, at: Speed, *, until: int | None = None) -> float:
    """Estimated seconds of a run up to a step, or its end: its matmuls with those of the evaluations, its steps and
    those of its tuning, its start and end."""
    until = cost.n_steps if until is None else until
    evaluations = math.ceil(until / cost.every(config.eval.every))
    forward_flops = cost.flops / cost.n_tokens / 3
    eval_flops = evaluations * config.eval.sequences * config.data.context * forward_flops
    steps = until + cost.tuning.tokens // cost.tokens_per_step
    return (cost.executed_by(until).flops + eval_flops) / at.flops_per_second + steps * at.step_seconds + at.run_seconds


def makespan(seconds: Iterable[float], jobs: int) -> float:
    """Wall-clock seconds of runs started longest first, `jobs` at a time."""
    ends = [0.0] * jobs
    for run in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + run)
    return max(ends)

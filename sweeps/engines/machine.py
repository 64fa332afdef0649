"""What this machine offers to a plan, torch-free: cores, a GPU, and how fast tiny models train on them.

    this_machine(12, "cpu")             Capacity(jobs=2, threads=1, …) on two cores
    this_machine(12, "cpu", jobs=1)     Capacity(jobs=1, threads=2, …)
    core_rate()                         6e10 FLOP/s of one core

Two rates of a machine are measured, of two things. A plan needs one in milliseconds, before torch is there, of a core
on matmuls as small as those of the models that run on it: `core_rate`. A record needs what torch reaches on a large
matmul with the run's own device, precision and threads, the 100 % of its utilisation: `train.hardware.matmul_rate`.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from functools import cache

import numpy as np

from conf.schema import UserError
from sweeps.plan.capacity import Capacity, Speed

# What models of 40K to 700K parameters reached of the matmul rate, one thread each, on a shared x86 machine; and what
# a step and a run take besides matmuls.
CPU_UTILISATION = 0.5
CPU_STEP_SECONDS = 4e-3
CPU_RUN_SECONDS = 1.0

# Nominal: small kernels reach a small part of a data-centre GPU, and a step is bound by launching them.
GPU_FLOPS_PER_SECOND = 4e13
GPU_STEP_SECONDS = 2e-2
GPU_RUN_SECONDS = 5.0

GPU_JOBS = 8


def this_machine(n_runs: int, device: str, jobs: int | None = None) -> Capacity:
    """What there is for `n_runs` runs on `cpu` or `cuda`; raises `UserError` if it cannot be `jobs` at a time."""
    jobs, threads = share_cores(n_runs, jobs=jobs, cores=cores_for(device), device=device)
    return Capacity(jobs, threads, speed(device, jobs=jobs, threads=threads))


def share_cores(n_runs: int, *, jobs: int | None, cores: int, device: str = "cpu") -> tuple[int, int]:
    """(runs at a time, threads of each), never more together than `cores`; raises `UserError` if `jobs` cannot be.

    Unless `jobs` says otherwise there are as many runs as cores, and on a GPU a few, which share it: one small model
    alone leaves it waiting for the next kernel most of the time.
    """
    if jobs is not None and not 1 <= jobs <= cores:
        raise UserError(f"--jobs: {jobs} is not allowed on {cores} usable cores; allowed: 1 to {cores}")
    jobs = max(1, min(jobs or (min(cores, GPU_JOBS) if device == "cuda" else cores), n_runs))
    return jobs, cores // jobs


def usable_cores() -> int:
    """Cores that this process may run on, which a container or `taskset` can make fewer than the machine's."""
    return len(os.sched_getaffinity(0))


def has_gpu() -> bool:
    """Whether a GPU is here, by its driver's command."""
    return shutil.which("nvidia-smi") is not None


def cores_for(device: str) -> int:
    """`usable_cores`, or where a GPU is asked for and there is none, at least those of a machine that has one."""
    return usable_cores() if device == "cpu" or has_gpu() else max(usable_cores(), GPU_JOBS)


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

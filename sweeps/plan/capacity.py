"""What carries a plan out, as far as a plan must know: how many runs at a time, and how fast each goes.

    make_plan(study, "cpu", runs_dir=runs, capacity=this_machine)       planned for what the engine offers
    make_plan(study, "cpu", runs_dir=runs)                              for one run at a time at an assumed speed

A plan is given a capacity and measures nothing; engines do (`sweeps.engines.machine`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """How fast one run goes beside the others.

    Attributes:
        flops_per_second: of its matmuls.
        step_seconds, run_seconds: what a step and a run take besides.
        basis: what that is taken from, for a reader.
    """

    flops_per_second: float
    step_seconds: float
    run_seconds: float
    basis: str


@dataclass(frozen=True)
class Capacity:
    """Runs at a time, CPU threads of each, and their speed."""

    jobs: int
    threads: int
    speed: Speed


Offer = Callable[[int, str], Capacity]
"""(runs to start, `cpu` or `cuda`) -> what there is for them."""


def one_at_a_time(n_runs: int, device: str) -> Capacity:
    """The same for any runs and on any machine: about a core of a present-day server."""
    del n_runs, device
    return Capacity(1, 1, Speed(2e10, 4e-3, 1.0, "assumed, not measured: 2e+10 FLOP/s"))

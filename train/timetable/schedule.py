"""step -> learning rate relative to its peak: pure functions of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sqrt

from conf.schema import ConfigError, GrowConfig, ScheduleConfig
from train.timetable.cost import RunCost


@dataclass(frozen=True)
class Schedule:
    """A warm-up from zero, then a shape. Calling it gives the multiplier of one step.

    Steps count from 0; step `warmup` is the first at the peak, and the last step is still above the floor, so
    that none is spent at a learning rate of zero.
    """

    shape: str
    n_steps: int
    warmup: int
    cooldown: int
    floor: float
    begun: int = 0
    """Steps that were made before step 0."""

    def __call__(self, step: int) -> float:
        step += self.begun
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return SHAPES[self.shape](self, step)

    def progress(self, step: int, start: int) -> float:
        """Share of the way from `start` to the end of the run, in [0, 1)."""
        return (step - start) / max(1, self.n_steps - start)


def _towards_floor(schedule: Schedule, share: float) -> float:
    return schedule.floor + (1 - schedule.floor) * share


def _constant(_: Schedule, __: int) -> float:
    return 1.0


def _cosine(schedule: Schedule, step: int) -> float:
    """(1 + cos pi t) / 2 between peak and floor (Loshchilov and Hutter 2017, eq. 5)."""
    return _towards_floor(schedule, (1 + cos(pi * schedule.progress(step, schedule.warmup))) / 2)


def _linear(schedule: Schedule, step: int) -> float:
    return _towards_floor(schedule, 1 - schedule.progress(step, schedule.warmup))


def _wsd(schedule: Schedule, step: int) -> float:
    """Warm-up, stable, linear decay (Hu et al. 2024, MiniCPM; Hägele et al. 2024)."""
    start = schedule.n_steps - schedule.cooldown
    return 1.0 if step < start else _towards_floor(schedule, 1 - schedule.progress(step, start))


def _inverse_sqrt(schedule: Schedule, step: int) -> float:
    """sqrt(warm-up / step) (Vaswani et al. 2017, eq. 3)."""
    return sqrt(max(1, schedule.warmup) / max(1, step))


SHAPES: dict[str, Callable[[Schedule, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "wsd": _wsd,
    "inverse_sqrt": _inverse_sqrt,
}


def build_schedule(cfg: ScheduleConfig, *, peak: float, cost: RunCost) -> Schedule:
    """The schedule of a run, its durations turned into steps.

    One that goes on where a base's stopped (`RunCost.begun`) is that of one run over all of these steps, and a share of
    the run is a share of them.

    Raises:
        ConfigError: the warm-up, or the warm-up and the cool-down, do not fit into the run; or the cool-down of a
            schedule that goes on would have begun before this run.
    """
    begun, n_own = cost.begun, cost.n_steps
    cost = replace(cost, n_steps=begun + n_own)
    n_steps, warmup = cost.n_steps, cost.steps(cfg.warmup)
    cooldown = cost.steps(cfg.cooldown) if cfg.shape == "wsd" else 0
    if warmup >= n_steps:
        raise ConfigError(f"schedule.warmup: {cfg.warmup!r} is {warmup} of {n_steps} steps; allowed: fewer than all")
    if warmup + cooldown > n_steps:
        raise ConfigError(
            f"schedule.cooldown: {cfg.cooldown!r} is {cooldown} steps, after {warmup} of warm-up; "
            f"allowed: at most {n_steps - warmup} of the run's {n_steps}"
        )
    if begun and cooldown > n_own:
        raise ConfigError(
            f"schedule.cooldown: {cfg.cooldown!r} is {cooldown} steps, of which this run makes only the last {n_own}; "
            f"allowed: at most {n_own} with grow.schedule=continue"
        )
    floor = cfg.floor / peak if cfg.floor_is == "absolute" else cfg.floor
    return Schedule(cfg.shape, n_steps, warmup, cooldown, floor, begun)


def ramp_steps(cfg: GrowConfig, cost: RunCost) -> int | None:
    """The steps over which new blocks fade in, or None where they are there at once.

    Raises:
        ConfigError: they would not be there at the end of the run.
    """
    if cfg.ramp is None:
        return None
    n_steps = cost.steps(cfg.ramp)
    if not 0 < n_steps <= cost.n_steps:
        raise ConfigError(
            f"grow.ramp: {cfg.ramp!r} is {n_steps} of the run's {cost.n_steps} steps; allowed: 1 to all of them"
        )
    return n_steps

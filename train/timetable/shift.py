"""When the training tokens are mirrored. It needs no torch, so that a run and what is read from its record agree."""

from __future__ import annotations

from dataclasses import dataclass

from conf.schema import ConfigError, DataConfig
from train.timetable.cost import RunCost


@dataclass(frozen=True)
class Shift:
    """Training tokens t become V - 1 - t in the last `length` of every `every` steps; those of validation never do."""

    every: int
    length: int

    @classmethod
    def of(cls, data: DataConfig, cost: RunCost) -> Shift | None:
        """The shift of a run, or None; raises `ConfigError` if the text would be itself in no step."""
        if data.shift_every is None:
            return None
        every, length = cost.every(data.shift_every), cost.every(data.shift_for)
        if length >= every:
            raise ConfigError(
                f"data.shift_for: {data.shift_for!r} is {length} steps; "
                f"allowed: fewer than data.shift_every={data.shift_every}, which is {every}"
            )
        return cls(every, length)

    def holds(self, step: int) -> bool:
        """Whether optimiser step `step`, counted from 0, is a shifted one."""
        return step % self.every >= self.every - self.length

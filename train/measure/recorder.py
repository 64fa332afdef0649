"""The flight recorder: the last rows of all probes in memory, on disk only around a loss spike or the divergence.

A run with `probe.recorder=true` probes every step and hands each row to a `Recorder`. Around an event it writes
`flight.jsonl` into the run's folder: K steps before, the event, K steps after, each row as in `metrics.jsonl`, with
`event` (the step at which its event begins) and `batch_sha256`. A quiet run writes nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.record.metrics import Row
from train.record.metrics_file import FLIGHT, MetricsWriter, metrics_line, read_metrics
from train.record.spikes import TWICE_WITHIN, SpikeDetector

log = logging.getLogger(__name__)


class Recorder:
    """Takes every row of a run in the order of steps, and writes those around an event.

    Events whose rows overlap are one: it keeps its first step, and is a divergence if it ends in one. What a recorder
    cannot do, it says once in the log, and from then on does nothing; a run goes on without it.

    Attributes:
        events: what `run.json` calls `flight_events`: `step` where the event begins, `kind` (`spike` or
            `divergence`), `loss` there (None if it is no number), and of a divergence `because`.
    """

    def __init__(self, folder: Path, *, keep: int, batch_sha256: Callable[[int], str], after_step: int) -> None:
        """Go on after `after_step`. Later rows of `flight.jsonl` are dropped, since they will be measured again; the
        rows that an earlier process held in memory are lost, and so are the losses that it compared with.

        Args:
            folder: the run's.
            keep: K, steps before an event and after it.
            batch_sha256: the hash of the batch that led to the row of a step.
            after_step: the last step that is done; -1 for a run that begins.
        """
        self.events: list[Row] = []
        self._folder = folder
        self._keep = keep
        self._batch_sha256 = batch_sha256
        self._detector = SpikeDetector()
        self._ring: deque[Row] = deque(maxlen=keep + TWICE_WITHIN)  # a spike is known so many steps after it began
        self._until = -1
        self._broken = False
        self._guarded(lambda: self._go_on(after_step))

    def see(self, row: Row, *, diverged: str | None) -> None:
        """Take the row of one step, with all its probes; with `diverged`, which says why, it is the last one."""
        self._guarded(lambda: self._see(row, diverged))

    def _see(self, row: Row, diverged: str | None) -> None:
        step = row["step"]
        self._ring.append(row)
        began = self._detector.see(step, row["train_loss"])
        if diverged or began is not None:
            what = {"kind": "divergence", "because": diverged} if diverged else {"kind": "spike"}
            self._open_event(step if began is None else began, what)
        if step <= self._until:
            self._write_from(0)

    def _open_event(self, step: int, what: Row) -> None:
        if self.events and step - self._keep <= self._until + 1:
            self.events[-1] |= what
        else:
            loss = next((row["train_loss"] for row in self._ring if row["step"] == step), None)
            self.events.append({"step": step, "loss": _finite(loss), **what})
        self._write_from(step - self._keep)
        self._until = max(self._until, step + self._keep)

    def _write_from(self, step: int) -> None:
        """Write what is in memory from `step` on, and forget all of it."""
        with (self._folder / FLIGHT).open("ab") as file:
            for row in self._ring:
                if row["step"] >= step:
                    mark = {"event": self.events[-1]["step"], "batch_sha256": self._batch_sha256(row["step"])}
                    file.write(metrics_line(row | mark))
        self._ring.clear()

    def _go_on(self, after_step: int) -> None:
        kept = [row for row in read_metrics(self._folder, FLIGHT) if row["step"] <= after_step]
        if not kept:
            (self._folder / FLIGHT).unlink(missing_ok=True)
            return
        MetricsWriter(self._folder, after_step=after_step, name=FLIGHT).close()
        losses = {row["step"]: row.get("train_loss") for row in kept}
        for step in dict.fromkeys(row["event"] for row in kept):
            self.events.append({"step": step, "kind": "spike", "loss": losses.get(step)})
            self._until = step + self._keep

    def _guarded(self, act: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            act()
        except Exception as error:  # whatever it is, the run matters more
            self._broken = True
            log.warning("the flight recorder has stopped: %s: %s", type(error).__name__, error)


def hash_batch(batch_BT1: NDArray[np.int64]) -> str:
    """SHA-256 of a batch's tokens, in order, each as 8 bytes, the lowest first."""
    return hashlib.sha256(np.ascontiguousarray(batch_BT1, dtype="<i8").tobytes()).hexdigest()


def _finite(loss: float | None) -> float | None:
    return loss if loss is not None and np.isfinite(loss) else None

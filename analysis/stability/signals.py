"""What a run left behind for an autopsy: its measurements by step, from all its files, and when its loss rose.

    signals = read_signals(folder)
    signals.series("grad_norm")   steps and values, where it was measured and finite
    signals.names("block.*/query_rms")   the metrics whose whole name matches
    signals.events                spikes, rises and the divergence, by step

`metrics.jsonl` holds the probes that were due, `flight.jsonl` every step around an event, and `replay-N/` every step
from N on; a replay counts up to the first step at which it was not the run any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.tables.columns import Array
from analysis.tables.csv import TableError
from analysis.tables.runs import read_record_and_config
from analysis.tables.shifts import shifted_steps
from conf.config import Config
from train.record.metrics_file import FLIGHT, METRICS, read_metrics

Row = Mapping[str, Any]

# The loss has risen when its running median is above its lowest so far by this, and by so many standard deviations of
# the losses: a flat and noisy curve of 10⁵ steps stays below 5.
LEAST_RISE = 0.1  # nats per token
NOISES = 6.0
SMOOTH = 5  # steps of the running median
REACH = 8  # steps from a cause to its spike at most (Wortsman et al. 2023, arXiv 2304.13013: 1 to 8)


@dataclass(frozen=True)
class Event:
    """A time at which the loss rose. `step` is the first step with a high loss; `end`, if known, the last."""

    step: int
    kind: str  # spike, rise or divergence
    loss: float | None
    end: int | None = None

    def __str__(self) -> str:
        loss = "" if self.loss is None else f" (loss {self.loss:.3g})"
        late = f", from step {self.step} on" if self.kind == "divergence" and self.end != self.step else ""
        return f"{self.kind} at step {self.end if late else self.step}{late}{loss}"


@dataclass(frozen=True)
class Signals:
    """The measurements of one run: `rows` by step, one each, and what was read (`sources`: file, rows)."""

    folder: Path
    record: Mapping[str, Any]
    config: Config
    rows: Sequence[Row]
    sources: Mapping[str, int]
    events: Sequence[Event]
    shifted: Collection[int] = ()
    """Steps that read mirrored tokens."""

    def series(self, name: str, *, until: int | None = None) -> tuple[Array, Array]:
        """Steps (N,) and values (N,) of a metric where it was measured and finite, up to a step if one is given."""
        pairs = [
            (row["step"], row[name]) for row in self.rows if name in row and (until is None or row["step"] <= until)
        ]
        steps_values = np.array(pairs, dtype=float).reshape(-1, 2)
        return steps_values[:, 0], steps_values[:, 1]

    def names(self, pattern: str) -> list[str]:
        """The metrics whose whole name matches a regular expression, in the order of their numbers."""
        names = {name for row in self.rows for name in row if re.fullmatch(pattern, name)}
        return sorted(
            names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
        )

    @property
    def main_event(self) -> Event | None:
        """The divergence, or else the first event."""
        return next((event for event in self.events if event.kind == "divergence"), next(iter(self.events), None))

    @property
    def before(self) -> int | None:
        """The last step before the loss rose at the main event; None where it never did."""
        return None if self.main_event is None else self.main_event.step - 1

    @property
    def sane(self) -> int | None:
        """The last step that is worth looking at: after it a divergence alone decides what is measured."""
        event = self.main_event
        return self.before if event is not None and event.kind == "divergence" else None


def read_signals(folder: Path) -> Signals:
    """Read a run folder.

    Raises:
        TableError, RecordError: it is none, its files are damaged, or it has no rows yet.
    """
    record, config = read_record_and_config(folder)
    parts = {name: read_metrics(folder, name) for name in (METRICS, FLIGHT)}
    for replay in sorted(folder.glob("replay-*")):
        parts[f"{replay.name}/metrics.jsonl"] = _read_replay(replay)
    by_step: dict[int, dict[str, Any]] = {}
    for rows in parts.values():
        for row in rows:
            by_step.setdefault(row["step"], {}).update(row)
    if not any("train_loss" in row for row in by_step.values()):
        raise TableError(f"{folder}: has no training loss yet")
    ordered = [by_step[step] for step in sorted(by_step)]
    sources = {name: len(rows) for name, rows in parts.items() if rows}
    shift = {"data.shift_every": config.data.shift_every, "data.shift_for": config.data.shift_for}
    steps = np.array([row["step"] for row in ordered if "train_loss" in row])
    shifted = frozenset(steps[shifted_steps(record | shift, steps)].tolist())
    return Signals(folder, record, config, ordered, sources, find_events(record, ordered, shifted), shifted)


def _read_replay(folder: Path) -> list[dict[str, Any]]:
    """The rows of a replay that ended and up to where it left the run; nothing of one that was cut short."""
    try:
        summary = json.loads((folder / "replay.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    differs = summary["first_difference"]
    return [row for row in read_metrics(folder) if differs is None or row["step"] < differs["step"]]


# --- when the loss rose ----------------------------------------------------------------------------------


def find_events(record: Row, rows: Sequence[Row], shifted: Collection[int] = ()) -> list[Event]:
    """The divergence, the recorder's spikes, and rises of the running median that neither explains, by step.

    Args:
        shifted: steps whose high losses are those of other data; only a divergence is an event there.
    """
    pairs = [(row["step"], row["train_loss"]) for row in rows if "train_loss" in row and row["step"] not in shifted]
    if not pairs:  # every loss is one of shifted data, and none stands out by that
        return find_events(record, rows)
    steps, losses = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    rises = _rises(steps, losses)
    events = []
    diverged = record.get("diverged_at_step")
    if diverged is not None:
        last = next((event.step for event in rises if event.end is None), _sudden(steps, losses, diverged))
        events.append(Event(last, "divergence", float(losses[-1]), end=diverged))
    for event in record.get("flight_events", []):
        if event["kind"] == "spike" and event["step"] not in shifted:
            events.append(Event(event["step"], "spike", event["loss"]))
    for rise in rises:
        end = np.inf if rise.end is None else rise.end
        if not any(rise.step - REACH <= event.step <= end + REACH for event in events):
            events.append(rise)
    return sorted(events, key=lambda event: event.step)


def _rises(steps: Array, losses: Array) -> list[Event]:
    """Where the running median leaves its lowest value so far, until it is back; the last may have no end."""
    half = SMOOTH // 2
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(losses, half, mode="reflect"), SMOOTH), axis=-1)
    enough = max(LEAST_RISE, NOISES * _noise(losses))
    rises: list[Event] = []
    lowest, began = np.inf, None
    for k, value in enumerate(smooth):
        lowest = min(lowest, float(value))
        if began is None and value > lowest + enough:
            # The median reaches half a window ahead of the losses that raise it.
            began = next((j for j in range(max(0, k - half), k + half + 1) if losses[j] > lowest + enough), k)
        elif began is not None and value < lowest + enough / 2:
            rises.append(Event(int(steps[began]), "rise", float(losses[began:k].max()), end=int(steps[k])))
            began = None
    if began is not None:
        rises.append(Event(int(steps[began]), "rise", float(losses[began:].max())))
    return rises


def _noise(losses: Array) -> float:
    """A robust standard deviation, from second differences: a falling curve has none, and its own median is of no use,
    as it goes through every loss that is below the last."""
    return 1.4826 * float(np.median(np.abs(np.diff(losses, 2)))) / 6**0.5 if len(losses) > 2 else 0.0


def _sudden(steps: Array, losses: Array, diverged: int) -> int:
    """Where the loss left its lowest value within the last steps, for a divergence that no median sees coming."""
    tail = losses[-SMOOTH:]
    high = np.flatnonzero(tail > tail.min() + LEAST_RISE)
    high = high[high > tail.argmin()]
    return int(steps[-SMOOTH:][high[0]]) if len(high) else diverged

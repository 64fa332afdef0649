"""The progress bar of a run: loss, tokens/s, utilisation, time left. Quiet when nobody watches."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def wants_progress(setting: str) -> bool:
    """Whether `runtime.progress` asks for a bar here."""
    return setting == "on" or (setting == "auto" and sys.stderr.isatty())


class RunProgress:
    """A context in which `update` draws; does nothing when not shown."""

    def __init__(self, *, shown: bool, title: str, n_steps: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task(title, total=n_steps, status="")

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def update(self, step: int, *, loss: float, tokens_per_second: float, utilisation: float) -> None:
        status = f"loss {loss:.3f}  {tokens_per_second:,.0f} tok/s  {utilisation:.0%} of matmul rate"
        self._progress.update(self._task, completed=step, status=status)

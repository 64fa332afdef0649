"""When the training loss spikes. It needs no torch, so that a run's recorder and what is read from its record agree."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

# A loss is high above the mean of the last ones by so many of their standard deviations (Wortsman et al. 2023, arXiv
# 2304.13013, appendix), and above their median by so much, or a smooth curve would have spikes of a thousandth.
DEVIATIONS = 3.2
LEAST_RISE = 0.1  # nats per token
WINDOW = 50  # losses
LEAST_WINDOW = 10  # a standard deviation of fewer says little
# One batch may be hard. An instability shows in a second high loss soon after the first.
TWICE_WITHIN = 10  # steps


class SpikeDetector:
    """Finds where training losses leave the course of those before: two high ones within `TWICE_WITHIN` steps.

    A rise that takes longer than `WINDOW` steps is none: it drags the mean along. Nor is a spike smaller than the fall
    of the losses before it, as at the very beginning of a run.
    """

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=WINDOW)
        # Since a first high loss, and not yet part of what a second is compared with.
        self._held: list[tuple[int, float]] = []

    def see(self, step: int, loss: float) -> int | None:
        """Take the loss of one step; returns the step at which a spike began, once that is known, else None."""
        high = self._is_high(loss)
        if not self._held and not high:
            self._window.append(loss)
            return None
        self._held.append((step, loss))
        began, again = self._held[0][0], high and len(self._held) > 1
        if again or len(self._held) == TWICE_WITHIN:
            self._window.extend(held for _, held in self._held)
            self._held.clear()
        return began if again else None

    def _is_high(self, loss: float) -> bool:
        if len(self._window) < LEAST_WINDOW:
            return False
        before = np.array(self._window)
        by_noise = before.mean() + DEVIATIONS * before.std()
        return bool(loss > max(by_noise, np.median(before) + LEAST_RISE))


def find_spikes(losses: Iterable[tuple[int, float]]) -> list[int]:
    """The steps at which spikes began, of (step, loss) in the order of steps."""
    detector = SpikeDetector()
    return [began for step, loss in losses if (began := detector.see(step, loss)) is not None]

"""Of any grid: which value is best, and whether it is an end; ties and infinities included."""

from __future__ import annotations

import math
import random

import pytest

from train.record.edge import best_value, lowest_by_value


@pytest.mark.parametrize(("losses", "best"), [
    ({1: 3.0, 2: 2.0, 3: 2.5}, (2, None)),
    ({1: 2.0, 2: 2.5, 3: 3.0}, (1, "smallest")),
    ({3: 1.0, 1: 2.0, 2: 1.5}, (3, "largest")),  # in any order
    ({1: 2.0, 2: 2.0, 3: 2.5}, (2, None)),  # bracketed by its tie
    ({1: 2.0, 2: 2.5, 3: 2.0}, (1, "smallest")),
    ({1: 2.0, 2: 2.0, 3: 2.0}, (2, None)),
    ({1: 2.0, 2: 3.0}, (1, "smallest")),
    ({1: 2.0}, (1, "smallest")),
    ({1: math.inf, 2: 2.0, 3: math.inf}, (2, None)),
    ({1: math.inf, 2: math.inf, 3: 2.0}, (3, "largest")),
    ({1: math.inf, 2: math.inf, 3: math.inf}, (1, "smallest")),
])  # fmt: skip
def test_ties_are_decided_for_the_inside_and_infinities_for_less(
    losses: dict[float, float], best: tuple[float, str | None]
) -> None:
    assert best_value(losses) == best


def test_only_the_order_of_losses_counts() -> None:
    """Any rising function of the losses leaves the answer, and a rise of the best value alone changes it."""
    rng = random.Random(0)
    for _ in range(200):
        losses = {k: rng.choice([1.0, 2.0, 3.0, math.inf]) for k in range(1, rng.randint(2, 6) + 1)}
        best, side = best_value(losses)
        assert best_value(dict(rng.sample(sorted(losses.items()), len(losses)))) == (best, side)
        assert best_value({k: math.exp(loss) for k, loss in losses.items()}) == (best, side)
        assert losses[best] == min(losses.values())
        assert (side is None) == (min(losses) < best < max(losses))
        if min(loss for k, loss in losses.items() if k != best) < math.inf:
            assert best_value(losses | {best: math.inf})[0] != best


def test_replicates_count_by_the_lowest() -> None:
    assert lowest_by_value([1, 2, 1], [3.0, 4.0, 2.0]) == {1: 2.0, 2: 4.0}
    assert lowest_by_value([1, 1], [math.inf, math.inf]) == {1: math.inf}

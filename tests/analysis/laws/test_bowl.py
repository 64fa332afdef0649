"""The bowl of the learning rate: where its bottom is, and what happens where it has none."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.bowl import lr_bowl
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_bowl import EXAMPLES, TRUTH


def losses(lr: np.ndarray, m: float = TRUTH["m"]) -> dict[str, np.ndarray]:
    return {"lr": lr, "loss": lr_bowl({"lr": lr}, **(TRUTH | {"m": m}))}


def test_the_best_rate_is_the_bottom() -> None:
    best = np.exp(TRUTH["m"])
    at = {"lr": best * np.array([0.5, 0.9, 1.0, 1.1, 2.0])}
    loss = lr_bowl(at, **TRUTH)
    assert np.argmin(loss) == 2
    assert loss[2] == TRUTH["L0"]
    assert loss[0] == pytest.approx(loss[4])  # a factor 2 costs the same either way
    assert loss[0] - loss[2] == pytest.approx(TRUTH["c"] * np.log(2) ** 2)


@pytest.mark.parametrize("best", [1e-5, 3e-3, 0.5])
def test_the_bottom_is_found_within_the_rates_and_beyond(best: float) -> None:
    for shift in (1.0, 6.0):  # the grid lies around the optimum, or all above it
        lr = shift * best * 2.0 ** np.arange(-2.0, 3.0)
        result = fit("lr_bowl", losses(lr, np.log(best)), bootstrap=0)
        assert result.derived["lr_opt"].value == pytest.approx(best, rel=1e-5)


def test_the_interval_of_the_best_rate_follows_the_noise() -> None:
    example = EXAMPLES[0]
    spread = []
    for noise in (0.001, 0.004):
        result = example.fitted(example.draw(np.random.default_rng(1), noise=noise), bootstrap=200)
        low, high = result.derived["lr_opt"].ci95
        assert low < np.exp(TRUTH["m"]) < high
        spread.append(np.log(high / low))
    assert spread[1] > 2 * spread[0]


def test_losses_that_only_fall_show_no_best_rate() -> None:
    lr = 1e-3 * 2.0 ** np.arange(8.0)
    falling = fit("lr_bowl", {"lr": lr, "loss": 3.0 - 0.05 * np.log(lr / lr[0])}, bootstrap=0)
    assert falling.derived["lr_opt"].value > lr.max()
    inside = fit("lr_bowl", losses(lr, float(np.log(1e-2))), bootstrap=0)
    assert lr.min() < inside.derived["lr_opt"].value < lr.max()


@pytest.mark.parametrize("lr", [[1e-3, 2e-3, 3e-3], [1e-3, 0.0, 2e-3, 3e-3], [1e-3, np.nan, 2e-3, 3e-3]])
def test_points_that_make_no_bowl_are_refused(lr: list[float]) -> None:
    with pytest.raises(FitError):
        fit("lr_bowl", {"lr": np.array(lr), "loss": np.full(len(lr), 2.0)}, bootstrap=0)

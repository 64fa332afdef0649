"""The best learning rate against width: it stays under muP, and moves under the standard parametrisation.

Measured (log2 of the best rate, from the parabola): muP -7.3 at width 64 and -6.9 at 256; standard -7.7 and -9.4.
Regenerate: `pytest -m slow -s tests/train/test_transfer.py`, about 8 minutes on one core.
"""

from __future__ import annotations

from math import log2
from pathlib import Path

import pytest

from conf.compose import compose
from train.run import run

# Powers of 2, from left of the best standard rate at width 256 to right of the best rate at width 64.
RATES = [2.0**k for k in range(-10, -3)]


def best_log_rate(param: str, width: int, folder: Path, cache_dir: Path) -> float:
    """log2 of the rate with the lowest validation loss after 250 steps: the vertex of a parabola through three points.

    The lowest point must not lie at an edge of the grid.
    """
    losses = {}
    for lr in RATES:
        record = run(
            compose(
                [
                    f"param={param}", "param.base_width=64", f"model.width={width}", f"model.heads={width // 16}",
                    "model.depth=2", "data.context=32", "train.batch_size=16", "train.duration=250steps",
                    f"optim.lr={lr}", "optim.beta2=0.99", "eval.every=100%", "eval.sequences=1024",
                    "train.log_every=100%", "runtime.device=cpu", "runtime.threads=1",
                    f"runtime.runs_dir={folder}", f"runtime.cache_dir={cache_dir}",
                ]
            )
        )  # fmt: skip
        losses[lr] = record.get("val_loss", float("inf"))
    print(param, width, {f"2^{log2(lr):.0f}": round(loss, 4) for lr, loss in losses.items()})
    best = min(RATES[1:-1], key=losses.__getitem__)
    assert losses[best] == min(losses.values()), losses
    left, middle, right = (losses[best * step] for step in (0.5, 1.0, 2.0))
    return log2(best) + (left - right) / (left - 2 * middle + right) / 2


@pytest.mark.slow
def test_the_best_learning_rate_transfers_under_mup_only(tmp_path: Path, cache_dir: Path) -> None:
    """Yang et al. 2022, figure 1, scaled down: within a grid step of 2 under muP, further off under standard."""
    shift = {
        param: best_log_rate(param, 64, tmp_path, cache_dir) - best_log_rate(param, 256, tmp_path, cache_dir)
        for param in ("mup", "standard")
    }
    assert abs(shift["mup"]) <= 1, shift
    assert shift["standard"] > 1, shift

"""What a record says of the loss before training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conf.config import Config
from tests.helpers import EXPLODING, metrics
from train import loop
from train.record.run import read_run, run_dir
from train.run import run

Tiny = Callable[..., Config]


@pytest.mark.parametrize("overrides", [{}, EXPLODING])
def test_the_loss_at_init_is_recorded_whatever_becomes_of_the_run(tiny: Tiny, overrides: dict[str, float]) -> None:
    """Also where it diverged."""
    config = tiny(*(f"{key}={value}" for key, value in overrides.items()))
    record = run(config)
    assert record["state"] == ("diverged" if overrides else "finished")
    first = metrics(run_dir(config))[0]
    assert first["step"] == 0
    assert record["loss_at_init"] == (read_run(run_dir(config)) or {})["loss_at_init"] == first["val_loss"]
    assert record["loss_at_init"] != record.get("val_loss")


def test_a_resumed_run_keeps_its_loss_at_init(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config, step = tiny("train.checkpoint_every=5steps"), loop.step_row

    def stop(job: Any, clock: Any, at: int, **how: Any) -> Any:
        if at == 12:
            raise KeyboardInterrupt
        return step(job, clock, at, **how)

    monkeypatch.setattr(loop, "step_row", stop)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(loop, "step_row", step)
    record = run(config)
    assert record["resumed"][0]["at_step"] == 10
    assert record["loss_at_init"] == metrics(run_dir(config))[0]["val_loss"]
    assert record["loss_at_init"] != record["val_loss"]

"""Scales: a row of a table for each setting, and cells that a study makes of them."""

from __future__ import annotations

import dataclasses

import pytest

from conf.compose import compose
from sweeps.cells.grid import cross, overrides
from sweeps.cells.study import DEVICE, RESERVED
from sweeps.studies.scale import Scale, scales
from train.record.manifest import PROFILES

ROWS = {
    "widths": ((16,), (32, 64), (128, 512)),
    "depths": ((1,), (2,), (4, 8)),
    "head_dim": (16, 32, 64),
    "context": (16, 64, 128),
    "batch": (4, 16, 32),
    "steps": (10, 200, 1000),
    "lrs": ((1e-3,), (1e-3, 3e-3, 1e-2), (1e-3, 1e-2)),
    "seeds": (1, 3, 2),
    "val_windows": (8, 64, 256),
}


def test_each_profile_has_its_column() -> None:
    table = scales(**ROWS)  # type: ignore[arg-type]
    assert list(table) == list(PROFILES) == list(DEVICE)
    for column, scale in enumerate(table.values()):
        assert dataclasses.asdict(scale) == {name: row[column] for name, row in ROWS.items()} | {"probe_every": None}
    with pytest.raises(ValueError, match="shorter"):
        scales(**ROWS | {"steps": (10, 200)})  # type: ignore[arg-type]


@pytest.fixture
def scale() -> Scale:
    return scales(**ROWS, probe_every=(None, "5%", None))["cpu"]  # type: ignore[arg-type]


def test_what_a_scale_says_composes(scale: Scale) -> None:
    config = compose(overrides(scale.training() | scale.model(64, 2)))
    assert (config.data.context, config.train.batch_size, config.eval.sequences) == (64, 16, 64)
    assert (config.train.duration, config.probe.every, config.probe.sequences) == ("200steps", "5%", 4)
    assert (config.model.width, config.model.depth, config.model.head_dim) == (64, 2, 32)
    unprobed = dataclasses.replace(scale, probe_every=None).training()
    assert compose(overrides(unprobed)).probe == compose().probe
    assert unprobed.keys().isdisjoint(RESERVED)


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (31, 1), (32, 1), (64, 2), (512, 16)])
def test_a_model_has_heads_of_the_usual_size_and_one_at_least(scale: Scale, width: int, heads: int) -> None:
    assert scale.wide(width) == {"model.width": width, "model.heads": heads}
    assert scale.model(width, 3) == scale.wide(width) | {"model.depth": 3}


def test_rates_and_seeds_are_axes(scale: Scale) -> None:
    assert scale.rates() == [{"optim.lr": lr} for lr in (1e-3, 3e-3, 1e-2)]
    assert scale.rates(3e-3) == scale.rates()[1:]
    assert scale.each_seed() == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert len(cross(scale.rates(), scale.each_seed())) == 9

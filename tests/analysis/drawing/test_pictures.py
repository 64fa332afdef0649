"""A figure is written beside its numbers, and lines over seeds are of every seed."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds, over_seeds_at
from analysis.drawing.pictures import write_picture

LOSSES = pl.DataFrame({"lr": [0.1, 0.1, 0.01], "loss": [2.0, 8.0, 3.0], "seed": [0, 1, 0]})


def test_a_picture_stands_beside_its_numbers(tmp_path: Path) -> None:
    with style.panels((3.0, 2.0), 1, 2) as (figure, (left, _)):
        left.set_title("loss")
    write_picture(figure, LOSSES, tmp_path / "loss.of.all")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"loss.of.all.png", "loss.of.all.svg", "loss.of.all.csv"}
    assert pl.read_csv(tmp_path / "loss.of.all.csv").equals(LOSSES)


def test_means_over_seeds_come_in_order_with_their_range() -> None:
    assert over_seeds_at(LOSSES, "lr", "loss").rows() == [(0.01, 3.0, 3.0, 3.0), (0.1, 5.0, 2.0, 8.0)]
    log = over_seeds_at(LOSSES, "lr", "loss", pl.len().alias("n"), log=True)
    assert log.row(1) == (0.1, pytest.approx(math.sqrt(16)), 2.0, 8.0, 2)


def test_a_line_leaves_out_what_has_no_logarithm() -> None:
    zero = LOSSES.with_columns(pl.when(pl.col("seed") == 1).then(0.0).otherwise("loss").alias("loss"))
    with style.panels((3.0, 2.0)) as (_, axes):
        assert draw_over_seeds(axes, zero, "lr", "loss", colour="k")["n_seeds"].to_list() == [1, 1]
        assert draw_over_seeds(axes, zero, "lr", "loss", colour="k", log=False)["n_seeds"].to_list() == [1, 2]

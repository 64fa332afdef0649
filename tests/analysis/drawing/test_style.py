"""How figures look: colours by size, axes of counts and of loss, and files that are the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.drawing import style
from analysis.drawing.lines import over_seeds_at
from analysis.drawing.pictures import PICTURES, check_picture
from conf.command_line import SI
from conf.schema import UserError


def darkness(shade: Any) -> float:
    return 1 - float(np.dot(shade[:3], [0.299, 0.587, 0.114]))


@pytest.mark.parametrize("colours", [style.size_colours, style.setting_colours])
def test_colours_darken_with_what_they_stand_for(colours: Any) -> None:
    shades = colours(np.array([3e6, 1e5, 1e6, 1e5]))
    assert list(shades) == [1e5, 1e6, 3e6]  # one for each value, in order
    dark = [darkness(shade) for shade in shades.values()]
    assert dark == sorted(dark)
    assert len(set(dark)) == 3
    assert darkness(colours(np.array([1.0]))[1.0]) > 0.1  # one size alone is visible on white


def test_sizes_and_settings_are_not_of_one_map() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert not np.allclose(style.size_colours(values)[2.0], style.setting_colours(values)[2.0])


def test_the_arms_can_be_told_apart() -> None:
    assert len(set(style.ARMS)) == len(style.ARMS)
    assert style.HELD_OUT not in style.ARMS
    assert style.REFERENCE not in style.ARMS


def test_the_style_ends_with_its_figure() -> None:
    before = matplotlib.rcParams["axes.spines.top"]
    with style.paper():
        assert matplotlib.rcParams["axes.spines.top"] is False
    with style.panels((3.0, 2.0), 2, 3) as (figure, axes):
        assert axes.shape == (2, 3)
        assert tuple(figure.get_size_inches()) == (3.0, 2.0)
    assert matplotlib.rcParams["axes.spines.top"] == before


@pytest.mark.parametrize(("highest", "subs"), [(5e5, (1, 2, 5)), (3e7, (1, 3)), (1e9, (1,))])
def test_ticks_of_counts_are_fewer_where_decades_are_many(highest: float, subs: tuple[int, ...]) -> None:
    with style.panels((3.0, 2.0)) as (_, axes):
        style.count_axis(axes, np.array([1e5, highest]))
        axes.set_xlim(1e5, highest)
        ticks = [tick for tick in axes.get_xticks() if 1e5 <= tick <= highest * (1 + 1e-9)]
    assert {round(tick / 10 ** np.floor(np.log10(tick) + 1e-9)) for tick in ticks} <= set(subs)
    assert len(ticks) >= 2


def test_ticks_of_counts_have_prefixes() -> None:
    assert [style.count_ticks()(value, 0) for value in (300, 3e5, 1e9)] == ["300", "300K", "1B"]
    assert style.count_ticks(SI)(1e9, 0) == "1G"


def test_a_doubling_axis_has_a_tick_at_each_size() -> None:
    with style.panels((3.0, 2.0)) as (_, axes):
        style.doubling_axis(axes, [32, 64, 256], "width")
        assert axes.get_xticks().tolist() == [32, 64, 256]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["32", "64", "256"]
        assert (axes.get_xlabel(), axes.get_xscale()) == ("width", "log")


@settings(deadline=None, max_examples=25)
@given(st.floats(0.5, 10), st.floats(1.02, 5))
def test_a_loss_axis_has_few_round_ticks_within_its_limits(low: float, factor: float) -> None:
    with style.panels((3.0, 2.0)) as (_, axes):
        axes.set_ylim(low, low * factor)
        style.loss_axis(axes)
        ticks, limits = axes.get_yticks(), axes.get_ylim()
    assert limits == pytest.approx((low, low * factor))
    assert len(ticks) <= 8
    if len(ticks) > 1:
        assert np.ptp(np.diff(ticks)) < 1e-9
        step = float(np.diff(ticks)[0])
        assert np.allclose(ticks / step, np.round(ticks / step))
    assert ((ticks >= low - 1e-9) & (ticks <= low * factor + 1e-9)).all()


def test_a_bar_of_sizes_has_a_step_for_each() -> None:
    with style.panels((3.0, 2.0)) as (figure, axes):
        style.size_bar(figure, axes, style.size_colours(np.array([1e5, 3e6])), "parameters")
        bar = figure.axes[-1]
        assert [label.get_text() for label in bar.get_yticklabels()] == ["100K", "3M"]
        assert bar.get_ylabel() == "parameters"


@pytest.mark.parametrize("kind", [name.removeprefix(".") for name in PICTURES])
def test_the_same_figure_is_the_same_file(kind: str, tmp_path: Path) -> None:
    def draw(height: float, name: str) -> bytes:
        with style.panels((1.0, 1.0)) as (figure, axes):
            axes.plot([0, 1], [0, height])
        return style.write_figure(figure, tmp_path / f"{name}.{kind}").read_bytes()

    assert draw(1.0, "a") == draw(1.0, "b")
    assert draw(1.0, "a") != draw(2.0, "c")


def test_a_name_that_is_no_picture_is_refused() -> None:
    for name in (*(f"loss{kind}" for kind in PICTURES), "a.b.png"):
        check_picture("--plot", Path(name))
    check_picture("--plot", None)
    for name in ("loss.jpeg", "loss", "loss.PNG", ".png"):
        with pytest.raises(
            UserError, match=r"--plot .*: not a picture; allowed: a name that ends in \.png, \.svg, \.pdf"
        ):
            check_picture("--plot", Path(name))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2]), st.floats(0.1, 100)), min_size=1, max_size=12))
def test_a_mean_over_seeds_lies_within_their_range(rows: list[tuple[float, float]]) -> None:
    table = pl.DataFrame(rows, schema=["lr", "loss"], orient="row")
    plain, log = (over_seeds_at(table, "lr", "loss", log=log) for log in (False, True))
    for drawn in (plain, log):
        assert drawn["lr"].to_list() == sorted({lr for lr, _ in rows})
        assert (drawn["low"] <= drawn["mean"] + 1e-9).all()
        assert (drawn["mean"] <= drawn["high"] + 1e-9).all()
    assert (log["mean"] <= plain["mean"] + 1e-9).all()  # a geometric mean is never above

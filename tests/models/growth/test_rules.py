"""Where blocks come from, and sizes that cannot be grown into, as far as numbers tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conf.schema import GrowConfig, ModelConfig
from models.growth.rules import GrowthError, Origin, block_sources, check_growth, impossible_sizes, multiples, origins
from models.growth.width import widen_moment

QUICK = settings(max_examples=60, deadline=None)
BLOCKS = st.integers(1, 12)
BASE = ModelConfig(depth=2, width=16, heads=2, attention_scale="1/d")


def sources(few: int, many: int, depth: str) -> list[int | None]:
    return block_sources(few, many, GrowConfig(depth=depth))


@QUICK
@given(BLOCKS, st.integers(1, 5))
def test_whole_copies_use_each_block_equally_often(few: int, times: int) -> None:
    for depth in ("stack", "interpolate", "zero", "templates"):
        assert Counter(sources(few, few * times, depth)) == dict.fromkeys(range(few), times)
    stack = sources(few, few * times, "stack")
    assert stack == list(range(few)) * times
    assert sources(few, few * times, "interpolate") == sorted(stack)  # type: ignore[type-var]


@QUICK
@given(BLOCKS, st.integers(0, 12))
def test_interpolation_keeps_the_order_and_every_block_and_is_as_even_as_can_be(few: int, more: int) -> None:
    taken = sources(few, few + more, "interpolate")
    steps = [b - a for a, b in pairwise(taken)]  # type: ignore[operator]
    assert set(taken) == set(range(few))
    assert set(steps) <= {0, 1}
    counts = Counter(taken).values()
    assert max(counts) - min(counts) <= 1


@QUICK
@given(st.integers(0, 12), st.integers(0, 12))
def test_fresh_blocks_come_after_those_of_the_base(few: int, more: int) -> None:
    assert sources(few, few + more, "random") == [*range(few), *[None] * more]


@QUICK
@given(BLOCKS, BLOCKS, st.sampled_from(["stack", "interpolate", "zero", "random", "templates"]))
def test_blocks_are_added_in_an_order_that_there_is_or_refused(few: int, many: int, depth: str) -> None:
    if many < few:
        with pytest.raises(GrowthError, match=rf"^model\.depth: {many} is less than the base's {few}; .*: {few} or"):
            sources(few, many, depth)
    elif depth == "stack" and many % few:
        with pytest.raises(
            GrowthError, match=f"is no multiple of the base's {few}, .* allowed: {multiples(few, many)}"
        ):
            sources(few, many, depth)
    else:
        assert len(sources(few, many, depth)) == many


@pytest.mark.parametrize("pattern", ["0", "0,1,0", "0,1,0,2", "0,1,0,1,0"])
def test_a_pattern_names_a_block_of_the_base_for_each_place(pattern: str) -> None:
    assert block_sources(2, 4, GrowConfig(depth="pattern", pattern="1,1,0,1")) == [1, 1, 0, 1]
    with pytest.raises(
        GrowthError, match=rf"^grow\.pattern: '{pattern}' is not allowed with model\.depth=4; .* 0 to 1"
    ):
        block_sources(2, 4, GrowConfig(depth="pattern", pattern=pattern))


@QUICK
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 12))
def test_of_a_function_that_is_kept_each_place_is_intact_once(stages: int, repeats: int, more: int) -> None:
    base = replace(BASE, depth=stages * repeats, stages=stages)
    places = origins(base, replace(BASE, depth=base.depth + more), GrowConfig(depth="zero"))
    assert all(place is not None for place in places)
    intact = [place.block for place in places if place is not None and place.intact]
    assert intact == [place // repeats for place in range(base.depth)]  # as the base repeats them


def test_a_fresh_block_comes_from_nowhere() -> None:
    places = origins(BASE, replace(BASE, depth=3), GrowConfig(depth="random"))
    assert places == [Origin(0, intact=True), Origin(1, intact=True), None]


# --- sizes ------------------------------------------------------------------------------------------------


@QUICK
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["direct", "zero", "random", "learn"]))
def test_whole_copies_of_every_size_are_possible_by_any_operator(d: int, heads: int, times: int, operator: str) -> None:
    base = ModelConfig(depth=1, width=2 * d * heads, heads=heads)
    wide = replace(base, width=times * base.width, heads=times * heads)
    assert list(impossible_sizes(base, wide, operator)) == []
    assume(times > 1)
    assert any(line.startswith("model.width: ") for line in impossible_sizes(wide, base, operator))
    assert any(line.startswith("model.heads: ") for line in impossible_sizes(base, replace(wide, heads=1), operator))


@pytest.mark.parametrize(
    ("sizes", "operator", "lines"),
    [
        ({"width": 24, "heads": 3}, "zero", []),
        ({"width": 24, "heads": 3}, "direct", ["model.width: 24 is no multiple", "model.mlp_hidden: 96 is no m"]),
        ({"mlp_hidden": 65}, "random", []),
        ({"mlp_hidden": 65}, "direct", ["model.mlp_hidden: 65 is no multiple of the base's 64"]),
        ({"mlp_hidden": 63}, "zero", ["model.mlp_hidden: 63 is less than the base's 64"]),
        ({"width": 32}, "direct", ["model.heads: 2 gives heads of 16, but the base's have 8"]),
        ({"depth": 0, "mlp_hidden": 1}, "direct", []),  # no block has hidden units
    ],
)  # fmt: skip
def test_each_size_that_cannot_be_is_a_line(sizes: dict[str, int], operator: str, lines: list[str]) -> None:
    problems = list(impossible_sizes(BASE, replace(BASE, **sizes), operator))
    assert len(problems) == len(lines)
    for problem, line in zip(problems, lines, strict=True):
        assert problem.startswith(line)
        assert "allowed: " in problem


def test_the_first_line_is_the_refusal() -> None:
    smaller = replace(BASE, width=8, heads=1, norm="layernorm")
    with pytest.raises(GrowthError, match=r"^model\.norm: 'layernorm' is not the base's; allowed: 'rmsnorm'$"):
        check_growth(BASE, smaller, GrowConfig())
    check_growth(BASE, replace(BASE, depth=4), GrowConfig())


# --- moments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["direct", "zero", "random"])
def test_moments_go_where_their_weights_go_and_are_never_scaled(operator: str) -> None:
    old, fresh = torch.arange(1.0, 7.0).reshape(2, 3), torch.zeros(4, 6)
    grown = widen_moment(old, fresh, operator)
    assert grown[:2, :3].equal(old)
    assert grown.equal(old.repeat(2, 2) if operator == "direct" else torch.nn.functional.pad(old, (0, 3, 0, 2)))
    assert fresh.count_nonzero() == 0  # which stays what it was
    same = widen_moment(old, torch.zeros(2, 3), operator)
    same += 1
    assert old[0, 0] == 1  # a tensor of its own

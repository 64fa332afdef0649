"""New blocks that fade in: nothing of them at first, all of them in the end, and the others as they are."""

from __future__ import annotations

import pytest
import torch

from models.gpt import GPT
from models.growth.ramp import Ramp
from tests.helpers import gpt, tokens


def multipliers(model: GPT) -> list[float]:
    return [sublayer.multiplier for block in model.blocks for sublayer in (block.attention, block.mlp)]  # type: ignore[union-attr]


def test_the_new_blocks_alone_fade_in_by_equal_steps() -> None:
    model = gpt()
    ramp = Ramp(model, multiplier=0.5, blocks=range(2, 4), n_steps=4)
    for step, share in enumerate([0, 0.25, 0.5, 0.75, 1, 1, 1]):
        ramp.set(step)
        assert multipliers(model) == [1.0] * 4 + [0.5 * share] * 4
    ramp.set(1)  # as where steps are made again
    assert multipliers(model)[-1] == 0.125


@pytest.mark.parametrize(("placement", "identity"), [("pre", True), ("peri", True), ("post", False)])
def test_at_first_a_new_block_is_not_there_but_in_post_norm(placement: str, identity: bool) -> None:
    model, x = gpt(f"model.norm_placement={placement}"), tokens(2, 16, 50)
    whole = model(x)
    ramp = Ramp(model, multiplier=1.0, blocks=range(2, 4), n_steps=10)
    ramp.set(0)
    faded = model(x)
    assert not torch.equal(whole, faded)
    without = gpt(f"model.norm_placement={placement}", "model.depth=2")  # whose weights are those of the first blocks
    assert torch.allclose(without(x), faded, atol=1e-6)  # in post-norm too, while the gains are those of the init
    with torch.no_grad():
        for block in list(model.blocks)[2:]:
            for parameter in block.parameters():
                parameter.mul_(torch.rand_like(parameter))
    assert torch.allclose(model(x), faded, atol=1e-6) == identity

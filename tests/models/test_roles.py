"""What the modules declare of their weights, against the model that they make."""

from __future__ import annotations

import pytest
import torch

from models.gpt import GPT
from models.growth.grow import outline
from models.roles import GAINS, Role, Weight, named_weights
from tests.models.growth.test_grow import ARCHITECTURES, T, V, fresh_model, of, settings

TEMPLATES = ["model.templates=3", "model.activation=swiglu"]
EVERY = pytest.mark.parametrize("names", [*ARCHITECTURES, TEMPLATES], ids=str)


def lengths(model: GPT) -> dict[str, set[int]]:
    """How long the axes of each name are."""
    seen: dict[str, set[int]] = {}
    for _, parameter, weight in named_weights(model):
        for axis, size in zip(weight.axes, parameter.shape, strict=True):
            seen.setdefault(axis, set()).add(size)
    return seen


@EVERY
def test_axes_of_one_name_are_of_one_length(names: list[str]) -> None:
    """Every size another one, but for those that are the width by definition."""
    config = settings(*names, **{**of(names), "heads": 4})
    cfg = config.model
    sizes = {"residual": cfg.width, "hidden": cfg.hidden, "head": cfg.head_dim, "templates": cfg.templates}
    sizes |= dict.fromkeys(("query", "key", "value"), cfg.width) | {"vocabulary": V, "positions": T}
    sizes |= {f"{name}_tokens": cfg.param_tokens for name in ("query", "key", "value", "out")}
    assert all(found == {sizes[axis]} for axis, found in lengths(fresh_model(config)).items())


def test_swapped_axes_are_seen() -> None:
    model = fresh_model(settings())
    up = model.blocks[0].mlp.branch.up
    up.declared = {"weight": Weight(Role.HIDDEN, ("residual", "hidden"), summed=1)}
    assert len(lengths(model)["hidden"]) == 2


@EVERY
def test_what_is_summed_over_is_the_input(names: list[str]) -> None:
    """The last axis of a matrix, the tokens of values, and of a gain nothing but before a tied readout."""
    config = settings(*names, **of(names))
    for name, parameter, weight in named_weights(fresh_model(config)):
        if weight.role in {Role.EMBEDDING, Role.TIED_EMBEDDING} or weight.role in GAINS:
            tied = name == "final_norm.gain" and config.model.tie_embeddings
            assert weight.summed == (0 if tied else None), name
        elif name.endswith("values"):
            assert weight.axes[weight.summed or 0].endswith(("tokens", "hidden")), name
        else:
            assert weight.summed == parameter.ndim - 1, name
            assert weight.fan_in(parameter.shape) == parameter.shape[-1], name


def test_an_outline_has_shapes_and_no_values() -> None:
    model = fresh_model(settings())
    drawn = outline(model.cfg, model.state_dict())
    assert {name: p.shape for name, p in drawn.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert {p.device for p in drawn.parameters()} == {torch.device("meta")}

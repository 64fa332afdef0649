"""Which settings are in a run's id, one by one, and what `auto` means before they are."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.config import Config, resolve
from conf.identity import NOT_IDENTITY, identity, run_id, settings_of
from conf.schema import ModelConfig, ParamConfig, RuntimeConfig, walk
from tests.conf.test_checks import replaced


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration whose neighbours are not checked either, so that every setting can be moved alone."""
    monkeypatch.setattr(Config, "__post_init__", lambda _: None)
    return Config()


def another(value: Any) -> Any:
    """A value that is not this one."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else f"{value or ''}x"


def test_a_setting_changes_the_id_just_where_it_is_in_the_identity(unchecked: Config) -> None:
    usual = run_id(unchecked)
    moved = {
        path for path, _, value in walk(unchecked) if run_id(replaced(unchecked, path, another(value))) != usual  # type: ignore[arg-type]
    }  # fmt: skip
    assert moved == set(identity(unchecked))
    assert moved.isdisjoint(NOT_IDENTITY)
    assert {path for path, _, _ in walk(unchecked)} == moved | set(NOT_IDENTITY)


def test_no_two_settings_change_the_id_alike(unchecked: Config) -> None:
    ids = [run_id(replaced(unchecked, path, "another")) for path in identity(unchecked)]  # type: ignore[arg-type]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def test_settings_are_in_the_order_of_the_schema_but_for_those_left_out() -> None:
    every = [path for path, _, _ in walk(Config())]
    assert list(settings_of(Config(), without=())) == every
    assert list(settings_of(Config(), without=["seed", "optim.lr"])) == [
        path for path in every if path not in {"seed", "optim.lr"}
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**63 - 1), st.floats(1e-9, 1e3), st.booleans())
def test_a_resolved_configuration_is_its_own_resolution(seed: int, lr: float, cuda: bool) -> None:
    config = dataclasses.replace(Config(seed=seed), optim=dataclasses.replace(Config().optim, lr=lr))
    resolved = resolve(config, cuda=cuda)
    for other in (True, False):
        assert resolve(resolved, cuda=other) == resolved
    assert run_id(resolved) == run_id(resolve(resolved, cuda=not cuda))
    assert run_id(resolved) != run_id(resolve(config, cuda=not cuda))  # another precision


@pytest.mark.parametrize(
    ("device", "precision", "cuda", "expected"),
    [
        ("auto", "auto", True, ("cuda", "bf16")),
        ("auto", "auto", False, ("cpu", "fp32")),
        ("cpu", "auto", True, ("cpu", "fp32")),
        ("cuda", "auto", False, ("cuda", "bf16")),
        ("auto", "fp32", True, ("cuda", "fp32")),
        ("cpu", "bf16", False, ("cpu", "bf16")),
    ],
)
def test_a_device_that_is_said_stays_and_the_precision_follows_it(
    device: str, precision: str, cuda: bool, expected: tuple[str, str]
) -> None:
    runtime = resolve(Config(runtime=RuntimeConfig(device=device, precision=precision)), cuda=cuda).runtime
    assert (runtime.device, runtime.precision) == expected


def test_sizes_that_follow_others_are_said() -> None:
    for activation, hidden in (("gelu", 4 * 24), ("swiglu", 64)):
        model = ModelConfig(width=24, heads=4, activation=activation)
        assert resolve(Config(model=model), cuda=False).model.mlp_hidden == hidden
        said = dataclasses.replace(model, mlp_hidden=hidden)
        assert run_id(resolve(Config(model=said), cuda=False)) == run_id(resolve(Config(model=model), cuda=False))
        assert run_id(Config(model=said)) != run_id(Config(model=model))  # before it is resolved


@pytest.mark.parametrize(
    ("param", "scale"),
    [
        (ParamConfig(), "1/sqrt(d)"),
        (ParamConfig(name="mup"), "1/d"),
        (ParamConfig(name="mup", variant="simple"), "1/sqrt(d)"),
        (ParamConfig(name="mup", variant="intermediate"), "1/sqrt(d)"),
        (ParamConfig(name="mup", without="attention_scale"), "1/sqrt(d)"),
        (ParamConfig(name="mup", without="query_init"), "1/d"),
        (ParamConfig(name="completep"), "1/d"),
    ],
    ids=str,
)
def test_the_attention_scale_follows_the_parametrisation_unless_it_is_said(param: ParamConfig, scale: str) -> None:
    assert resolve(Config(param=param), cuda=False).model.attention_scale == scale
    if param.without == "none":
        said = Config(param=param, model=ModelConfig(attention_scale="1/sqrt(d)"))
        assert resolve(said, cuda=False).model.attention_scale == "1/sqrt(d)"


def test_a_base_is_known_by_its_id_wherever_it_lies() -> None:
    def grown(base: str) -> Config:
        return resolve(Config(grow=dataclasses.replace(Config().grow, base=base, step=1)), cuda=False)

    one = "0123456789abcdef"
    assert grown(one) == grown(f"runs/a/{one}") == grown(f"/elsewhere/{one}/")
    assert run_id(grown(one)) != run_id(grown(one[::-1]))

"""What cannot stand beside what: each refusal with the setting that it names, and the neighbour that passes."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from typing import Any

import pytest

from conf import checks
from conf.config import Config, resolve
from conf.schema import ConfigError, ModelConfig, ParamConfig, Settings, allowed, walk
from models.build import parameter_rules
from models.gpt import GPT
from models.parametrize import Shape, residual_multiplier
from sweeps.cells.grid import GridPoint

MARKOV: GridPoint = {"data.source": "markov", "data.vocab_size": 300}
ZIPF: GridPoint = {"data.source": "zipf", "data.context": 131}  # pairs of five digits and a value: 132 tokens
GROWN: GridPoint = {"grow.base": "0123456789abcdef", "grow.step": 1}
LEARNED: GridPoint = GROWN | {"grow.depth": "learn"}

# The setting that the line begins with, what is refused, and what has to change for it to pass.
IMPOSSIBLE: list[tuple[str, GridPoint, GridPoint]] = [
    # Data that a source does not read.
    ("data.shift_for", {"data.shift_for": "5steps"}, {"data.shift_every": "9steps"}),
    ("data.path", {"data.path": "a.txt"}, {"data.source": "text"}),
    ("data.name", {"data.name": "corpus"}, {"data.source": "hub"}),
    ("data.config", {"data.config": "en"}, {"data.source": "hub", "data.name": "corpus"}),
    ("data.tokenizer", MARKOV | {"data.tokenizer": "bpe"}, {"data.source": "stdlib"}),
    ("data.tokenizer_path", {"data.tokenizer_path": "t.json"}, {"data.tokenizer": "file"}),
    ("data.keys", ZIPF | {"data.source": "stdlib", "data.keys": 999}, {"data.source": "zipf"}),
    ("data.key_digits", ZIPF | {"data.source": "stdlib", "data.key_digits": 10}, {"data.source": "zipf"}),
    ("data.values", ZIPF | {"data.source": "stdlib", "data.values": 9}, {"data.source": "zipf"}),
    ("data.exponent", ZIPF | {"data.source": "stdlib", "data.exponent": 1.0}, {"data.source": "zipf"}),
    ("data.noise", ZIPF | {"data.source": "stdlib", "data.noise": 0.5}, {"data.source": "zipf"}),
    # Data that are not there.
    ("data.path", {"data.source": "text"}, {"data.path": "a.txt"}),
    ("data.path", {"data.source": "text", "data.path": ""}, {"data.path": "a.txt"}),
    ("data.name", {"data.source": "hub"}, {"data.name": "corpus"}),
    ("data.tokenizer_path", {"data.tokenizer": "file"}, {"data.tokenizer_path": "t.json"}),
    ("data.vocab_size", {"data.source": "markov"}, {"data.vocab_size": 2}),
    # Sizes of data.
    ("data.vocab_size", MARKOV | {"data.vocab_size": 2**9 + 1, "data.order": 2}, {"data.vocab_size": 2**9}),
    ("data.vocab_size", {"data.tokenizer": "bpe"}, {"data.vocab_size": 257}),
    ("data.vocab_size", {"data.tokenizer": "bpe", "data.vocab_size": 256}, {"data.vocab_size": 257}),
    ("data.vocab_size", {"data.vocab_size": 300}, {"data.vocab_size": None}),
    ("data.vocab_size", ZIPF | {"data.vocab_size": 300}, {"data.vocab_size": None}),
    ("data.key_digits", ZIPF | {"data.key_digits": 11, "data.keys": 2**10}, {"data.keys": 2**10 + 1}),
    ("data.context", ZIPF | {"data.context": 130}, {"data.context": 125}),
    ("data.context", ZIPF | {"data.context": 4}, {"data.context": 5}),
    ("data.n_tokens", MARKOV | {"data.n_tokens": 4 * 129 - 1}, {"data.n_tokens": 4 * 129}),
    ("data.n_tokens", ZIPF | {"data.n_tokens": 4 * 132 - 1}, {"data.n_tokens": 4 * 132}),
    # The architecture.
    ("model.heads", {"model.width": 30}, {"model.heads": 5}),
    ("model.heads", {"model.width": 9, "model.heads": 3}, {"model.position": "learned"}),
    ("model.layernorm_scaling", {"model.layernorm_scaling": True, "model.norm_placement": "peri"},
     {"model.norm_placement": "pre"}),
    ("model.qk_rms", {"model.qk_rms": 2.0, "model.qk_norm": "head"}, {"model.qk_norm": "none"}),
    ("model.qk_norm", {"model.qk_norm": "qkv", "model.norm_placement": "post"}, {"model.norm_placement": "pre"}),
    ("model.qk_norm", {"model.qk_norm": "qkv", "model.layernorm_scaling": True}, {"model.layernorm_scaling": False}),
    # Weights that blocks share.
    ("model.stages", {"model.stages": 4, "model.depth": 3}, {"model.depth": 4}),
    ("model.stages", {"model.stages": 2, "model.layernorm_scaling": True}, {"model.layernorm_scaling": False}),
    ("model.stages", {"model.stages": 2, "model.norm_placement": "mix"}, {"model.norm_placement": "post"}),
    ("model.activation", {"model.param_tokens": 8, "model.activation": "relu2"}, {"model.activation": "gelu"}),
    ("model.param_tokens", {"model.param_tokens": 8, "model.depth": 0}, {"model.depth": 1}),
    ("model.templates", {"model.templates": 2, "model.depth": 0}, {"model.depth": 1}),
    ("model.param_tau", {"model.param_tau": 0.5}, {"model.param_tokens": 8}),
    ("model.param_tokens", {"model.param_tokens": 8, "model.sigma_reparam": True}, {"model.sigma_reparam": False}),
    ("model.param_tokens", {"model.param_tokens": 8, "model.templates": 2}, {"model.param_tokens": None}),
    ("model.templates", {"model.templates": 2, "model.sigma_reparam": True}, {"model.templates": None}),
    ("model.templates", {"model.templates": 2, "model.stages": 2}, {"model.stages": None}),
    # The course of a run.
    ("train.duration", {"train.duration": "0tok"}, {"train.duration": "1tok"}),
    ("train.log_every", {"train.log_every": "0%"}, {"train.log_every": "1%"}),
    ("train.checkpoint_every", {"train.checkpoint_every": "0steps"}, {"train.checkpoint_every": "1steps"}),
    ("eval.every", {"eval.every": "0tok"}, {"eval.every": "1tok"}),
    ("probe.every", {"probe.every": "0%"}, {"probe.every": None}),
    ("data.shift_every", {"data.shift_every": "0steps"}, {"data.shift_every": "9steps"}),
    ("data.shift_for", {"data.shift_every": "9steps", "data.shift_for": "0%"}, {"data.shift_for": "1%"}),
    ("grow.ramp", GROWN | {"grow.depth": "random", "grow.ramp": "0%"}, {"grow.ramp": "1%"}),
    ("schedule.floor", {"schedule.floor": 1.1}, {"schedule.floor": 1.0}),
    ("schedule.floor", {"schedule.floor": 0.1, "schedule.floor_is": "absolute", "optim.lr": 0.09}, {"optim.lr": 0.1}),
    ("param.readout_scale", {"param.readout_scale": 0.0, "model.tie_embeddings": True}, {"param.readout_scale": 0.1}),
    ("probe.recorder_steps", {"probe.recorder_steps": 9}, {"probe.recorder": True}),
    ("optim.clip", {"optim.clip": None, "optim.clip_by": "tensor"}, {"optim.clip_by": "global"}),
    ("param.without", {"param.without": "hidden_lr"}, {"param.name": "mup"}),
    ("param.without", {"param.without": "residual_multiplier", "param.name": "mup"}, {"param.name": "completep"}),
    ("model.depth", {"model.depth": 0, "param.name": "completep"}, {"param.name": "mup"}),
    ("model.depth", {"model.depth": 0, "param.scaled_residual_init": True}, {"model.depth": 1}),
    ("model.depth", {"model.depth": 0, "eval.layers": True}, {"eval.layers": False}),
    ("param.scaled_residual_init", {"param.scaled_residual_init": True, "param.name": "completep"},
     {"param.name": "mup"}),
    # Growth.
    ("train.keep", {"train.keep": "1,-2"}, {"train.keep": "1,2"}),
    ("grow.pattern", GROWN | {"grow.depth": "pattern", "grow.pattern": "0 1"}, {"grow.pattern": "0,1"}),
    ("grow.step", {"grow.step": 1}, {"grow.base": "0123456789abcdef"}),
    ("grow.schedule", {"grow.schedule": "continue"}, GROWN),
    ("grow.base", GROWN | {"grow.base": "0123456789ABCDEF"}, {"grow.base": "runs/a/0123456789abcdef/"}),
    ("grow.step", GROWN | {"grow.step": None}, {"grow.step": 0}),
    ("grow.pattern", GROWN | {"grow.pattern": "0,1"}, {"grow.depth": "pattern"}),
    ("grow.pattern", GROWN | {"grow.depth": "pattern"}, {"grow.pattern": "0,1"}),
    ("grow.ramp", GROWN | {"grow.ramp": "5%"}, {"grow.depth": "random"}),
    ("grow.ramp", GROWN | {"grow.ramp": "5%", "grow.depth": "random", "runtime.compile": True},
     {"runtime.compile": False}),
    ("grow.learn_steps", GROWN | {"grow.learn_steps": 5}, {"grow.width": "learn"}),
    ("grow.learn_lr", GROWN | {"grow.learn_lr": 0.5}, {"grow.depth": "learn"}),
    ("grow.optimizer", LEARNED | {"grow.optimizer": "carry"}, {"grow.depth": "stack"}),
    ("grow.optimizer", GROWN | {"grow.depth": "templates", "grow.optimizer": "carry"}, {"grow.optimizer": "reset"}),
    ("grow.noise", LEARNED | {"grow.noise": 0.1}, {"grow.depth": "stack"}),
    ("data.shift_every", GROWN | {"data.shift_every": "40steps"}, {"data.shift_every": None}),
    # Where it goes.
    ("study", {"study": "a//b"}, {"study": "a/b"}),
    ("study", {"study": "a/.."}, {"study": "a/..b"}),
    ("study", {"study": ""}, {"study": "_"}),
]  # fmt: skip


def replaced(settings: Settings, path: str, value: Any) -> Settings:
    """The settings with one of them another, not checked."""
    group, _, name = path.rpartition(".")
    if not group:
        return dataclasses.replace(settings, **{name: value})
    return dataclasses.replace(settings, **{group: dataclasses.replace(getattr(settings, group), **{name: value})})


def check(changes: GridPoint) -> None:
    """Check the default settings with these changes."""
    settings = Settings()
    for path, value in changes.items():
        settings = replaced(settings, path, value)
    checks.check(settings)


def refusal(changes: GridPoint) -> str:
    """The line that they are refused with."""
    with pytest.raises(ConfigError) as caught:
        check(changes)
    return str(caught.value)


@pytest.mark.parametrize(("key", "settings", "change"), IMPOSSIBLE, ids=str)
def test_what_cannot_be_is_refused_by_name_and_its_neighbour_passes(
    key: str, settings: GridPoint, change: GridPoint
) -> None:
    line = refusal(settings)
    assert line.startswith(f"{key}: ")
    assert "\n" not in line
    check(settings | change)


def refusals(source: str) -> list[str]:
    """A regular expression for each line that functions of a module yield."""
    yields = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Yield)]
    patterns = []
    for value in yields:
        parts = value.values if isinstance(value, ast.JoinedStr) else [value]
        patterns.append("".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".*" for p in parts))
    return patterns


def test_every_refusal_has_a_row() -> None:
    """A new one has to be shown here, with what passes beside it."""
    lines = [refusal(settings) for _, settings, _ in IMPOSSIBLE]
    unseen = [one for one in refusals(inspect.getsource(checks)) if not any(re.fullmatch(one, line) for line in lines)]
    assert unseen == []
    new = 'def check():\n    yield f"optim.lr: {lr:g} is odd; allowed: even"'
    assert not any(re.fullmatch(one, line) for one in refusals(new) for line in lines)


# --- ranges ----------------------------------------------------------------------------------------------


SPECS = {path: spec for path, spec, _ in walk(Settings())}
BOUNDED = {path: spec for path, spec in SPECS.items() if spec.metadata["bounds"]}
CHOSEN = {path: spec for path, spec in SPECS.items() if spec.metadata["choices"]}
TIMED = {path: spec for path, spec in SPECS.items() if spec.metadata["duration"]}


@pytest.mark.parametrize("path", BOUNDED)
def test_a_bound_is_where_it_says(path: str) -> None:
    """What lies outside is refused with the bounds in words; open ends are outside, and closed ones are not."""
    outside = {"gt": 0, "ge": -1, "lt": 0, "le": 1}
    for name, bound in BOUNDED[path].metadata["bounds"].items():
        value = type(BOUNDED[path].default or 1)(bound + outside[name])
        assert refusal({path: value}) == f"{path}: {value!r} is not allowed; allowed: {allowed(BOUNDED[path])}"
    check({path: BOUNDED[path].default})


@pytest.mark.parametrize("path", [path for path, spec in BOUNDED.items() if isinstance(spec.default, float)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_number_that_is_none_passes(path: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(path)}: {value!r} is not allowed; allowed: "):
        check({path: value})


@pytest.mark.parametrize("path", CHOSEN)
def test_a_choice_is_one_of_those_named(path: str) -> None:
    for wrong in ("", "nothing", CHOSEN[path].metadata["choices"][0].upper()):
        assert refusal({path: wrong}).endswith(f"allowed: {', '.join(CHOSEN[path].metadata['choices'])}")


@pytest.mark.parametrize("path", TIMED)
def test_a_length_has_a_unit_that_it_may_have(path: str) -> None:
    wrong = ["5", "5 steps", "-5steps", ""] + (["5%"] if "%" not in TIMED[path].metadata["duration"] else [])
    for text in wrong:
        with pytest.raises(ConfigError, match=rf"^{re.escape(path)}: .* allowed: a number with a unit of steps, tok"):
            check({path: text})


# --- rules that can be switched off -----------------------------------------------------------------------

V, T = 11, 4
SWITCHES = [without for without in SPECS["param.without"].metadata["choices"] if without != "none"]
PARAMS: list[dict[str, Any]] = [
    {"name": "standard"},
    *({"name": "mup", "variant": variant} for variant in ("simple", "intermediate", "full")),
    {"name": "mup", "init": "constant"},
    {"name": "mup", "embedding_std": 0.5},
    {"name": "completep"},
]
MODELS: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": True},
    {"depth": 0},
    {"qk_norm": "head"},
    {"qk_rms": 2.0},
    {"sigma_reparam": True},
    {"attention_scale": "1/d"},
]


def effect(model: ModelConfig, param: ParamConfig) -> object:
    """All that a parametrisation decides about a model, whether or not the two are allowed together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "__post_init__", lambda _: None)
        model = resolve(Config(model=model, param=param), cuda=False).model
    built = GPT(model, vocab_size=V, context=T, residual_multiplier=1.0, logit_multiplier=1.0)
    scale = model.attention_scale if model.depth else None
    return parameter_rules(built, param), residual_multiplier(param, Shape(model.width, model.depth)), scale


@pytest.mark.parametrize("chosen", PARAMS, ids=str)
@pytest.mark.parametrize("sizes", MODELS, ids=str)
def test_a_rule_can_be_switched_off_just_where_that_changes_something(
    chosen: dict[str, Any], sizes: dict[str, Any]
) -> None:
    model = ModelConfig(**{"width": 16, "heads": 2, "depth": 2} | sizes)
    param = ParamConfig(**chosen, base_width=8, base_depth=4)
    if param.name == "completep" and not model.depth:
        return
    for without in SWITCHES:
        switched = dataclasses.replace(param, without=without)
        changes = effect(model, switched) != effect(model, param)
        if changes:
            Config(model=model, param=switched)
            continue
        with pytest.raises(ConfigError, match=rf"^param\.without: {without!r} changes nothing with param\.name="):
            Config(model=model, param=switched)

"""The schema: durations, ranges, composition, and that what is written reads back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.compose import compose, read_config, to_yaml
from conf.config import Config, resolve
from conf.duration import Duration
from conf.identity import NOT_IDENTITY
from conf.schema import ConfigError, walk


@pytest.mark.parametrize(
    ("text", "duration"),
    [("500steps", (500, "steps")), ("2e6tok", (2e6, "tok")), ("20tok/param", (20, "tok/param")), (".5%", (0.5, "%"))],
)
def test_durations_carry_units(text: str, duration: tuple[float, str]) -> None:
    assert Duration.parse(text) == duration


@pytest.mark.parametrize("text", ["500", "steps", "5 steps", "-5steps", "5tokens", "", "nan%", "1e6 tok", "1e400tok"])
def test_a_number_without_a_unit_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_steps_and_tokens_agree(n_steps: int, tokens_per_step: int) -> None:
    sizes = {"tokens_per_step": tokens_per_step, "n_params": 7}
    assert Duration(n_steps * tokens_per_step, "tok").steps(**sizes) == n_steps
    assert Duration(n_steps, "steps").steps(**sizes) == n_steps
    assert Duration(n_steps * tokens_per_step / 7, "tok/param").steps(**sizes) == n_steps
    assert Duration(100, "%").steps(**sizes, run_steps=n_steps) == n_steps


def test_a_share_needs_a_run() -> None:
    with pytest.raises(ValueError, match="share of the run"):
        Duration(5, "%").steps(tokens_per_step=1, n_params=1)


def test_every_setting_says_what_it_means() -> None:
    for path, spec, value in walk(Config()):
        assert spec.metadata["doc"], path
        assert value is None or not spec.metadata["choices"] or value in spec.metadata["choices"], path


def test_identity_exclusions_are_settings() -> None:
    """A key that was renamed would quietly come back into the identity."""
    paths = [path for path, _, _ in walk(Config())]
    for key in NOT_IDENTITY:
        assert any(path == key or path.startswith(f"{key}.") for path in paths), key


def test_configs_are_frozen_and_checked_when_replaced() -> None:
    config = compose()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ConfigError, match="seed: -1 is not allowed"):
        dataclasses.replace(config, seed=-1)


def test_written_configs_read_back(tmp_path: Path) -> None:
    config = resolve(compose(["model=gpt_1m", "optim.lr=1.2345678901234567e-3", "optim.clip=null"]), cuda=False)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config
    (tmp_path / "config.yaml").write_text("optim: {rate: 1}")
    with pytest.raises(ConfigError, match="optim"):
        read_config(tmp_path / "config.yaml")


def test_resolution_leaves_no_auto() -> None:
    for cuda, device, precision in ((False, "cpu", "fp32"), (True, "cuda", "bf16")):
        resolved = resolve(compose(), cuda=cuda)
        assert (resolved.runtime.device, resolved.runtime.precision) == (device, precision)
        assert resolved.model.attention_scale == "1/sqrt(d)"
        assert resolve(resolved, cuda=not cuda) == resolved


BASE = "grow.base=runs/scratch/0123456789abcdef"
LEARN = [BASE, "grow.step=1", "grow.depth=learn"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["foo=1"], "foo: unknown key; allowed: study, seed"),
        (["+optim.foo=1"], "optim.foo: unknown key"),
        (["optim=1"], "optim: 1 is not a choice"),
        (["optim.lr.x=1"], "optim.lr.x: unknown key; optim.lr is a value"),
        (["~optim"], "cannot be deleted"),
        (["optim.lr=1,2"], "many runs are"),
        (["model.depth=2.5"], "model.depth: '2.5' is not allowed; allowed: integer"),
        (["model.depth=null"], "model.depth: null is not allowed"),
        (["optim.lr=nan"], "optim.lr: nan is not allowed; allowed: > 0"),
        (["optim.lr=inf"], "optim.lr: inf is not allowed"),
        (["model.norm=batch"], "model.norm: 'batch' is not allowed; allowed: rmsnorm, layernorm"),
        (["model.heads=3", "model.width=9"], "model.heads: 3 gives heads of 3"),
        (["data=markov", "data.vocab_size=10000", "data.order=2"], "data.vocab_size: 10000 symbols"),
        (["data.tokenizer=bpe"], "data.vocab_size: None is not allowed with data.tokenizer=bpe"),
        (["data.vocab_size=300"], "data.vocab_size: 300 is not allowed with data.tokenizer=bytes"),
        (["schedule.floor=2"], "schedule.floor: 2 is above the peak"),
        (["model.tie_embeddings=true", "param.readout_scale=0"], "param.readout_scale: 0 is not allowed"),
        (["data.path=my.txt"], "data.path: 'my.txt' does nothing with data.source=stdlib"),
        (["study=."], "study: '.' is not allowed"),
        (["optim.lr=???"], "cannot be deleted or left open"),
        (["study=../other"], "study: '../other' is not allowed"),
        (["a b"], "a b"),
        (["train.keep='1;2'"], "train.keep: '1;2' is not allowed; allowed: whole numbers joined by ','"),
        (["grow.noise=0.2"], "grow.noise: 0.2 does nothing without grow.base"),
        (["grow.base=mine", "grow.step=1"], "grow.base: 'mine' is no run"),
        ([BASE], "grow.step: null is not allowed with grow.base"),
        ([BASE, "grow.step=-1"], "grow.step: -1 is not allowed; allowed: >= 0"),
        ([BASE, "grow.step=1", "grow.pattern='0,1'"], "grow.pattern: '0,1' is not allowed with grow.depth=stack"),
        ([BASE, "grow.step=1", "grow.ramp=5%"], "grow.ramp: '5%' does nothing with grow.depth=stack"),
        ([BASE, "grow.step=1", "grow.learn_steps=5"], "grow.learn_steps: does nothing without"),
        ([*LEARN, "grow.noise=0.1"], "grow.noise: 0.1 is not allowed with a learned map; allowed: 0"),
        ([*LEARN, "grow.optimizer=carry"], "grow.optimizer: 'carry' is not allowed with a learned map"),
        (
            [BASE, "grow.step=1", "grow.depth=templates", "grow.optimizer=carry"],
            "grow.optimizer: 'carry' is not allowed with grow.depth=templates",
        ),
        ([BASE, "grow.step=1", "data.shift_every=9steps"], "data.shift_every: is not allowed with grow.base"),
        (["model.stages=9"], "model.stages: 9 is more than model.depth"),
        (["model.stages=2", "model.layernorm_scaling=true"], "model.stages: 2 is not allowed with"),
        (["model.stages=2", "model.templates=2"], "model.templates: 2 is not allowed with model.stages=2"),
        (["model.param_tau=0.5"], "model.param_tau: 0.5 does nothing with model.param_tokens=null"),
        (["model.param_tokens=8", "model.activation=swiglu"], "model.activation: 'swiglu' does nothing"),
        (["model.param_tokens=8", "model.templates=2"], "model.param_tokens: 8 is not allowed with"),
        (["model.templates=2", "model.sigma_reparam=true"], "model.templates: 2 is not allowed with"),
        (["model.depth=0", "model.templates=2"], "model.templates: 2 does nothing with model.depth=0"),
    ],
)
def test_mistakes_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

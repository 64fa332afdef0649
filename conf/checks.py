"""What the settings of a run may be: `check(Settings(…))` raises `ConfigError`, or does nothing.

Each setting in its range first, as `conf.schema` says beside it, then all of them beside each other. An error is one
line with the key's full path, the value and what is allowed. Nothing is repaired.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from conf.duration import Duration, parse_steps
from conf.schema import (
    BYTES_VOCAB,
    RUN,
    ConfigError,
    DataConfig,
    GrowConfig,
    ModelConfig,
    ProbeConfig,
    Settings,
    allowed,
    walk,
)

_BOUND_HOLDS = {
    "gt": lambda value, bound: value > bound,
    "ge": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "le": lambda value, bound: value <= bound,
}


def _check_value(path: str, spec: dataclasses.Field[Any], value: Any) -> None:
    if value is None:
        return
    bad = bool(spec.metadata["choices"]) and value not in spec.metadata["choices"]
    if spec.metadata["duration"]:
        try:
            bad = Duration.parse(value).unit not in spec.metadata["duration"]
        except ValueError:
            bad = True
    # `not (value > bound)` also catches NaN
    bad = bad or any(not _BOUND_HOLDS[name](value, bound) for name, bound in spec.metadata["bounds"].items())
    if bad or (isinstance(value, float) and value == float("inf")):
        raise ConfigError(f"{path}: {value!r} is not allowed; allowed: {allowed(spec) or 'a finite number'}")


def check(config: Settings) -> None:
    """Ranges of every setting, then the facts between settings. Raises `ConfigError`; repairs nothing."""
    for path, spec, value in walk(config):
        _check_value(path, spec, value)
    for group in (_check_data(config.data), _check_model(config.model), _check_training(config), _check_growth(config)):
        for problem in group:
            raise ConfigError(problem)
    if re.fullmatch(r"[\w.\-]+(/[\w.\-]+)*", config.study) is None or not all(
        map(re.compile(r"[^.]").search, config.study.split("/"))
    ):
        raise ConfigError(f"study: {config.study!r} is not allowed; allowed: names joined by '/'")


# Settings that would be passed over without a word: the run would be on other data than the user thinks.
_DATA_NEEDS = (
    ("path", "source", ("text",)),
    ("name", "source", ("hub",)),
    ("config", "source", ("hub",)),
    ("tokenizer", "source", ("stdlib", "text", "hub")),
    ("tokenizer_path", "tokenizer", ("file",)),
    ("keys", "source", ("zipf",)),
    ("key_digits", "source", ("zipf",)),
    ("values", "source", ("zipf",)),
    ("exponent", "source", ("zipf",)),
    ("noise", "source", ("zipf",)),
)


def _check_data(data: DataConfig) -> Iterator[str]:
    if data.shift_every is None and data.shift_for != DataConfig().shift_for:
        yield f"data.shift_for: {data.shift_for!r} does nothing without data.shift_every; allowed: with it"
    for name, other, needed in _DATA_NEEDS:
        value, there = getattr(data, name), getattr(data, other)
        if value != getattr(DataConfig(), name) and there not in needed:
            allowed_there = f"data.{other}={' or '.join(needed)}"
            yield f"data.{name}: {value!r} does nothing with data.{other}={there}; allowed: with {allowed_there}"
    if data.source == "text" and not data.path:
        yield "data.path: null is not allowed with data.source=text; allowed: files or globs"
    if data.source == "hub" and not data.name:
        yield "data.name: null is not allowed with data.source=hub; allowed: a data set or a local folder"
    if data.source == "markov":
        if data.vocab_size is None:
            yield "data.vocab_size: null is not allowed with data.source=markov; allowed: the number of symbols"
        elif data.vocab_size ** (data.order + 1) > 2**27:
            yield (
                f"data.vocab_size: {data.vocab_size} symbols at data.order={data.order} make a table of "
                f"{data.vocab_size ** (data.order + 1)} entries; allowed: at most {2**27}"
            )
    elif data.source == "zipf":
        yield from _check_zipf(data)
    elif data.tokenizer == "bpe" and (data.vocab_size is None or data.vocab_size < BYTES_VOCAB):
        yield f"data.vocab_size: {data.vocab_size} is not allowed with data.tokenizer=bpe; allowed: >= {BYTES_VOCAB}"
    elif data.tokenizer != "bpe" and data.vocab_size is not None:
        yield (
            f"data.vocab_size: {data.vocab_size} is not allowed with data.tokenizer={data.tokenizer}, "
            "which has its own; allowed: null"
        )
    if data.source in {"markov", "zipf"} and data.n_tokens < 4 * data.window_tokens:
        yield f"data.n_tokens: {data.n_tokens} is not allowed; allowed: >= {4 * data.window_tokens} (4 windows)"
    if data.tokenizer == "file" and not data.tokenizer_path:
        yield "data.tokenizer_path: null is not allowed with data.tokenizer=file; allowed: a tokenizer.json"


def _check_zipf(data: DataConfig) -> Iterator[str]:
    if data.vocab_size is not None:
        yield (
            f"data.vocab_size: {data.vocab_size} is not allowed with data.source=zipf, "
            "where it follows from keys, key_digits and values; allowed: null"
        )
    enough = (data.keys - 1).bit_length()
    if data.key_digits > enough:
        yield f"data.key_digits: {data.key_digits} is more than data.keys={data.keys} needs; allowed: <= {enough}"
    pair = data.key_digits + 1
    if data.window_tokens % pair:
        fitting = {max(1, data.window_tokens // pair) * pair - 1, (data.window_tokens // pair + 1) * pair - 1}
        yield (
            f"data.context: {data.context} cuts pairs of {data.key_digits} digits and a value; "
            f"allowed: a multiple of {pair}, minus 1, such as {' or '.join(map(str, sorted(fitting)))}"
        )


def _check_model(model: ModelConfig) -> Iterator[str]:
    if model.width % model.heads:
        divisors = [n for n in range(1, min(model.width, 1024) + 1) if model.width % n == 0]
        yield (
            f"model.heads: {model.heads} does not divide model.width={model.width}; "
            f"allowed: {', '.join(map(str, divisors))}"
        )
    if model.position == "rope" and model.head_dim % 2:
        yield (
            f"model.heads: {model.heads} gives heads of {model.head_dim}, but model.position=rope turns pairs; "
            "allowed: an even model.width / model.heads"
        )
    if model.layernorm_scaling and model.norm_placement != "pre":
        yield (
            f"model.layernorm_scaling: true is not allowed with model.norm_placement={model.norm_placement}; "
            "allowed: pre"
        )
    if model.qk_rms is not None and model.qk_norm != "none":
        yield f"model.qk_rms: {model.qk_rms:g} is not allowed with model.qk_norm={model.qk_norm}; allowed: none"
    if model.qk_norm == "qkv" and (model.norm_placement != "pre" or model.layernorm_scaling):
        other = "layernorm_scaling=true" if model.layernorm_scaling else f"norm_placement={model.norm_placement}"
        yield f"model.qk_norm: 'qkv' is not allowed with model.{other}; allowed: with pre, and without scaling"

    yield from _check_shared_weights(model)


def _check_shared_weights(model: ModelConfig) -> Iterator[str]:
    if model.stages is not None and model.stages > model.depth:
        yield f"model.stages: {model.stages} is more than model.depth={model.depth}; allowed: <= {model.depth}"
    if model.stages is not None and (model.layernorm_scaling or model.norm_placement == "mix"):
        other = "layernorm_scaling=true" if model.layernorm_scaling else "norm_placement=mix"
        yield f"model.stages: {model.stages} is not allowed with model.{other}, which goes by place; allowed: null"
    if model.param_tokens is not None and model.activation != "gelu":
        yield (
            f"model.activation: {model.activation!r} does nothing with model.param_tokens={model.param_tokens}; "
            "allowed: gelu"
        )
    for name in ("param_tokens", "templates"):
        if model.depth == 0 and getattr(model, name) is not None:
            yield f"model.{name}: {getattr(model, name)} does nothing with model.depth=0; allowed: null"
    if model.param_tokens is None and model.param_tau != 1:
        yield f"model.param_tau: {model.param_tau:g} does nothing with model.param_tokens=null; allowed: 1"
    if model.param_tokens is not None and (model.sigma_reparam or model.templates is not None):
        other = "sigma_reparam=true" if model.sigma_reparam else f"templates={model.templates}"
        yield f"model.param_tokens: {model.param_tokens} is not allowed with model.{other}; allowed: null"
    if model.templates is not None and model.sigma_reparam:
        yield f"model.templates: {model.templates} is not allowed with model.sigma_reparam=true; allowed: null"
    if model.templates is not None and model.stages is not None:
        yield f"model.templates: {model.templates} is not allowed with model.stages={model.stages}; allowed: null"


def _rules(config: Settings) -> set[str]:
    """What `param.without` can switch off: the rules of the parametrisation that change something here."""
    param, model = config.param, config.model
    rules = set()
    if param.scales_width:
        rules |= {"hidden_init", "hidden_lr"} if model.depth else set()
        if not model.tie_embeddings:
            rules |= {"readout_lr"}
            rules |= set() if param.name == "mup" and param.variant == "simple" else {"readout_init"}
    if param.scales_everything:
        rules |= {"attention_scale"} if model.depth and model.attention_scale != "1/d" else set()
        rules |= {"embedding_std"} if param.embedding_std is None and param.init == "fan_in" else set()
    plain_queries = model.qk_norm == "none" and model.qk_rms is None and not model.sigma_reparam
    if param.name == "mup" and param.variant == "full" and model.depth and plain_queries:
        rules |= {"query_init"}
    if param.name == "completep":
        rules |= {"residual_multiplier"}
    return rules


def _check_training(config: Settings) -> Iterator[str]:
    if Duration.parse(config.train.duration).value == 0:
        yield f"train.duration: {config.train.duration!r} is not allowed; allowed: more than zero"
    for path, text in (
        ("train.log_every", config.train.log_every),
        ("train.checkpoint_every", config.train.checkpoint_every),
        ("eval.every", config.eval.every),
        ("probe.every", config.probe.every),
        ("data.shift_every", config.data.shift_every),
        ("data.shift_for", config.data.shift_for),
        ("grow.ramp", config.grow.ramp),
    ):
        if text is not None and Duration.parse(text).value == 0:
            yield f"{path}: {text!r} is not allowed; allowed: more than zero"
    schedule = config.schedule
    peak = 1.0 if schedule.floor_is == "relative" else config.optim.lr
    if schedule.floor > peak:
        yield f"schedule.floor: {schedule.floor:g} is above the peak of {peak:g}; allowed: <= {peak:g}"
    if config.model.tie_embeddings and config.param.readout_scale == 0:
        yield "param.readout_scale: 0 is not allowed with model.tie_embeddings=true: nothing would learn; allowed: > 0"
    if config.probe.recorder_steps != ProbeConfig().recorder_steps and not config.probe.recorder:
        yield (
            f"probe.recorder_steps: {config.probe.recorder_steps} does nothing with probe.recorder=false; "
            "allowed: with true"
        )
    if config.optim.clip is None and config.optim.clip_by != "global":
        yield f"optim.clip: null is not allowed with optim.clip_by={config.optim.clip_by}; allowed: > 0"
    if config.param.without not in _rules(config) | {"none"}:
        yield (
            f"param.without: {config.param.without!r} changes nothing with param.name={config.param.name} and this "
            f"model; allowed: {', '.join(['none', *sorted(_rules(config))])}"
        )
    if config.model.depth == 0:
        for path, blocks_needed in (
            ("param.name=completep", config.param.name == "completep"),
            ("param.scaled_residual_init=true", config.param.scaled_residual_init),
            ("eval.layers=true", config.eval.layers),
        ):
            if blocks_needed:
                yield f"model.depth: 0 is not allowed with {path}; allowed: >= 1"
    if config.param.name == "completep" and config.param.scaled_residual_init:
        yield "param.scaled_residual_init: true is not allowed with param.name=completep; allowed: false"


def _check_growth(config: Settings) -> Iterator[str]:
    grow = config.grow
    for path, text in (("train.keep", config.train.keep), ("grow.pattern", grow.pattern)):
        try:
            parse_steps(text or "0")
        except ValueError as error:
            yield f"{path}: {error}"
    if grow.base is None:
        for path, spec, value in walk(grow, "grow."):
            if value != spec.default:
                yield f"{path}: {value!r} does nothing without grow.base; allowed: with the id of a run"
        return
    if RUN.fullmatch(grow.base) is None:
        yield f"grow.base: {grow.base!r} is no run; allowed: a run's folder, whose name is 16 hexadecimal digits"
    if grow.step is None:
        yield "grow.step: null is not allowed with grow.base; allowed: a step of that run"
    if (grow.pattern is not None) != (grow.depth == "pattern"):
        yield f"grow.pattern: {grow.pattern!r} is not allowed with grow.depth={grow.depth}; allowed: both, or neither"
    if grow.ramp is not None and grow.depth != "random":
        yield f"grow.ramp: {grow.ramp!r} does nothing with grow.depth={grow.depth}; allowed: with random"
    if grow.ramp is not None and config.runtime.compile:
        yield f"grow.ramp: {grow.ramp!r} is not allowed with runtime.compile=true: each step would compile again"
    learns = "learn" in {grow.depth, grow.width}
    for name in ("learn_steps", "learn_lr"):
        if not learns and getattr(grow, name) != getattr(GrowConfig(), name):
            yield f"grow.{name}: does nothing without grow.depth=learn or grow.width=learn; allowed: with one of them"
    if grow.optimizer == "carry" and (learns or grow.depth == "templates"):
        made_anew = "a learned map" if learns else "grow.depth=templates"
        yield f"grow.optimizer: 'carry' is not allowed with {made_anew}, whose weights have no moments; allowed: reset"
    if learns and grow.noise:
        yield f"grow.noise: {grow.noise:g} is not allowed with a learned map; allowed: 0"
    if config.data.shift_every is not None:
        yield "data.shift_every: is not allowed with grow.base; allowed: null"

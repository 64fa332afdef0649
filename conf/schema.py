"""Every setting of a run: its default, its meaning, its range, and what it changes.

Settings()                                    every setting at its default, not checked; `conf.config.Config` is
paths("seen")                                 ('train.log_every', …, 'probe.recorder_steps'): settings of one kind
paths("size", grows="width")                  ('model.width', 'model.mlp_hidden', 'model.param_tokens')
kind("optim.lr"), kind("optim")               'update', 'update': a group of YAML files is of its settings' usual kind
walk(Settings())                              every (full path, field, value), depth first

The YAML files beside this module only say what differs from the defaults here. Lists of settings are nowhere written
down: each is a question asked of `paths`, so that a new setting says beside its default which lists it is in.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache
from math import floor
from typing import Any, Literal

from conf.duration import RUN_LENGTHS, SHARES, DurationUnit


class UserError(ValueError):
    """A mistake that the user can mend. Every command line prints its one line and exits with status 2."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, out of range, or impossible beside another one."""


Kind = Literal[
    "draw",  # which of many equal runs it is
    "update",  # what an update of the weights is, its data, model, loss and rule
    "size",  # the same: how many weights the model has
    "proportion",  # the same: how the model's parts share its size, which may have to follow it
    "schedule",  # the learning rate over the run
    "phase",  # how long a part of that schedule lasts
    "length",  # how long the run is
    "growth",  # what the run starts from, and how
    "validation",  # what the validation loss is measured on
    "seen",  # when and what of the run is measured, and no loss
    "progress",  # in which pieces the run is carried out and saved
    "where",  # on which machine it is carried out, into which folder, and who is shown it
]
"""What a setting changes. The last two change no number beyond the rounding of sums (`conf.identity`)."""

Direction = Literal["depth", "width"]
"""What of a model becomes larger when it grows (`models.growth`)."""


def setting(
    default: Any,
    doc: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
    duration: tuple[DurationUnit, ...] = (),
    changes: Kind | None = None,
    grows: Direction | None = None,
    in_sweeps: str = "",
) -> Any:
    """A dataclass field with its meaning and what it may be; `check` and `--help` read both.

    Args:
        changes: the kind of the setting; that of its group when None.
        grows: in which direction a model that grows may change it; not at all when None.
        in_sweeps: for a setting that a sweep decides itself, what says it there.
    """
    bounds = {name: bound for name, bound in (("gt", gt), ("ge", ge), ("lt", lt), ("le", le)) if bound is not None}
    metadata = {"doc": doc, "bounds": bounds, "choices": choices, "duration": duration}
    return field(default=default, metadata=metadata | {"changes": changes, "grows": grows, "in_sweeps": in_sweeps})


BOUND_SIGN = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def allowed(spec: dataclasses.Field[Any]) -> str:
    """What a setting may be, in words for an error or for `--help`."""
    if spec.metadata["choices"]:
        return ", ".join(spec.metadata["choices"])
    if spec.metadata["duration"]:
        return "a number with a unit of " + ", ".join(spec.metadata["duration"])
    return " and ".join(f"{BOUND_SIGN[name]} {bound:g}" for name, bound in spec.metadata["bounds"].items())


BYTES_VOCAB = 257  # 256 byte values and the document mark


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A corpus, its tokenizer, and the windows that are cut from it."""

    source: str = setting("stdlib", "where the text comes from", choices=("stdlib", "text", "hub", "markov", "zipf"))
    context: int = setting(128, "tokens predicted per window (T)", ge=1)
    tokenizer: str = setting("bytes", "how text becomes tokens", choices=("bytes", "bpe", "file"))
    vocab_size: int | None = setting(
        None, "tokens of the BPE that is trained, or symbols of the Markov source (V)", ge=2, le=2**31 - 1
    )
    tokenizer_path: str | None = setting(None, "a tokenizer.json, for tokenizer=file")
    val_fraction: float = setting(0.05, "share of the documents held out for validation", gt=0, lt=1)
    max_documents: int | None = setting(None, "read at most so many documents; all of them when null", ge=2)
    path: str | None = setting(None, "text: .txt, .jsonl or .parquet files or globs, joined by ':'")
    name: str | None = setting(None, "hub: name of the data set, or a local folder in its format")
    config: str | None = setting(None, "hub: configuration of the data set")
    split: str = setting("train", "hub: split of the data set")
    text_field: str = setting("text", "text and hub: the column that holds the text")
    order: int = setting(1, "markov: symbols that the next one depends on (k)", ge=1, le=8)
    alpha: float = setting(0.1, "markov: Dirichlet concentration of each row", gt=0)
    keys: int = setting(2**20, "zipf: keys in the table (K)", ge=2, le=2**24)
    key_digits: int = setting(5, "zipf: tokens that write a key (M); 1 gives every key a token of its own", ge=1, le=24)
    values: int = setting(16, "zipf: values that a key may have (V)", ge=2, le=2**20)
    exponent: float = setting(0.5, "zipf: a, where the key of rank c has probability ∝ c^-(1 + a)", gt=0, le=10)
    noise: float = setting(0.0, "zipf: share of the values that are drawn at random instead", ge=0, lt=1)
    n_tokens: int = setting(2_000_000, "markov and zipf: tokens drawn, validation included", ge=2)
    seed: int = setting(0, "draws the table of markov or zipf; no other source uses it", ge=0)
    shift_every: str | None = setting(
        None, "so often the training tokens t become V - 1 - t for a while; never when null", duration=SHARES
    )
    shift_for: str = setting("20steps", "how long each such shift of the distribution lasts", duration=SHARES)

    @property
    def window_tokens(self) -> int:
        """Tokens of a window: T inputs, and T targets shifted by one."""
        return self.context + 1


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: sizes L, D, H and the choices of `models.blocks`."""

    depth: int = setting(
        5, "blocks (L); without any the model is a table of bigrams", ge=0, changes="size", grows="depth"
    )
    width: int = setting(128, "residual stream (D)", ge=1, changes="size", grows="width")
    heads: int = setting(4, "attention heads (H); must divide the width", ge=1, changes="proportion", grows="width")
    mlp_hidden: int | None = setting(
        None,
        "hidden units of the MLP (F); 4D, or 8D/3 for swiglu, when null; muP assumes that it grows with D",
        ge=1,
        changes="size",
        grows="width",
    )
    norm: str = setting("rmsnorm", "normalisation, with gain and without bias", choices=("rmsnorm", "layernorm"))
    norm_placement: str = setting("pre", "where each block normalises", choices=("pre", "post", "peri", "mix"))
    mix_fraction: float = setting(
        0.25, "mix: share of the first blocks that are post-norm", ge=0, le=1, changes="proportion", grows="depth"
    )
    layernorm_scaling: bool = setting(False, "divide the norms of block l by sqrt(l); needs norm_placement=pre")
    qk_norm: str = setting(
        "none",
        "normalise queries and keys, over each head or the whole width; qkv: values too, in place of the input's norm",
        choices=("none", "head", "model", "qkv"),
    )
    qk_rms: float | None = setting(
        None, "fix the RMS of queries and keys at its square root: kappa, without gain or qk_norm", gt=0
    )
    position: str = setting("rope", "how a token knows its place", choices=("rope", "learned"))
    rope_base: float = setting(10_000.0, "longest RoPE wavelength, over 2 pi", gt=1)
    activation: str = setting("gelu", "nonlinearity of the MLP", choices=("gelu", "relu2", "swiglu"))
    tie_embeddings: bool = setting(False, "read out with the token embedding")
    softcap: float | None = setting(None, "c in c tanh(logits / c); none when null", gt=0)
    attention_softcap: float | None = setting(None, "the same for the attention logits", gt=0)
    sigma_reparam: bool = setting(False, "blocks' matrices are a learned scale times W / its largest singular value")
    attention_scale: str = setting(
        "auto",
        "attention logits are scaled by 1/sqrt(d) or 1/d of the head; auto follows the parametrisation",
        choices=("auto", "1/sqrt(d)", "1/d"),
    )
    param_tokens: int | None = setting(
        None,
        "tokenformer: parameter tokens of each of q, k, v and out; the MLP has mlp_hidden of them; matrices when null",
        ge=1,
        changes="size",
        grows="width",
    )
    param_tau: float = setting(
        1.0,
        "tokenformer: tau² over the number of parameter tokens; 1/2 keeps tau when they are doubled",
        gt=0,
        le=1,
        changes="proportion",
        grows="width",
    )
    stages: int | None = setting(
        None,
        "so many blocks are trained, each of them repeated in its part of the depth; all differ when null",
        ge=1,
        changes="size",
        grows="depth",
    )
    templates: int | None = setting(
        None,
        "each matrix of a block is a learned combination of so many templates, which all blocks share",
        ge=1,
        changes="size",
        grows="depth",
    )

    @property
    def n_blocks(self) -> int:
        """Blocks that have weights of their own."""
        return self.depth if self.stages is None else self.stages

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP (F); a gated MLP has three matrices, so 8D/3 keeps its 8D² weights."""
        if self.mlp_hidden is not None:
            return self.mlp_hidden
        return max(1, round(8 * self.width / 3)) if self.activation == "swiglu" else 4 * self.width

    def placement(self, layer: int) -> str:
        """Where block `layer` (from 0) normalises; `mix` is post in the first blocks and pre after (Li et al. 2024)."""
        if self.norm_placement != "mix":
            return self.norm_placement
        return "post" if layer < floor(self.mix_fraction * self.depth + 1e-9) else "pre"  # 0.29 * 100 is 28.999…


@dataclass(frozen=True, kw_only=True)
class ParamConfig:
    """The parametrisation: how init, learning rate and multipliers follow width and depth."""

    name: str = setting("standard", "rule set", choices=("standard", "mup", "completep"))
    variant: str = setting("full", "which of the muP rules hold", choices=("simple", "intermediate", "full"))
    base_width: int = setting(64, "width at which the rules change nothing", ge=1)
    base_depth: int = setting(4, "completep: depth at which the rules change nothing", ge=1)
    depth_alpha: float = setting(1.0, "completep: residual branches times (L/L0)^-alpha", ge=0, le=1)
    init: str = setting("fan_in", "standard deviation of a matrix", choices=("fan_in", "constant"))
    init_std: float = setting(0.02, "constant: the standard deviation (at base width under muP)", gt=0)
    embedding_std: float | None = setting(
        None, "of the embeddings; 1/sqrt(width), at base width under muP, times readout_scale if tied, when null", gt=0
    )
    readout_scale: float = setting(0.1, "the readout's init, relative to a matrix; small: initial loss near ln V", ge=0)
    without: str = setting(
        "none",
        "switch one rule off, to see what it is for",
        choices=(
            "none",
            "hidden_init",
            "hidden_lr",
            "readout_init",
            "readout_lr",
            "embedding_std",
            "attention_scale",
            "query_init",
            "residual_multiplier",
        ),
    )
    scaled_residual_init: bool = setting(False, "divide the init of residual outputs by sqrt(2L) (GPT-2)")

    @property
    def scales_width(self) -> bool:
        """Whether width changes anything."""
        return self.name != "standard"

    @property
    def scales_everything(self) -> bool:
        """Whether embedding, readout and attention scale too, beyond the `simple` and `intermediate` muP."""
        return self.name == "completep" or (self.name == "mup" and self.variant == "full")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW or StableAdamW, and the loss."""

    name: str = setting(
        "adamw",
        "stable_adamw divides each tensor's rate by the RMS of its gradient over sqrt(v), where that is above 1",
        choices=("adamw", "stable_adamw"),
    )
    lr: float = setting(3e-3, "peak learning rate, at base width and depth", gt=0)
    beta1: float = setting(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = setting(0.95, "decay of the second moment", ge=0, lt=1)
    eps: float = setting(1e-8, "added to the root of the second moment", gt=0)
    weight_decay: float = setting(1e-4, "of matrices and embeddings; norm gains do not decay", ge=0)
    decay: str = setting(
        "independent",
        "independent: w -= s_t wd w; coupled: w -= s_t lr wd w",
        choices=("independent", "coupled"),
    )
    clip: float | None = setting(1.0, "largest gradient norm; no clipping when null", gt=0)
    clip_by: str = setting(
        "global",
        "global: the norm of all gradients; tensor: each one's, relative to its own mean so far",
        choices=("global", "tensor"),
    )
    z_loss: float = setting(0.0, "weight of mean (log Z)^2", ge=0)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run, relative to its peak."""

    shape: str = setting("cosine", "after the warm-up", choices=("constant", "cosine", "linear", "wsd", "inverse_sqrt"))
    warmup: str = setting("5%", "linear warm-up from zero", duration=SHARES, changes="phase")
    cooldown: str = setting("20%", "wsd: the decay at the end", duration=SHARES, changes="phase")
    floor: float = setting(0.0, "lowest learning rate of cosine, linear and wsd", ge=0)
    floor_is: str = setting("relative", "the floor as a share of the peak, or a rate", choices=("relative", "absolute"))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, in which batches, and when a run counts as diverged."""

    duration: str = setting(
        "20tok/param", "length of the run; params are n_params_total", duration=RUN_LENGTHS, changes="length"
    )
    batch_size: int = setting(32, "sequences per optimiser step, over all processes (B)", ge=1, changes="update")
    micro_batch: int | None = setting(
        None, "sequences per forward pass at most; as many as fit when null", ge=1, changes="progress"
    )
    log_every: str = setting("1steps", "a row of training metrics", duration=SHARES, changes="seen")
    checkpoint_every: str = setting("10%", "save weights and optimiser", duration=SHARES, changes="progress")
    keep: str | None = setting(
        None, "steps whose checkpoints are kept for others to start from: 0,200", changes="progress"
    )
    diverged_above: float = setting(3.0, "a training loss above so many ln V has exploded", gt=1, changes="seen")


@dataclass(frozen=True, kw_only=True)
class GrowConfig:
    """The run that this one starts from, and how its weights become those of this one's model.

    The model's own settings say what it grows into: deeper, wider, both, or neither.
    """

    base: str | None = setting(None, "the run to start from, by its id or its folder; from nothing when null")
    step: int | None = setting(None, "the base's step whose weights are taken; 0 is its init", ge=0)
    depth: str = setting(
        "stack",
        "where the blocks of a deeper model come from",
        choices=("stack", "interpolate", "pattern", "zero", "random", "learn", "templates"),
    )
    pattern: str | None = setting(None, "depth=pattern: the base's block for each block, from 0: 0,1,0,1")
    ramp: str | None = setting(
        None, "depth=random: how long the new blocks fade in, from nothing; at once when null", duration=SHARES
    )
    width: str = setting(
        "direct",
        "where the channels, heads, hidden units and parameter tokens of a wider model come from",
        choices=("direct", "zero", "random", "learn"),
    )
    noise: float = setting(0.0, "a in (1 - a) W + a times a fresh init, for every matrix and table", ge=0, lt=1)
    learn_steps: int = setting(100, "learn: steps that tune the map from the base, which are charged", ge=1)
    learn_lr: float = setting(1e-3, "learn: their learning rate", gt=0)
    optimizer: str = setting("reset", "the optimiser's moments", choices=("reset", "carry"))
    schedule: str = setting(
        "restart",
        "the learning rate: its own, or as if this run had begun with the base",
        choices=("restart", "continue"),
    )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The validation loss."""

    every: str = setting("10%", "how often; the end of the run always", duration=SHARES, changes="seen")
    sequences: int = setting(256, "validation windows, the same ones every time", ge=2, changes="validation")
    batch_size: int = setting(64, "sequences per forward pass", ge=1, changes="progress")
    layers: bool = setting(
        False, "at the end: the loss without each block, and angles between the blocks' inputs", changes="seen"
    )


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Statistics of activations, logits, gradients and updates (`train.record.metrics` lists them)."""

    every: str | None = setting(None, "how often; never when null", duration=SHARES)
    sequences: int = setting(8, "training windows that the activation probes see", ge=1)
    recorder: bool = setting(False, "probe every step, and write the steps around a loss spike or the divergence")
    recorder_steps: int = setting(64, "recorder: steps kept from before a spike, and written after it", ge=1)


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """A copy of the metrics for a tracker. The record under `runs/` is written in any case."""

    to: str = setting("none", "which tracker", choices=("none", "wandb", "tensorboard"))
    mode: str = setting("offline", "wandb: whether to use the network", choices=("offline", "online"))
    project: str = setting("windtunnel", "wandb: project")


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how a run is carried out; beyond rounding, only the precision can change its result."""

    device: str = setting("auto", "auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))
    precision: str = setting(
        "auto", "auto: fp32 on cpu, bf16 on cuda", choices=("auto", "fp32", "bf16"), changes="update"
    )
    threads: int | None = setting(None, "CPU threads; torch's own choice when null", ge=1, in_sweeps="use --jobs")
    compile: bool = setting(False, "torch.compile the model")
    progress: str = setting("auto", "progress bar; auto: if stderr is a terminal", choices=("auto", "on", "off"))
    runs_dir: str = setting("runs", "where run folders go", in_sweeps="use --runs-dir")
    cache_dir: str = setting("cache", "where tokenised corpora and the measured matmul rate are kept")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one run, not yet checked; `conf.config.Config` is. Beside a group its settings' usual kind."""

    study: str = setting(
        "scratch", "the run's folder is runs_dir/study/run_id", changes="where", in_sweeps="it is the study's name"
    )
    seed: int = setting(0, "draws the weights and the order of the data", ge=0, lt=2**63, changes="draw")
    data: DataConfig = field(default_factory=DataConfig, metadata={"changes": "update"})
    model: ModelConfig = field(default_factory=ModelConfig, metadata={"changes": "update"})
    param: ParamConfig = field(default_factory=ParamConfig, metadata={"changes": "update"})
    optim: OptimConfig = field(default_factory=OptimConfig, metadata={"changes": "update"})
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig, metadata={"changes": "schedule"})
    train: TrainConfig = field(default_factory=TrainConfig, metadata={"changes": None})
    grow: GrowConfig = field(default_factory=GrowConfig, metadata={"changes": "growth"})
    eval: EvalConfig = field(default_factory=EvalConfig, metadata={"changes": None})
    probe: ProbeConfig = field(default_factory=ProbeConfig, metadata={"changes": "seen"})
    track: TrackConfig = field(default_factory=TrackConfig, metadata={"changes": "where"})
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig, metadata={"changes": "where"})


def walk(group: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every (full path, field, value) of a config, depth first."""
    for spec in dataclasses.fields(group):
        value = getattr(group, spec.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{spec.name}.")
        else:
            yield f"{prefix}{spec.name}", spec, value


@cache
def _fields() -> dict[str, dataclasses.Field[Any]]:
    """The field of every setting by its full path, and of every group by its name."""
    groups = {spec.name: spec for spec in dataclasses.fields(Settings)}
    return groups | {path: spec for path, spec, _ in walk(Settings())}


def kind(key: str) -> Kind:
    """What a setting changes, by its full path, or what those of a group change that say nothing themselves.

    Raises:
        KeyError: no such setting, or a group whose settings all say it themselves.
    """
    changes: Kind | None = _fields()[key].metadata["changes"] or _fields()[key.partition(".")[0]].metadata["changes"]
    if changes is None:
        raise KeyError(key)
    return changes


def paths(*changes: Kind, grows: Direction | None = None) -> tuple[str, ...]:
    """The full paths of all settings of these kinds, in the order of the schema.

    Args:
        grows: only those that a model may change when it grows in this direction.
    """
    return tuple(
        path for path, spec, _ in walk(Settings()) if kind(path) in changes and grows in (None, spec.metadata["grows"])
    )


def grouped(keys: Collection[str]) -> tuple[str, ...]:
    """The keys, with the name of a group in place of all its settings: `track` for `track.to`, `track.mode`, …."""
    whole = {name for name in _fields() if all(path in keys for path in _fields() if path.startswith(f"{name}."))}
    return tuple(dict.fromkeys(name if (name := key.partition(".")[0]) in whole else key for key in keys))


def set_by_sweeps() -> dict[str, str]:
    """The settings that a sweep decides itself, by full path, and what says each of them there."""
    return {path: spec.metadata["in_sweeps"] for path, spec, _ in walk(Settings()) if spec.metadata["in_sweeps"]}


RUN = re.compile(r"(.*/)?(?P<id>[0-9a-f]{16})/?")
"""A run by its id or its folder."""

"""What `python -m sweeps preflight` asks of the real model: questions as JSON on stdin, an answer per line on stdout.

A few steps of shrunken runs, through the same code that trains. Each question is about runs from nothing; growth alone
is asked about with the base's overrides beside the run's. Writes nothing that stays but the cache of tokenised text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations
from math import inf, log2
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from conf.compose import compose
from conf.config import Config, resolve
from conf.schema import DataConfig, ProbeConfig, UserError
from models.count import count_params, flops_per_token
from train import hardware
from train.checkpoint import Position, keep_checkpoint
from train.data.corpus import Corpus, open_corpus
from train.distributed import Ranks
from train.growth.begin import begin
from train.job import Clock, Job
from train.measure.memory import kept_bytes
from train.measure.probes import probe_activations
from train.record.lineage import Base
from train.record.metrics import block_name
from train.run import assemble
from train.step import sequence_losses
from train.timetable.cost import run_cost
from train.timetable.memory import state_bytes
from train.timetable.schedule import Schedule
from train.traced_step import step_row, whole_batch

Judgement = Literal["pass", "FAIL", "note"]

SEQUENCES = 8  # of a batch, where the size of the batch is not what is asked
DRAWN_TOKENS = 2**18  # of a source that is drawn
STREAM = ("embedding_abs", "output_abs", "logits_abs")
MAX_SLOPE = 0.15  # of log2 mean |x| against log2 width: the published band for hidden activations
COORDINATE_SEEDS = (0, 1)
COORDINATE_STEPS = 3
LOUD = 8.0  # times the weights, so that what acts on large gradients only has something to act on
TIMED_SECONDS, TIMED_STEPS = 2.0, 10
FLOPS_TOLERANCE = 0.01  # a few products are matrix times vector, which torch's counter leaves out


class Answer(NamedTuple):
    """One row of the table."""

    check: str
    state: Judgement
    evidence: str


# --- runs ------------------------------------------------------------------------------------------------


def config_of(argv: Sequence[str], *, sequences: int | None = SEQUENCES, drawn: int | None = DRAWN_TOKENS) -> Config:
    """The resolved config on the device that there is, without probes, and shrunk.

    Args:
        sequences: of a batch at most; as many as the cell has when None.
        drawn: tokens of a source that is drawn, at most; as many as the cell has when None.
    """
    config = compose(argv)
    device = config.runtime.device if torch.cuda.is_available() else "cpu"
    data, train = config.data, config.train
    if drawn is not None and data.source in {"markov", "zipf"}:
        data = dataclasses.replace(data, n_tokens=min(data.n_tokens, max(drawn, 64 * data.window_tokens)))
    if sequences is not None:
        train = dataclasses.replace(train, batch_size=min(train.batch_size, sequences))
    runtime = dataclasses.replace(config.runtime, device=device, compile=False, progress="off")
    shrunk = dataclasses.replace(config, data=data, train=train, runtime=runtime, probe=ProbeConfig())
    return resolve(shrunk, cuda=device == "cuda")


@cache
def _corpus(data: DataConfig, cache_dir: str) -> Corpus:
    return open_corpus(data, cache_dir=Path(cache_dir))


def job_of(config: Config, base: Base | None = None) -> Job:
    """The run, ready for its first step; one that starts from a base first has to `train.growth.begin.begin`."""
    corpus = _corpus(config.data, config.runtime.cache_dir)
    cost = run_cost(config, corpus.vocab_size, base=base.cost if base else None)
    return assemble(config, corpus, cost, Ranks(), Path("preflight"), base=base, shown=False)


def take_steps(job: Job, n: int) -> None:
    """`n` updates at the peak learning rate, on the first batches."""
    job = _at_peak(job)
    clock = Clock(Position(0, 0.0, 0.0), job.device)
    for step in range(n):
        step_row(job, clock, step, probed=False)


def _at_peak(job: Job) -> Job:
    return dataclasses.replace(job, schedule=Schedule("constant", job.cost.n_steps, warmup=0, cooldown=0, floor=0.0))


def _inputs(job: Job) -> Tensor:
    return torch.from_numpy(whole_batch(job, 0)[:, :-1]).to(job.device)


# --- coordinate check ------------------------------------------------------------------------------------


def check_coordinates(
    name: str, along: Literal["width", "depth"], sizes: Sequence[int], cells: Sequence[Sequence[str]], *, excuse: str
) -> Answer:
    """Whether the residual stream and the logits keep their size as a model grows, at the start and after each step.

    Yang et al. 2022 (arXiv 2203.03466), appendix D.1, and over depth Dey et al. 2025 (arXiv 2505.01618), figure 7. The
    slope is that of log2 mean |x| against log2 of width or depth. Only growth counts, since a readout that starts small
    may well start smaller when wide: a rule without which something only shrinks is not seen here. Branches are not
    judged: after a few steps a correct muP has slopes of +0.1 there over widths as small as these.

    Args:
        sizes: widths or depths of the cells, smallest first.
        excuse: why it is shown and not judged; empty where the parametrisation promises it.
    """
    values_at: dict[tuple[int, str], list[float]] = {}
    for argv in cells:
        rows = [_coordinates(argv, seed) for seed in COORDINATE_SEEDS]
        for step in range(COORDINATE_STEPS + 1):
            for coordinate in rows[0][step]:
                value = float(np.mean([row[step][coordinate] for row in rows]))
                values_at.setdefault((step, coordinate), []).append(value)
    shared = {place: values for place, values in values_at.items() if len(values) == len(cells)}
    slopes = {
        place: float(np.polyfit([log2(size) for size in sizes], np.log2(values), 1)[0])
        for place, values in shared.items()
        if min(values) > 0 and np.isfinite(values).all()  # zero where a matrix starts at zero
    }
    broken = [place for place, values in values_at.items() if not np.isfinite(values).all()]
    (step, where), worst = max(slopes.items(), key=lambda item: item[1])
    evidence = f"steepest slope {worst:+.2f}, of {where} after {step} steps; {along}s {', '.join(map(str, sizes))}"
    if broken:
        evidence = f"{broken[0][1]} is not finite after {broken[0][0]} steps"
    if excuse:
        return Answer(f"coordinates over {along}, {name}", "note", f"{evidence}; {excuse}")
    passed = not broken and worst < MAX_SLOPE
    return Answer(
        f"coordinates over {along}, {name}", "pass" if passed else "FAIL", f"{evidence}; allowed: below {MAX_SLOPE}"
    )


def _coordinates(argv: Sequence[str], seed: int) -> list[dict[str, float]]:
    """Mean |x| of embedding, blocks' outputs and logits before each step, and after the last; the last block is named
    so too, for models of other depths."""
    job = job_of(dataclasses.replace(config_of(argv), seed=seed))
    job = _at_peak(job)
    clock, tokens_BT = Clock(Position(0, 0.0, 0.0), job.device), _inputs(job)
    rows: list[dict[str, float]] = []
    for step in range(COORDINATE_STEPS + 1):
        row = probe_activations(job.model, tokens_BT, job.autocast)
        rows.append({name: value for name, value in row.items() if name.endswith(STREAM)})
        rows[-1]["last block/output_abs"] = row[f"{block_name(job.config.model.depth - 1)}/output_abs"]
        if step < COORDINATE_STEPS:
            step_row(job, clock, step, probed=False)
    return rows


# --- switches --------------------------------------------------------------------------------------------


def _data_read(config: Config) -> list[Any]:
    """The first batches, and in which steps they are shifted."""
    job = job_of(config)
    batches = [_digest(whole_batch(job, step)) for step in (0, job.cost.n_steps // 2, job.cost.n_steps - 1)]
    shift = job.cadence.shift
    return [batches, shift and [shift.holds(step) for step in range(job.cost.n_steps)]]


def _schedule(config: Config) -> list[float]:
    job = job_of(config)
    return [job.schedule(step) for step in range(job.cost.n_steps)]


@torch.no_grad()
def _logits(config: Config) -> str:
    job = job_of(config)
    with job.autocast:
        return _digest(job.model(_inputs(job)).float().cpu().numpy())


def _weights(config: Config, *, times: float = 1.0) -> str:
    job = job_of(config)
    with torch.no_grad():
        for parameter in job.parameters:
            parameter.mul_(times)
    take_steps(job, 2)
    return _digest(*(parameter.detach().float().cpu().numpy() for parameter in job.parameters))


def _loud_weights(config: Config) -> str:
    return _weights(config, times=LOUD)


def _digest(*arrays: np.ndarray[Any, Any]) -> str:
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()


BATCHES = "the batches"
BATCH_KEYS = {"train.batch_size"}  # where a shrunk batch would hide the difference
LENGTH_KEYS = {"data.n_tokens", "data.val_fraction"}  # and shrunk data

# What a switch may change, cheapest to look at first.
EFFECTS: dict[str, Callable[[Config], Any]] = {
    "the logits at the start": _logits,
    "the weights after two steps": _weights,
    "the learning rates": _schedule,
    BATCHES: _data_read,
    f"the weights after two steps from {LOUD:g} times the initial ones": _loud_weights,
}


Pairs = set[tuple[int, int]]


def check_switch(
    key: str,
    values: Sequence[str],
    bases: Sequence[Sequence[list[str] | None]],
    nearest: Sequence[list[str]],
    together: Sequence[str],
) -> Answer:
    """Whether every two values of a setting differ in what a run computes, in one cell or another.

    Args:
        bases: for each of some cells, its overrides with each of the values, or None where it cannot have that value.
        nearest: a cell of the study with each of the values, which differ in other keys too: `together`. They tell two
            values apart that no base has both.
    """
    alike: Pairs = set(combinations(range(len(values)), 2))
    untried = set(alike)
    seen: list[str] = []
    for cells in bases:
        possible = {(a, b) for a, b in alike if cells[a] is not None and cells[b] is not None}
        try:
            told = _told_apart(key, cells, possible, seen)
        except UserError:  # a base is made up; two settings may not go together
            continue
        alike, untried = alike - told, untried - possible
        if not alike:
            break
    also = f" (with {', '.join(together)})" if untried else ""
    alike -= _told_apart(key, nearest, untried & alike, seen)
    if alike:
        a, b = min(alike)
        evidence = f"{values[a]} and {values[b]} compute the same; no effect on {_listed()}"
        return Answer(f"switch {key}", "FAIL", evidence)
    return Answer(f"switch {key}", "pass", f"{', '.join(values)}{also}: {' and '.join(seen)} differ")


def _told_apart(key: str, cells: Sequence[list[str] | None], pairs: Pairs, seen: list[str]) -> Pairs:
    """Those of the pairs that differ in these cells; the effects that they differ in are added to `seen`."""
    whole = {name: None for name, keys in (("sequences", BATCH_KEYS), ("drawn", LENGTH_KEYS)) if key in keys}
    effects = dict(EFFECTS)
    if key.startswith(("data", "train.")):  # other batches change all that follows
        effects = {BATCHES: EFFECTS[BATCHES]} | effects
    left = set(pairs)
    for name, effect in effects.items():
        effect_of: dict[int, Any] = {}
        for index in sorted({index for pair in left for index in pair}):
            argv = cells[index]
            assert argv is not None  # a pair has two cells
            effect_of[index] = effect(config_of(argv, **whole))
        told = {(a, b) for a, b in left if effect_of[a] != effect_of[b]}
        left -= told
        if told and name not in seen:
            seen.append(name)
        if not left:
            break
    return pairs - left


def _listed() -> str:
    *first, last = EFFECTS
    return f"{', '.join(first)} or {last}"


# --- counts ----------------------------------------------------------------------------------------------


def check_counts(name: str, argv: Sequence[str]) -> Answer:
    """Parameters and FLOPs in closed form against the real model and torch's own counter."""
    job = job_of(config_of(argv, sequences=2))
    sizes = {"vocab_size": job.corpus.vocab_size, "context": job.config.data.context}
    n_params = sum(parameter.numel() for parameter in job.parameters)
    counted, flops = count_params(job.config.model, **sizes).total, flops_per_token(job.config.model, **sizes)
    windows_BT1 = torch.from_numpy(whole_batch(job, 0)).to(job.device)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # whose products it can see
        sequence_losses(job.model(windows_BT1[:, :-1]), windows_BT1[:, 1:]).mean().backward()
    measured = counter.get_total_flops() / windows_BT1[:, 1:].numel()
    agree = counted == n_params and abs(measured - flops) <= FLOPS_TOLERANCE * flops
    evidence = (
        f"parameters {counted:,} counted, {n_params:,} built; "
        f"FLOPs per token {flops:,} counted, {measured:,.0f} by torch"
    )
    return Answer(f"counts {name}", "pass" if agree else "FAIL", evidence)


# --- growth ----------------------------------------------------------------------------------------------


def check_growth(name: str, base: Sequence[str], argv: Sequence[str]) -> Answer:
    """Whether the base's model can become the run's, with its moments if they are carried, and can be trained then.

    After one step of the base. A map that is learned is tuned for one step, and new blocks fade in from nothing.
    """
    small = job_of(config_of(base))
    take_steps(small, 1)
    config = config_of(argv)
    how = dataclasses.replace(config.grow, step=1, schedule="restart")
    if "learn" in {how.depth, how.width}:
        how = dataclasses.replace(how, learn_steps=1)
    with tempfile.TemporaryDirectory() as folder:
        keep_checkpoint(Path(folder), small.model, small.optimizer, Position(1, 0.0, 0.0))
        before = Base(Path(folder), small.config, small.cost, step=1, before=None)
        large = job_of(dataclasses.replace(config, grow=how), before)
        begin(large)
    take_steps(large, 1)
    finite = all(bool(tensor.isfinite().all()) for tensor in large.model.state_dict().values())
    sizes = [f"{job.config.model.depth} blocks of width {job.config.model.width}" for job in (small, large)]
    operators = {"depth": how.pattern or how.depth, "width": how.width}
    words = [f"{side} {operator}" for side, operator in operators.items() if _grows(side, small, large)]
    words += [f"noise {how.noise:g}"] if how.noise else []
    words += ["faded in"] if large.ramp else []
    words += ["moments carried"] if how.optimizer == "carry" else []
    evidence = f"{' to '.join(sizes)}: {', '.join(words) or 'as it is'}"
    return Answer(f"growth {name}", "pass" if finite else "FAIL", evidence + ("" if finite else "; not finite"))


def _grows(side: str, small: Job, large: Job) -> bool:
    names = {"depth": ("n_blocks",), "width": ("width", "hidden", "param_tokens")}[side]
    return any(getattr(small.config.model, name) != getattr(large.config.model, name) for name in names)


# --- memory and speed ------------------------------------------------------------------------------------


def check_memory(argv: Sequence[str], jobs: int, *, there: bool) -> Answer:
    """Whether the largest cell fits: weights, gradients, both moments, and what backward keeps of a forward pass.

    Args:
        jobs: runs at a time.
        there: whether the machine at hand is the one that will run it.
    """
    config = config_of(argv, sequences=None)
    job = job_of(config)
    per_sequence = kept_bytes(job.model, _inputs(job)[:1], job.autocast)
    state = state_bytes(job.cost.n_params)
    need = jobs * (state + job.micro_batch * per_sequence)
    evidence = (
        f"{_gigabytes(need)} for {jobs} at a time: weights, gradients and moments {_gigabytes(state)}, "
        f"activations {_gigabytes(job.micro_batch * per_sequence)} each ({job.micro_batch} sequences)"
    )
    if not there:
        return Answer("memory", "note", f"{evidence}; no GPU here to compare with")
    memory = hardware.memory_bytes(config.runtime.device)
    state_word: Judgement = "pass" if need <= 0.9 * memory else "FAIL"
    return Answer("memory", state_word, f"{evidence}; the machine has {_gigabytes(memory)}")


def _gigabytes(n: float) -> str:
    return f"{n / 1e9:.3g} GB"


def seconds_per_step(argv: Sequence[str]) -> tuple[float, float]:
    """(seconds of a step, tokens per second) of a run, measured over a few whole batches after the first."""
    job = job_of(config_of(argv, sequences=None))
    take_steps(job, 1)
    best, until = inf, time.perf_counter() + TIMED_SECONDS
    for _ in range(TIMED_STEPS):
        start = time.perf_counter()
        take_steps(job, 1)
        if job.device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)  # other processes only ever slow a step down
        if time.perf_counter() > until:
            break
    return best, job.cost.tokens_per_step / best


# --- questions and answers -------------------------------------------------------------------------------


def answers(questions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of the table (`check`, `state`, `evidence`), what is being done (`doing`), and `timed` cells."""
    there = questions["device"] == "cpu" or torch.cuda.is_available()
    tasks: list[tuple[str, Callable[[], Answer]]] = []
    for q in questions["coordinates"]:
        tasks.append((f"coordinates over {q['along']}, {q['name']}", lambda q=q: check_coordinates(**q)))  # type: ignore[misc]
    for q in questions["switches"]:
        tasks.append((f"switch {q['key']}", lambda q=q: check_switch(**q)))  # type: ignore[misc]
    for q in questions["architectures"]:
        tasks.append((f"counts {q['name']}", lambda q=q: check_counts(**q)))  # type: ignore[misc]
    for q in questions["growths"]:
        tasks.append((f"growth {q['name']}", lambda q=q: check_growth(**q)))  # type: ignore[misc]
    tasks.append(("memory", lambda: check_memory(questions["largest"], questions["jobs"], there=there)))
    for name, task in tasks:
        yield {"doing": name}
        try:
            yield task()._asdict()
        except Exception as error:
            yield _unanswered(name, error)._asdict()
    if not there:
        yield Answer("throughput", "note", "not measured: no GPU here")._asdict()
        return
    for number, q in enumerate(questions["timed"]):
        name = f"throughput {q['name']}"
        yield {"doing": name}
        try:
            seconds, rate = seconds_per_step(q["argv"])
        except Exception as error:
            yield _unanswered(name, error)._asdict()
        else:
            yield {"timed": number, "seconds": seconds, "tokens_per_second": rate}


def _unanswered(name: str, error: Exception) -> Answer:
    """What stopped one check, in a line, so that the others are still made."""
    said = str(error).partition("\n")[0]
    return Answer(name, "FAIL", said if isinstance(error, UserError) else f"{type(error).__name__}: {said}")


def main() -> int:
    """Answer the questions on stdin."""
    questions = json.load(sys.stdin)
    torch.set_num_threads(questions["threads"])
    try:
        for answer in answers(questions):
            print(json.dumps(answer), flush=True)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

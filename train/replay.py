"""`python -m train replay RUN --from STEP`: carry out a part of a run again, with everything measured.

The replay starts at the last checkpoint at or before STEP, or at the beginning where the run has none so early: a
diverged run keeps its last checkpoint before the divergence, a finished one that of its last step, and both those of
`train.keep`. On a CPU with one thread it is bit-identical to a run of one process. It writes into `RUN/replay-STEP/`
and changes nothing else of the run:

- `metrics.jsonl`: a row for every step that was carried out, those after STEP with all probes, all with `batch_sha256`;
- `replay.json`: how many training losses equal the recorded ones exactly, and the first that does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from conf.command_line import Parser
from conf.compose import read_config
from conf.config import Config
from conf.schema import ConfigError, UserError
from train import hardware
from train.checkpoint import Position, latest, load_checkpoint
from train.data.corpus import open_corpus
from train.distributed import Ranks
from train.growth.begin import begin
from train.job import Clock, Job
from train.measure.recorder import hash_batch
from train.record.files import write_json
from train.record.lineage import find_base
from train.record.metrics import Row, check_declared
from train.record.metrics_file import FLIGHT, MetricsWriter, read_metrics
from train.record.run import RecordError, read_run
from train.run import assemble
from train.timetable.cost import run_cost
from train.traced_step import step_row, to_numbers, whole_batch

# Of a run's record; one of another version may lack them.
_NEEDED = ("hardware", "packages", "data_fingerprint", "micro_batch", "resumed")


class ReplayError(UserError):
    """A folder or a step that cannot be replayed."""


@dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        folder: where it is written.
        started_at: the step of the checkpoint that it started from; 0 for the beginning.
        compared, equal: steps whose training loss the run recorded, and those where it is the same number.
        batches_compared, batches_equal: the same for the batches whose hash the flight recorder wrote.
        first_difference: `step`, `recorded`, `replayed` (None for a loss that is no number), or None.
        warnings: what is not as it was when the run was recorded.
    """

    folder: Path
    started_at: int
    from_step: int
    to_step: int
    compared: int
    equal: int
    batches_compared: int
    batches_equal: int
    first_difference: Row | None
    warnings: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """The command; returns the exit status. Raises `UserError` for a user's mistake."""
    parser = Parser(
        prog="python -m train replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--from", type=int, required=True, dest="from_step", metavar="STEP", help="measure everything after this step"
    )
    parser.add_argument(
        "--to", type=int, dest="to_step", metavar="STEP", help="stop here (default: the run's last step)"
    )
    options = parser.parse_args(arguments)
    done = replay(options.run, options.from_step, options.to_step)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    where = (
        f"from the checkpoint of step {done.started_at}"
        if done.started_at
        else "from the beginning, since no checkpoint so early is kept"
    )
    print(f"replayed steps {done.started_at + 1} to {done.to_step}, {where}: {done.folder}")
    print(f"{done.equal} of {done.compared} recorded training losses are the same to the last bit")
    if done.batches_compared:
        print(f"{done.batches_equal} of {done.batches_compared} recorded batches are the same")
    if done.first_difference is not None:
        print("first difference: step {step}, recorded {recorded}, replayed {replayed}".format(**done.first_difference))
    return 0


def replay(folder: Path, from_step: int, to_step: int | None = None) -> Replay:
    """Replay a run up to `to_step`, tracing the steps after `from_step`; a step is a number of updates done.

    Raises:
        ReplayError, RecordError: no run, a step outside it, other data than it had, or no such machine.
    """
    record = read_run(folder)
    if record is None or not (folder / "config.yaml").exists():
        missing = "run.json" if record is None else "config.yaml"
        raise ReplayError(f"{folder}: not a run folder; it lacks {missing}")
    recorded = {row["step"]: row for row in read_metrics(folder)}
    last = max(recorded, default=0)
    to_step = last if to_step is None else to_step
    if not last:
        raise ReplayError(f"{folder}: has no step yet that could be replayed")
    if not 0 <= from_step < last:
        raise ReplayError(f"--from {from_step}: is outside the run; allowed: 0 to {last - 1}")
    if not from_step < to_step <= last:
        raise ReplayError(f"--to {to_step}: is outside what can be replayed; allowed: {from_step + 1} to {last}")

    for key in _NEEDED:
        if key not in record:
            raise ReplayError(f"{folder / 'run.json'}: lacks {key}, which a replay needs")
    try:
        config = read_config(folder / "config.yaml")
    except ConfigError as error:
        raise ReplayError(f"{folder / 'config.yaml'}: {error}") from None
    machine = record["hardware"]
    torch.set_num_threads(machine["threads"])
    warnings = tuple(_changes(record, config))
    out = folder / f"replay-{from_step}"
    job = _job(config, record, out)
    checkpoint = latest(folder, until=from_step)
    start = load_checkpoint(checkpoint, job.model, job.optimizer) if checkpoint else begin(job)

    flight = {row["step"]: row["batch_sha256"] for row in read_metrics(folder, FLIGHT)}
    try:
        out.mkdir(exist_ok=True)
        (out / "replay.json").unlink(missing_ok=True)  # an older one does not speak for the new rows
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
    compared, batches, first = [], [], None
    with closing(MetricsWriter(out, after_step=-1)) as writer:
        for row in _rows(job, start, from_step, to_step):
            writer.append(row)
            step = row["step"]
            if step in flight:
                batches.append(flight[step] == row["batch_sha256"])
            if not _has_loss(recorded.get(step, {})):
                continue
            losses = {"recorded": recorded[step].get("train_loss"), "replayed": _number(row["train_loss"])}
            compared.append(losses["recorded"] == losses["replayed"])
            if first is None and not compared[-1]:
                first = {"step": step, **losses}
    done = Replay(
        folder=out,
        started_at=start.step,
        from_step=from_step,
        to_step=to_step,
        compared=len(compared),
        equal=sum(compared),
        batches_compared=len(batches),
        batches_equal=sum(batches),
        first_difference=first,
        warnings=warnings,
    )
    write_json(out / "replay.json", {name: value for name, value in vars(done).items() if name != "folder"})
    return done


def _rows(job: Job, start: Position, from_step: int, to_step: int) -> Iterator[Row]:
    clock = Clock(start, job.device)
    for step in range(start.step, to_step):
        row = step_row(job, clock, step, probed=step >= from_step)
        row = to_numbers(row | row.pop("probes"))
        check_declared(row)
        yield row | {"batch_sha256": hash_batch(whole_batch(job, step))}


def _job(config: Config, record: Mapping[str, Any], out: Path) -> Job:
    """The run's parts in their initial state, as one process and with its micro-batches."""
    hardware.check_device(config.runtime.device)
    corpus = open_corpus(config.data, cache_dir=Path(config.runtime.cache_dir))
    if corpus.fingerprint != record["data_fingerprint"]:
        raise RecordError(f"{out.parent}: was carried out on other data; allowed: the data that it had")
    base = find_base(config, fingerprint=corpus.fingerprint, vocab_size=corpus.vocab_size)
    cost = run_cost(config, corpus.vocab_size, base=base.cost if base else None)
    job = assemble(config, corpus, cost, Ranks(), out, base=base, shown=False)
    return replace(job, micro_batch=record["micro_batch"])


def _changes(record: Mapping[str, Any], config: Config) -> Iterator[str]:
    """What may make the numbers differ, in words."""
    machine = record["hardware"]
    now = hardware.describe_hardware(config.runtime.device, 1)
    for key in ("device_name", "platform", "threads", "processes"):
        if now[key] != machine[key]:
            yield f"{key}: {now[key]}, but the run had {machine[key]}"
    packages = hardware.describe_packages()
    for name, version in record["packages"].items():
        if packages.get(name) != version:
            yield f"{name}: {packages.get(name, 'missing')}, but the run had {version}"
    code = hardware.describe_code()
    for key in ("code_version", "code_commit"):
        if code.get(key) != record.get(key):
            yield f"{key}: {code.get(key)}, but the run had {record.get(key)}"
    if record.get("code_dirty"):
        yield f"code_dirty: the run's code differed from its commit {record['code_commit']}"
    for resumption in record["resumed"]:
        if resumption["threads"] != machine["threads"]:
            then = f"{resumption['threads']} from step {resumption['at_step']}"
            yield f"threads: {machine['threads']}, but the run had {then}"


def _has_loss(row: Mapping[str, Any]) -> bool:
    return "train_loss" in row or "train_loss" in row.get("non_finite", [])


def _number(loss: float) -> float | None:
    """A loss as a record holds it: nothing where it is no number."""
    return loss if isfinite(loss) else None

"""Config -> run record: decides whether to start, resume or leave a run, and puts it together."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from conf.compose import to_yaml
from conf.config import Config, resolve
from conf.duration import parse_steps
from conf.schema import ConfigError
from models.build import build, parameter_rules
from train import describe, hardware
from train.checkpoint import latest, load_checkpoint, step_of
from train.data.corpus import Corpus, open_corpus
from train.describe import Record
from train.distributed import Ranks, join
from train.growth.begin import begin, build_ramp, growth_seed
from train.job import Cadence, Interrupted, Job, Outcome, check_kept
from train.keep import keep_passed
from train.loop import train
from train.optim import build_optimizer
from train.record.checkpoints import checkpoint_at
from train.record.files import write_bytes
from train.record.lineage import Base, check_base_lies_within, find_base
from train.record.metrics_file import MetricsWriter, write_parquet
from train.record.run import FINAL, RecordError, diverged_by, locked, read_run, run_dir, write_run
from train.timetable.cost import RunCost, run_cost
from train.timetable.memory import ACTIVATION_SHARE, activation_bytes, auto_micro_batch
from train.timetable.schedule import build_schedule
from train.watch.progress import RunProgress, wants_progress
from train.watch.track import NoTracker, build_tracker, check_tracker

log = logging.getLogger(__name__)


def run(config: Config) -> Record:
    """Carry out one run and return its record.

    A run whose record is `finished` or `diverged` is left alone, whatever has become of its data; one that was
    killed, or that failed, goes on from its last checkpoint. Under `torchrun` only the leading process writes, and
    only its record tells of the end.

    Raises:
        UserError: the settings do not fit this machine or this data.
        Interrupted: SIGTERM or SIGINT; the checkpoint is saved, and the state stays `running`.
        Exception: the run failed; the record says so.
    """
    hardware.check_device(config.runtime.device)
    check_tracker(config.track.to)
    check_base_lies_within(config)
    config = resolve(config, cuda=torch.cuda.is_available())
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    folder = run_dir(config)
    if (ended := _final(folder)) and not _unkept(folder, ended, config):
        log.info("already %s, nothing to do", ended["state"])
        return ended
    with join(config.runtime.device) as ranks:
        shown = ranks.leads and wants_progress(config.runtime.progress)
        corpus = open_corpus(config.data, cache_dir=Path(config.runtime.cache_dir), progress=shown)
        base = find_base(config, fingerprint=corpus.fingerprint, vocab_size=corpus.vocab_size)
        cost = run_cost(config, corpus.vocab_size, base=base.cost if base else None)
        if base is not None and latest(folder) is None:
            base.checkpoint()  # must be there before anything is built or written
        if config.train.batch_size % ranks.world:
            raise ConfigError(
                f"train.batch_size: {config.train.batch_size} cannot be shared by {ranks.world} processes; "
                f"allowed: a multiple of {ranks.world}"
            )
        job = assemble(config, corpus, cost, ranks, folder, base=base, shown=shown)
        if not ranks.leads:
            _train(job)
            return describe.facts(job)
        with locked(folder):
            record = _final(folder) or _lead(job)
            if steps := _unkept(folder, record, config):
                log.info("making steps again, whose checkpoints others need: %s", ", ".join(map(str, steps)))
                again = assemble(config, corpus, cost, ranks, folder, base=base, shown=False)
                _keep_passed(dataclasses.replace(again, micro_batch=record["micro_batch"]), record, steps)
            return record


def _final(folder: Path) -> Record | None:
    """The record of a run that has ended for good."""
    record = read_run(folder)
    if record is None or record["state"] not in FINAL:
        return None
    return record


def _unkept(folder: Path, record: Record, config: Config) -> list[int]:
    """The steps of `train.keep` that a run has made without keeping their checkpoints.

    Raises:
        ConfigError: the run has no such step.
    """
    steps = sorted(set(parse_steps(config.train.keep))) if config.train.keep else []
    check_kept(steps, record["n_steps"])
    return [step for step in steps if not diverged_by(record, step) and checkpoint_at(folder, step) is None]


def _keep_passed(job: Job, record: Record, steps: list[int]) -> None:
    """From the last checkpoint before the first of the steps, or from the start, as the run made them."""
    torch.set_num_threads(record["hardware"]["threads"])
    checkpoint = latest(job.folder, until=steps[0])
    keep_passed(job, load_checkpoint(checkpoint, job.model, job.optimizer) if checkpoint else begin(job), steps)


def _lead(job: Job) -> Record:
    """Train, and write the record: before, and after whatever happens."""
    record = _begin(job)
    # Not before the folder is held and the record begun, since a tracker writes into it.
    job = dataclasses.replace(job, tracker=build_tracker(job.config, job.folder))
    try:
        outcome = _train(job)
        record |= describe.result(job, outcome)
        record["metrics_sha256"] = write_parquet(job.folder)
        write_run(job.folder, record)
    except Interrupted:
        raise
    except Exception as error:
        record |= describe.failure(error)
        write_run(job.folder, record)
        raise
    finally:
        job.tracker.finish(record)
    return record


def _begin(job: Job) -> Record:
    """Write the config and the record of a run in progress; a resumed one keeps what it said when it began."""
    record_so_far, checkpoint = read_run(job.folder), latest(job.folder)
    if record_so_far is None:
        record = describe.facts(job)
    elif record_so_far["data_fingerprint"] != job.corpus.fingerprint:
        raise RecordError(f"{job.folder}: was begun on other data; allowed: the same data, or another study name")
    else:
        step = step_of(checkpoint) if checkpoint else 0
        resumed = [*record_so_far["resumed"], describe.resumption(step)]
        record = {key: value for key, value in record_so_far.items() if key not in {"error", "ended"}}
        record |= {"state": "running", "resumed": resumed}
    write_bytes(job.folder / "config.yaml", to_yaml(job.config).encode())
    write_run(job.folder, record)
    return record


def _train(job: Job) -> Outcome:
    """From the last checkpoint, or from the start, to the end."""
    checkpoint = latest(job.folder)
    start = load_checkpoint(checkpoint, job.model, job.optimizer) if checkpoint else begin(job)
    with (
        _metrics_writer(job, after_step=start.step if checkpoint else -1) as writer,
        _signals(heard=job.ranks.world == 1) as stop_signal,
        job.progress,
    ):
        return train(job, start, writer, stop_signal)


def assemble(
    config: Config, corpus: Corpus, cost: RunCost, ranks: Ranks, folder: Path, *, base: Base | None = None, shown: bool
) -> Job:
    """Everything that the loop needs, as it is built; `train.growth.begin.begin` or a checkpoint makes it what it
    starts as.

    Writes nothing into the run's folder.
    """
    device = config.runtime.device
    model = build(
        config.model, config.param, vocab_size=corpus.vocab_size, context=config.data.context, seed=growth_seed(config)
    ).to(device)
    share = config.train.batch_size // ranks.world
    return Job(
        config=config,
        cost=cost,
        cadence=Cadence.of(config, cost),
        model=model,
        forward=torch.compile(model) if config.runtime.compile else model,
        parameters=list(model.parameters()),
        base=base,
        ramp=build_ramp(config, base, model, cost),
        optimizer=build_optimizer(model, parameter_rules(model, config.param), config.optim),
        schedule=build_schedule(config.schedule, peak=config.optim.lr, cost=cost),
        corpus=corpus,
        micro_batch=min(config.train.micro_batch or _micro_batch(config, corpus.vocab_size, share), share),
        autocast=torch.autocast(device, dtype=torch.bfloat16, enabled=config.runtime.precision == "bf16"),
        ranks=ranks,
        folder=folder,
        tracker=NoTracker(),
        progress=RunProgress(shown=shown, title=f"{config.study} {folder.name[:8]}", n_steps=cost.n_steps),
        matmul_rate=hardware.matmul_rate(device, config.runtime.precision, Path(config.runtime.cache_dir)),
    )


def _micro_batch(config: Config, vocab_size: int, share: int) -> int:
    """As many of this process's sequences as the memory takes."""
    each = activation_bytes(config.model, vocab_size=vocab_size, context=config.data.context)
    return auto_micro_batch(share, each, ACTIVATION_SHARE * hardware.memory_bytes(config.runtime.device))


@contextlib.contextmanager
def _metrics_writer(job: Job, *, after_step: int) -> Iterator[MetricsWriter | None]:
    """The writer of the leading process, None on the others."""
    if not job.ranks.leads:
        yield None
        return
    with contextlib.closing(MetricsWriter(job.folder, after_step=after_step)) as writer:
        yield writer


@contextlib.contextmanager
def _signals(*, heard: bool) -> Iterator[Callable[[], int | None]]:
    """Turn the first SIGTERM or SIGINT into a request that the yielded function tells of; a second one stops at once.

    Of several processes each would stop at its own step and the others would wait for it, so there nothing is heard.
    """
    asked: list[int] = []
    if not heard or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}

    def ask(signum: int, _: object) -> None:
        asked.append(signum)
        signal.signal(signum, before[signal.Signals(signum)])

    for signum in before:
        signal.signal(signum, ask)
    try:
        yield lambda: asked[0] if asked else None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

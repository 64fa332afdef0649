"""Config -> run record: puts a run together, decides whether to start, resume or leave it, and writes its end."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from conf.compose import write_config
from conf.schema import Config, ConfigError, UserError, resolve
from models.build import build, parameter_rules
from models.count import RunCost, count_params, flops_per_token, flops_per_token_6nd, run_cost
from train import hardware
from train.checkpoint import Position, latest, load_checkpoint
from train.data import Corpus, open_corpus
from train.distributed import Ranks, join
from train.loop import Cadence, Interrupted, Job, Outcome, train
from train.optim import build_optimizer
from train.progress import RunProgress, wants_progress
from train.record import (
    FINAL,
    MetricsWriter,
    RecordError,
    locked,
    read_metrics,
    read_run,
    run_dir,
    run_id,
    write_parquet,
    write_run,
)
from train.schedule import Schedule, build_schedule
from train.step import auto_micro_batch
from train.track import NoTracker, build_tracker, check_tracker

log = logging.getLogger(__name__)

Record = dict[str, Any]

# Shares of the memory that activations may take: several runs share a machine's, a GPU is one run's.
_ACTIVATION_SHARE = {"cpu": 1 / 8, "cuda": 1 / 2}


def run(config: Config) -> Record:
    """Carry out one run and return its final record.

    A run whose record is `finished` or `diverged` is left alone; one that was killed, or that failed, goes on
    from its last checkpoint.

    Raises:
        UserError: the settings do not fit this machine or this data; nothing was written.
        Interrupted: SIGTERM or SIGINT; the checkpoint is saved, and the state stays `running`.
        Exception: the run failed; the record says so.
    """
    hardware.check_device(config.runtime.device)
    check_tracker(config.track.to)
    config = resolve(config, cuda=torch.cuda.is_available())
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    with join(config.runtime.device) as ranks:
        folder = run_dir(config)
        found = read_run(folder)
        if found is not None and found["state"] in FINAL:
            log.info("already %s, nothing to do", found["state"])
            return found
        cache_dir = Path(config.runtime.cache_dir)
        shown = ranks.leads and wants_progress(config.runtime.progress)
        corpus = open_corpus(config.data, cache_dir=cache_dir, progress=shown)
        cost = run_cost(config, corpus.vocab_size)
        schedule = build_schedule(
            config.schedule,
            peak=config.optim.lr,
            n_steps=cost.n_steps,
            tokens_per_step=cost.tokens_per_step,
            n_params=cost.n_params,
        )
        if config.train.batch_size % ranks.world:
            raise ConfigError(
                f"train.batch_size: {config.train.batch_size} cannot be shared by {ranks.world} processes; "
                f"allowed: a multiple of {ranks.world}"
            )
        with locked(folder) if ranks.leads else contextlib.nullcontext():
            return _run_locked(config, corpus, cost, schedule, ranks, folder, shown)


def _run_locked(
    config: Config, corpus: Corpus, cost: RunCost, schedule: Schedule, ranks: Ranks, folder: Path, shown: bool
) -> Record:
    job, start, record = _prepare(config, corpus, cost, schedule, ranks, folder, shown)
    if ranks.leads:
        write_config(config, folder / "config.yaml")
        write_run(folder, record)
    try:
        with job.progress:
            outcome = train(job, start)
    except (Interrupted, UserError):
        raise
    except Exception as error:
        if ranks.leads:
            failure = {"state": "failed", "error": f"{type(error).__name__}: {error}", "ended": _now()}
            write_run(folder, record | failure)
        raise
    finally:
        if job.writer is not None:
            job.writer.close()
    if ranks.leads:
        record = record | _result(job, outcome)
        write_parquet(folder)
        write_run(folder, record)
        job.tracker.finish(record)
    return record


def _prepare(
    config: Config, corpus: Corpus, cost: RunCost, schedule: Schedule, ranks: Ranks, folder: Path, shown: bool
) -> tuple[Job, Position, Record]:
    """Build everything, restore the last checkpoint, and say what is known before the first step."""
    device = config.runtime.device
    vocab_size, context = corpus.vocab_size, config.data.context
    model = build(config.model, config.param, vocab_size=vocab_size, context=context, seed=config.seed).to(device)
    optimizer = build_optimizer(model, parameter_rules(model, config.param), config.optim)

    found = read_run(folder) or {}
    if found and found["data_fingerprint"] != corpus.fingerprint:
        raise RecordError(f"{folder}: was begun on other data; allowed: the same data, or another study name")
    checkpoint = latest(folder)
    start = load_checkpoint(checkpoint, model, optimizer) if checkpoint else Position(0, 0.0, 0.0)

    micro_batch = config.train.micro_batch or auto_micro_batch(
        config.train.batch_size // ranks.world,
        _activation_bytes_per_sequence(config, vocab_size),
        _ACTIVATION_SHARE[device] * hardware.memory_bytes(device),
    )
    rate = hardware.matmul_rate(device, config.runtime.precision, Path(config.runtime.cache_dir))
    job = Job(
        config=config,
        cost=cost,
        cadence=Cadence.of(config, cost),
        model=model,
        forward=torch.compile(model) if config.runtime.compile else model,
        optimizer=optimizer,
        schedule=schedule,
        corpus=corpus,
        micro_batch=min(micro_batch, config.train.batch_size // ranks.world),
        autocast=torch.autocast(device, dtype=torch.bfloat16, enabled=config.runtime.precision == "bf16"),
        ranks=ranks,
        folder=folder,
        writer=MetricsWriter(folder, after_step=start.step if checkpoint else -1) if ranks.leads else None,
        tracker=build_tracker(config, folder) if ranks.leads else NoTracker(),
        progress=RunProgress(
            shown=shown, title=f"{config.study} {folder.name[:8]}", n_steps=cost.n_steps, start=start.step
        ),
        matmul_rate=rate,
        stop_signal=_listen_for_signals() if ranks.world == 1 else lambda: None,
    )
    record = _facts(job) | {
        "state": "running",
        "started": found.get("started", _now()),
        "resumed_at_steps": [*found.get("resumed_at_steps", []), *([start.step] if found else [])],
    }
    return job, start, record


def _facts(job: Job) -> Record:
    """What is known of a run before its first step."""
    config, corpus, cost = job.config, job.corpus, job.cost
    sizes = {"vocab_size": corpus.vocab_size, "context": config.data.context}
    counts = count_params(config.model, **sizes)
    return {
        "run_id": run_id(config),
        "study": config.study,
        "seed": config.seed,
        **hardware.describe_code(),
        "packages": hardware.describe_packages(),
        "hardware": hardware.describe_hardware(job.device, job.ranks.world) | {"matmul_flops_per_s": job.matmul_rate},
        **corpus.summary(),
        "n_params_total": counts.total,
        "n_params_non_embedding": counts.non_embedding,
        "n_params_non_vocab": counts.non_vocab,
        "n_params_vocab": counts.vocab,
        "n_params_matmul": counts.matmul,
        "n_params_groups": counts.groups,
        "flops_per_token": flops_per_token(config.model, **sizes),
        "flops_per_token_6nd": flops_per_token_6nd(config.model, **sizes),
        "n_steps": cost.n_steps,
        **_used(job, cost.n_steps),
        "tokens_per_step": cost.tokens_per_step,
        "micro_batch": job.micro_batch,
    }


def _used(job: Job, steps: int) -> Record:
    """Tokens and FLOPs of so many steps."""
    tokens = steps * job.cost.tokens_per_step
    flops = job.cost.flops * steps // job.cost.n_steps
    sizes = {"vocab_size": job.corpus.vocab_size, "context": job.config.data.context}
    return {
        "n_tokens": tokens,
        "n_unique_tokens": min(tokens, job.corpus.n_train_windows * job.config.data.context),
        "flops": flops,
        "flops_own": flops,
        "flops_inherited": 0,
        "flops_6nd": flops_per_token_6nd(job.config.model, **sizes) * tokens,
    }


def _result(job: Job, outcome: Outcome) -> Record:
    """What is known at the end. A diverged run has the tokens and FLOPs that it used, and no final loss."""
    position, used = outcome.position, _used(job, outcome.position.step)
    train_seconds = max(position.train_seconds, 1e-9)
    result: Record = {
        "ended": _now(),
        "seconds": position.seconds,
        "train_seconds": position.train_seconds,
        "tokens_per_second": used["n_tokens"] / train_seconds,
        "mfu": used["flops"] / train_seconds / (job.matmul_rate * job.ranks.world),
    }
    if outcome.diverged_at_step is not None:
        return result | used | {"state": "diverged", "diverged_at_step": outcome.diverged_at_step}
    rows = read_metrics(job.folder)
    tail = torch.tensor([row["train_loss"] for row in rows if "train_loss" in row], dtype=torch.float64)
    tail = tail[-max(1, len(tail) // 20) :]  # one batch is noisy; the last twentieth is not yet another model
    return result | {
        "state": "finished",
        "train_loss": tail.mean().item(),
        "val_loss": rows[-1]["val_loss"],
        "val_loss_se": rows[-1]["val_loss_se"],
    }


def _activation_bytes_per_sequence(config: Config, vocab_size: int) -> float:
    """What backward keeps of one sequence: about 12 streams and 3 MLP layers per block, 4 copies of the logits."""
    model, bytes_each = config.model, 4
    per_token = model.depth * (12 * model.width + 3 * model.hidden) + 4 * vocab_size
    return bytes_each * per_token * config.data.context


def _listen_for_signals() -> Callable[[], int | None]:
    """Turn the first SIGTERM or SIGINT into a request that the result tells of; a second one stops at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def ask(signum: int, _: object) -> None:
        asked.append(signum)
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return lambda: asked[0] if asked else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""What a run's record says: what is known before the first step, what was used, and how it ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import torch

from conf.identity import run_id
from models.count import count_params, flops_per_token, flops_per_token_6nd
from train import hardware
from train.job import Job, Outcome
from train.record.metrics_file import read_metrics

Record = dict[str, Any]


def facts(job: Job) -> Record:
    """Identity, code, machine, data and sizes; nothing that training has yet to bring about."""
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
        "n_steps_inherited": cost.inherited.steps,
        "n_tokens_inherited": cost.inherited.tokens,
        "flops_inherited": cost.inherited.flops,
        "tokens_per_step": cost.tokens_per_step,
        "micro_batch": job.micro_batch,
        "started": now(),
        "resumed": [],
        "state": "running",
    }


def resumption(step: int) -> Record:
    """An entry of `resumed`: where a run went on, and what may have changed since it began."""
    return {"at_step": step, "started": now(), "threads": torch.get_num_threads(), **hardware.describe_code()}


def result(job: Job, outcome: Outcome) -> Record:
    """What the run used and how it ended. A diverged run has no final loss."""
    position = outcome.position
    spent, inherited = job.cost.spent(position.step), job.cost.inherited
    made = position.step * job.cost.tokens_per_step
    flops_made = spent.flops - job.cost.spent(0).flops
    train_seconds = max(position.train_seconds, 1e-9)
    ended: Record = {
        "ended": now(),
        "n_tokens": spent.tokens,
        "n_tokens_own": spent.tokens - inherited.tokens,
        "n_unique_tokens": min(spent.tokens, job.corpus.n_train_windows * job.config.data.context),
        "flops": spent.flops,
        "flops_own": spent.flops - inherited.flops,
        "flops_6nd": spent.flops_6nd,
        "seconds": position.seconds,
        "train_seconds": position.train_seconds,
        "tokens_per_second": made / train_seconds,
        "mfu": flops_made / train_seconds / (job.matmul_rate * job.ranks.world),
    }
    rows = read_metrics(job.folder)
    root = rows if job.base is None else read_metrics(job.base.first.folder)  # what a run grew out of is no init
    for row in root[:1]:
        if row["step"] == 0 and "val_loss" in row:  # resuming keeps this row; a loss that is no number has no name
            ended["loss_at_init"] = row["val_loss"]
    if outcome.flight_events is not None:
        ended["flight_events"] = outcome.flight_events
    if outcome.diverged_at_step is not None:
        why = {"diverged_at_step": outcome.diverged_at_step, "diverged_because": outcome.diverged_because}
        return ended | {"state": "diverged", **why}
    tail = torch.tensor([row["train_loss"] for row in rows if "train_loss" in row], dtype=torch.float64)
    tail = tail[-max(1, len(tail) // 20) :]  # one batch is noisy; the last twentieth is not yet another model
    return ended | {
        "state": "finished",
        "train_loss": tail.mean().item(),
        "val_loss": rows[-1]["val_loss"],
        "val_loss_se": rows[-1]["val_loss_se"],
    }


def failure(error: Exception) -> Record:
    """How a run ended that raised."""
    return {"state": "failed", "error": f"{type(error).__name__}: {error}", "ended": now()}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""Runs that learn the map from their base: what is tuned, on what, what it costs; and runs that untie templates."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from conf.config import Config
from conf.identity import run_id
from models.count import learn_flops
from models.growth.learned import LearnedGrowth
from models.growth.rules import GrowthError
from tests.helpers import metrics
from train import loop, traced_step
from train.__main__ import main
from train.data.corpus import open_corpus
from train.distributed import Ranks
from train.growth import begin as growth
from train.growth import tune as tune_growth
from train.growth.begin import begin
from train.record.checkpoints import checkpoint_at
from train.record.lineage import find_base
from train.record.run import read_run, run_dir
from train.run import assemble, run
from train.step import sequence_losses
from train.timetable.cost import run_cost

Tiny = Callable[..., Config]

TRUNK = ("schedule=constant", "schedule.warmup=4steps", "train.keep='0,8'", "optim.lr=1e-2")
LEARN = ("grow.learn_steps=6", "grow.learn_lr=0.02", "train.keep='0'", "train.duration=4steps")
DEEP = ("model.depth=4", "grow.depth=learn")
WIDE = ("model.width=32", "model.heads=4", "grow.width=learn")


def from_step_8(base: Config, *overrides: str) -> list[str]:
    return [f"grow.base={run_id(base)}", "grow.step=8", *overrides]


def job_of(config: Config) -> loop.Job:
    """The run, before it begins."""
    corpus = open_corpus(config.data, cache_dir=Path(config.runtime.cache_dir))
    base = find_base(config, fingerprint=corpus.fingerprint, vocab_size=corpus.vocab_size)
    assert base is not None
    cost = run_cost(config, corpus.vocab_size, base=base.cost)
    return assemble(config, corpus, cost, Ranks(), run_dir(config), base=base, shown=False)


def start(config: Config) -> dict[str, Tensor]:
    """The weights that a finished run began with."""
    path = checkpoint_at(run_dir(config), 0)
    assert path is not None
    return load_file(path / "model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("learned", [DEEP, WIDE, (*DEEP, *WIDE)], ids=["depth", "width", "both"])
def test_tuning_lowers_the_loss_on_what_it_was_tuned_on(tiny: Tiny, learned: tuple[str, ...]) -> None:
    """With a learning rate next to nothing it stays where it was."""
    trunk = tiny(*TRUNK)
    run(trunk)
    before = hashes(run_dir(trunk))
    losses = {}
    for rate in ("0.02", "1e-12"):
        job = job_of(tiny(*from_step_8(trunk, *LEARN, *learned, f"grow.learn_lr={rate}")))
        begin(job)
        windows_BT1 = torch.cat([tune_growth._windows(job, step) for step in range(6)])
        with torch.no_grad():
            losses[rate] = sequence_losses(job.model(windows_BT1[:, :-1]), windows_BT1[:, 1:]).mean().item()
    assert losses["0.02"] < losses["1e-12"] - 0.005
    if learned == DEEP:
        stacked = job_of(tiny(*from_step_8(trunk, *LEARN[2:], "model.depth=4", "grow.depth=stack")))
        begin(stacked)
        with torch.no_grad():
            loss = sequence_losses(stacked.model(windows_BT1[:, :-1]), windows_BT1[:, 1:]).mean().item()
        assert losses["1e-12"] == pytest.approx(loss, abs=1e-6)
    assert hashes(run_dir(trunk)) == before


def test_tuning_is_deterministic_and_made_again_after_a_kill(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    child = tiny(*from_step_8(trunk, *LEARN, *DEEP, *WIDE))
    run(child)
    once = start(child)
    shutil.rmtree(run_dir(child))
    original, made = tune_growth._step, []

    def stop_at_four(*arguments: object) -> Tensor:
        made.append(None)
        if len(made) == 4:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(tune_growth, "_step", stop_at_four)
        with pytest.raises(KeyboardInterrupt):
            run(child)
    assert (read_run(run_dir(child)) or {})["state"] == "running"
    assert checkpoint_at(run_dir(child), 0) is None
    run(child)
    assert same(start(child), once)
    other = tiny(*from_step_8(trunk, *LEARN, *DEEP, *WIDE, "grow.learn_steps=5"))
    run(other)
    assert not same(start(other), once)


def test_tuning_takes_the_batches_between_the_bases_and_the_runs_own(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    seen: dict[str, list[NDArray[np.int64]]] = {"tuning": [], "own": []}
    original = traced_step.whole_batch

    def look(kind: str) -> Callable[..., NDArray[np.int64]]:
        def whole_batch(*given: Any, **before: Any) -> NDArray[np.int64]:
            seen[kind].append(original(*given, **before))
            return seen[kind][-1]

        return whole_batch

    monkeypatch.setattr(traced_step, "whole_batch", look("own"))
    monkeypatch.setattr(tune_growth, "whole_batch", look("tuning"))
    child = tiny(*from_step_8(trunk, *LEARN, *DEEP))
    run(child)
    corpus = open_corpus(child.data, cache_dir=Path(child.runtime.cache_dir))
    expected = [corpus.train_batch(child.seed, step, 8) for step in range(8, 8 + 6 + 4)]
    assert len(seen["tuning"]) == 6
    np.testing.assert_array_equal(np.stack(seen["tuning"] + seen["own"]), np.stack(expected))
    assert not np.array_equal(seen["own"][0], expected[0])


@pytest.mark.parametrize("rate", [1e-2, 2e-2])
def test_tuning_is_adam_on_the_loss_of_the_grown_model(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    """In micro-batches, for all of which the weights are formed once; at another rate it is something else."""
    trunk = tiny(*TRUNK)
    run(trunk)
    config = tiny(*from_step_8(trunk, *LEARN, *DEEP, *WIDE, "grow.learn_steps=3", "grow.learn_lr=1e-2"))
    job = job_of(config)
    maps: list[LearnedGrowth] = []
    formed: list[LearnedGrowth] = []
    original, tune = LearnedGrowth.grown_state, tune_growth.tune
    monkeypatch.setattr(LearnedGrowth, "grown_state", lambda self: formed.append(self) or original(self))
    monkeypatch.setattr(growth, "tune", lambda job, found: maps.append(copy.deepcopy(found)) or tune(job, found))
    begin(dataclasses.replace(job, micro_batch=3))
    assert len(formed) == 3 + 1  # each step, and the weights that come of it

    reference = maps[0]
    optimizer = torch.optim.Adam(reference.parameters(), lr=rate)
    for step in range(3):
        windows_BT1 = torch.from_numpy(job.corpus.train_batch(config.seed, 8 + step, 8))
        logits_BTV = functional_call(job.model, reference.grown_state(), (windows_BT1[:, :-1],))
        optimizer.zero_grad()
        F.cross_entropy(logits_BTV.flatten(0, 1), windows_BT1[:, 1:].flatten()).backward()
        optimizer.step()
    expected = reference.grown_state()
    close = [torch.allclose(tensor, expected[name], atol=1e-3) for name, tensor in job.model.state_dict().items()]
    assert all(close) == (rate == config.grow.learn_lr)


def test_tuning_is_charged(tiny: Tiny) -> None:
    """Tokens and FLOPs of six steps, and of forming the weights at each step and after the last one; no step's row."""
    trunk = tiny(*TRUNK)
    run(trunk)
    child = tiny(*from_step_8(trunk, *LEARN, *DEEP, *WIDE))
    free = tiny(*from_step_8(trunk, *LEARN[2:], "model.depth=4", *WIDE[:2]))
    record, other = run(child), run(free)
    tokens = 6 * 8 * 16
    forward, backward = learn_flops(trunk.model, child.model, child.grow, vocab_size=16, context=16)
    assert record["n_tokens_own"] - other["n_tokens_own"] == tokens
    assert record["flops_own"] - other["flops_own"] == (
        tokens * record["flops_per_token"] + 6 * (forward + backward) + forward
    )
    assert record["flops_6nd"] - other["flops_6nd"] == tokens * record["flops_per_token_6nd"]
    rows, others = metrics(run_dir(child)), metrics(run_dir(free))
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    assert rows[0]["tokens"] == (8 + 6) * 8 * 16
    assert others[0]["tokens"] == 8 * 8 * 16
    assert record["seconds"] > record["train_seconds"]


def test_the_log_tells_of_it(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    with caplog.at_level(logging.INFO, logger="train"):
        run(tiny(*from_step_8(trunk, *LEARN, *DEEP)))
    first, last = (record.getMessage() for record in caplog.records if "map" in record.getMessage())
    assert first == "learning the map from the base: 6 steps"
    assert last.startswith("learned the map: training loss ")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="train"):
        run(tiny(*from_step_8(trunk, *LEARN[2:], "model.depth=4")))
    assert not [record for record in caplog.records if "map" in record.getMessage()]


@pytest.mark.parametrize("depth", [2, 5])
def test_a_run_unties_the_templates_of_its_base(tiny: Tiny, depth: int) -> None:
    """With as many blocks it starts at the base's loss."""
    trunk = tiny(*TRUNK, "model.templates=2", "eval.every=4steps")
    run(trunk)
    before = next(row["val_loss"] for row in metrics(run_dir(trunk)) if row["step"] == 8)
    plain = ("train.duration=4steps", "model.templates=null", "grow.depth=templates")
    child = tiny(*from_step_8(trunk, *plain, f"model.depth={depth}"))
    record = run(child)
    assert record["state"] == "finished"
    assert (abs(metrics(run_dir(child))[0]["val_loss"] - before) < 1e-5) == (depth == 2)
    wider = tiny(*from_step_8(trunk, *plain, f"model.depth={depth}", *WIDE, *LEARN[:2]))
    assert run(wider)["state"] == "finished"


def test_what_cannot_be_learned_is_one_line(
    tiny: Tiny, settings: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    with pytest.raises(GrowthError, match="has nothing to learn"):
        run(tiny(*from_step_8(trunk, *LEARN, "grow.depth=learn")))
    assert main(settings(*from_step_8(trunk, *LEARN, *DEEP, "grow.noise=0.1"))) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: grow.noise: 0.1 is not allowed with a learned map")

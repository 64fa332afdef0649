"""Starting from another run: what is inherited, what goes on where, and when it is the run that it would have been."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conf.compose import compose
from conf.config import Config
from conf.identity import run_id
from conf.schema import ConfigError
from models.build import build
from models.growth.rules import GrowthError
from tests.helpers import EXPLODING, interrupt_at, metrics
from train import loop, traced_step
from train.checkpoint import latest, read_checkpoint
from train.record.checkpoints import checkpoint_at, step_name
from train.record.run import RecordError, read_run, run_dir
from train.run import run
from train.timetable.cost import Spent

Tiny = Callable[..., Config]

TRUNK = ("schedule=constant", "schedule.warmup=4steps", "train.keep=0,8,12")
WSD = ("schedule=wsd", "schedule.warmup=4steps", "schedule.cooldown=8steps")


def grown(base: Config, step: int, *overrides: str) -> list[str]:
    return [f"grow.base={run_id(base)}", f"grow.step={step}", *overrides]


def weights(config: Config) -> dict[str, Tensor]:
    path = latest(run_dir(config))
    assert path is not None
    return load_file(path / "model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def folder_hash(folder: Path | None) -> str:
    assert folder is not None
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


# --- one trunk, many budgets -----------------------------------------------------------------------------


@pytest.mark.parametrize("carry", ["carry", "reset"])
def test_a_branch_is_the_run_from_scratch(tiny: Tiny, carry: str) -> None:
    """Bit for bit; dropping the optimiser's moments is the control."""
    trunk, scratch = tiny(*TRUNK), tiny(*WSD, "train.duration=20steps")
    branch = tiny(*WSD, *grown(trunk, 12, "grow.schedule=continue", f"grow.optimizer={carry}"), "train.duration=8steps")
    for config in (trunk, scratch, branch):
        run(config)
    assert same(weights(branch), weights(scratch)) == (carry == "carry")
    own = {row["step"] + 12: row for row in metrics(run_dir(branch)) if row["step"]}
    whole = {row["step"]: row for row in metrics(run_dir(scratch))}
    assert [own[step]["lr"] for step in range(13, 21)] == [whole[step]["lr"] for step in range(13, 21)]
    for key in ("tokens", "flops"):
        assert [row[key] for row in own.values()] == [whole[step][key] for step in own]


def test_a_base_goes_by_its_id_or_its_folder(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    by_id, by_folder = (
        tiny("model.depth=4", f"grow.base={base}", "grow.step=8") for base in (run_id(trunk), f"{run_dir(trunk)}/")
    )
    assert by_id == by_folder
    assert by_id.grow.base == run_id(trunk)


def test_a_schedule_that_restarts_has_a_warm_up_of_its_own(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    child = tiny("schedule.warmup=4steps", *grown(trunk, 8), "train.duration=8steps")
    run(trunk)
    run(child)
    rates = [row["lr"] for row in metrics(run_dir(child)) if row["step"]]
    assert rates[:4] == sorted(rates[:4])
    assert rates[0] == pytest.approx(child.optim.lr / 5)


def test_a_branch_off_a_grown_run_goes_on_in_its_schedule(tiny: Tiny) -> None:
    """And not in that of the run before, whose steps do not count in it."""
    trunk = tiny(*TRUNK)
    run(trunk)
    cosine = ("schedule=cosine", "schedule.warmup=3steps", "model.depth=4")
    whole = tiny(*cosine, *grown(trunk, 8), "train.keep=10")
    run(whole)
    branch = tiny(
        *cosine, *grown(whole, 10, "grow.schedule=continue", "grow.optimizer=carry"), "train.duration=10steps"
    )
    run(branch)
    assert same(weights(branch), weights(whole))
    rates = {row["step"]: row["lr"] for row in metrics(run_dir(whole)) if row["step"]}
    assert [row["lr"] for row in metrics(run_dir(branch)) if row["step"]] == [rates[step] for step in range(11, 21)]


def test_the_loss_at_initialisation_is_that_before_any_training(tiny: Tiny) -> None:
    """Also of what has grown, which begins far below it."""
    trunk = tiny(*TRUNK)
    middle = tiny("model.depth=4", *grown(trunk, 12), "train.keep=6")
    top = tiny("model.depth=8", *grown(middle, 6))
    at_init = {run(config)["loss_at_init"] for config in (trunk, middle, top)}
    assert len(at_init) == 1
    assert metrics(run_dir(top))[0]["val_loss"] < at_init.pop() - 0.1


def test_a_decay_does_not_begin_before_its_branch(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    late = grown(trunk, 12, "grow.schedule=continue", "grow.optimizer=carry")
    with pytest.raises(ConfigError, match=r"schedule\.cooldown: '8steps' is 8 steps, of which this run makes only"):
        run(tiny(*WSD, *late, "train.duration=7steps"))


# --- what is inherited -----------------------------------------------------------------------------------


def test_cost_is_the_sum_over_the_chain(tiny: Tiny) -> None:
    small, middle = tiny(*TRUNK), None
    run(small)
    middle = tiny("model.depth=4", *grown(small, 8), "train.keep=5", "train.batch_size=4", "train.duration=10steps")
    run(middle)
    large = tiny("model.depth=8", *grown(middle, 5), "train.duration=10steps")
    first, second, third = (read_run(run_dir(config)) or run(config) for config in (small, middle, large))
    assert second["n_tokens_inherited"] == 8 * 8 * 16
    assert third["n_tokens_inherited"] == 8 * 8 * 16 + 5 * 4 * 16
    assert third["n_tokens"] == third["n_tokens_inherited"] + third["n_tokens_own"]
    assert third["n_tokens_own"] == 10 * 8 * 16
    inherited = first["flops_per_token"] * 8 * 8 * 16 + second["flops_per_token"] * 5 * 4 * 16
    assert third["flops_inherited"] == inherited
    assert third["flops"] == inherited + third["flops_own"] == metrics(run_dir(large))[-1]["flops"]
    assert metrics(run_dir(large))[0]["flops"] == inherited
    assert third["n_steps_inherited"] == 13


def test_the_data_go_on_where_the_base_stopped(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Any]] = {}
    original = traced_step.whole_batch

    def look(job: loop.Job, step: int) -> Any:
        batch = original(job, step)
        seen.setdefault(job.folder.name, []).append(batch)
        return batch

    monkeypatch.setattr(traced_step, "whole_batch", look)
    trunk = tiny(*TRUNK)
    child = tiny("model.depth=4", *grown(trunk, 12), "train.batch_size=16", "train.duration=4steps")
    run(trunk)
    run(child)
    base, own = (np.concatenate(seen[run_dir(config).name]) for config in (trunk, child))
    np.testing.assert_array_equal(own[: 8 * 8], base[12 * 8 :])  # eight steps of the base are four of twice the batch
    assert not np.array_equal(own[: 8 * 8], base[: 8 * 8])


def test_zero_starts_at_the_bases_loss_and_stack_does_not(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK, "eval.every=4steps", "optim.lr=1e-2")
    run(trunk)
    before = next(row["val_loss"] for row in metrics(run_dir(trunk)) if row["step"] == 12)
    for operator, equal in (("zero", True), ("stack", False)):
        child = tiny("model.depth=4", *grown(trunk, 12, f"grow.depth={operator}"), "train.duration=2steps")
        run(child)
        assert (abs(metrics(run_dir(child))[0]["val_loss"] - before) < 1e-5) == equal


def init(config: Config, seed: int) -> dict[str, Tensor]:
    return build(config.model, config.param, vocab_size=16, context=config.data.context, seed=seed).state_dict()


def correlation(one: Tensor, other: Tensor) -> float:
    return abs(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1].item())


def test_what_is_fresh_is_not_the_bases_init_once_more(tiny: Tiny) -> None:
    """Nor is the noise of one growth that of the one before; a model drawn from the run's own seed is the control."""
    trunk = tiny(*TRUNK)
    run(trunk)
    wide = tiny("model.width=32", "model.heads=4", *grown(trunk, 0, "grow.width=random"), "train.keep=0")
    run(wide)
    name, D = "blocks.0.mlp.branch.up.weight", 16
    begun, _ = read_checkpoint(run_dir(wide) / "kept" / step_name(0))
    own_HD = init(trunk, trunk.seed)[name]
    rows = slice(0, len(own_HD) // 2)
    same_seed = init(wide, wide.seed)[name]
    assert correlation(same_seed[rows, D:], own_HD[1::2]) > 0.99
    assert correlation(begun[name][rows, D:], own_HD[1::2]) < 0.2
    assert torch.equal(begun[name][: len(own_HD), :D], own_HD)

    noisy = ("grow.noise=0.5", "train.keep=0", "train.duration=1steps")
    once = tiny(*grown(trunk, 0, *noisy))
    twice = tiny(*grown(once, 0, *noisy))
    for config in (once, twice):
        run(config)
    states = [init(trunk, trunk.seed), *(read_checkpoint(checkpoint_of(config))[0] for config in (once, twice))]
    noises = [2 * (after["tokens.weight"] - before["tokens.weight"] / 2) for before, after in pairwise(states)]
    assert correlation(*noises) < 0.2
    assert noises[0].std().item() == pytest.approx(noises[1].std().item(), rel=0.2)


def checkpoint_of(config: Config) -> Path:
    return run_dir(config) / "kept" / step_name(0)


def test_what_is_measured_in_a_ramp_is_the_model_that_is_saved(tiny: Tiny) -> None:
    """A growth that keeps the function begins at the loss that the ramped run has measured, at its end and before."""
    trunk = tiny(*TRUNK)
    run(trunk)
    ramp = grown(trunk, 12, "grow.depth=random", "grow.ramp=1steps", "train.duration=2steps", "train.keep=1")
    ramped = tiny("model.depth=4", *ramp, "eval.every=1steps", "optim.lr=1e-2", "schedule=constant")
    run(ramped)
    after = tiny("model.depth=4", *grown(ramped, 1), "train.duration=1steps")
    run(after)
    losses = [row["val_loss"] for row in metrics(run_dir(ramped))]
    assert metrics(run_dir(after))[0]["val_loss"] == pytest.approx(losses[1], abs=1e-6)
    assert abs(losses[0] - losses[1]) > 1e-5


def test_new_blocks_fade_in(tiny: Tiny) -> None:
    """With the ramp the function is the base's at first; without it, it is not."""
    trunk = tiny(*TRUNK, "eval.every=4steps")
    run(trunk)
    before = next(row["val_loss"] for row in metrics(run_dir(trunk)) if row["step"] == 12)
    for ramp, equal in (("4steps", True), ("null", False)):
        settings = grown(trunk, 12, "grow.depth=random", f"grow.ramp={ramp}")
        child = tiny("model.depth=4", *settings, "train.duration=8steps")
        run(child)
        assert (abs(metrics(run_dir(child))[0]["val_loss"] - before) < 1e-5) == equal


def test_moments_are_carried_with_their_blocks(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    short = ("model.depth=4", "train.keep=0", "train.duration=1steps")
    children = {word: tiny(*short, *grown(trunk, 8, f"grow.optimizer={word}")) for word in ("carry", "reset")}
    name = "attention.branch.query.weight/exp_avg"
    base = load_file(run_dir(trunk) / "kept" / "step-000000008" / "optimizer.safetensors")
    for word, child in children.items():
        run(child)
        own = load_file(run_dir(child) / "kept" / "step-000000000" / "optimizer.safetensors")
        copied = torch.equal(own[f"blocks.3.{name}"], base[f"blocks.1.{name}"])
        assert copied == (word == "carry")
        assert float(own[f"blocks.3.{name.replace('exp_avg', 'step')}"]) == (8 if word == "carry" else 0)


# --- checkpoints that stay -------------------------------------------------------------------------------


def test_a_finished_run_makes_up_for_a_checkpoint_that_it_did_not_keep(tiny: Tiny) -> None:
    plain = tiny("schedule=constant")
    late = dataclasses.replace(plain, train=dataclasses.replace(plain.train, keep="0,8,12"))
    assert run_id(plain) == run_id(late)
    run(late)
    folder = run_dir(late)
    on_time = {step: folder_hash(checkpoint_at(folder, step)) for step in (0, 8, 12)}
    assert len(set(on_time.values())) == 3
    shutil.rmtree(folder)
    record = run(plain)
    written = (folder / "metrics.jsonl").read_bytes()
    assert checkpoint_at(folder, 8) is None
    assert run(late) == record | {"record_version": 1}
    assert {step: folder_hash(checkpoint_at(folder, step)) for step in (0, 8, 12)} == on_time
    assert (folder / "metrics.jsonl").read_bytes() == written


def test_checkpoints_made_up_for_are_those_that_the_run_had(tiny: Tiny) -> None:
    """Made again with its own micro-batches; and refused where its losses do not come out again."""
    plain = tiny("schedule=constant", "train.micro_batch=8")

    def late(steps: str) -> Config:
        return dataclasses.replace(plain, train=dataclasses.replace(plain.train, keep=steps, micro_batch=1))

    on_time = dataclasses.replace(plain, train=dataclasses.replace(plain.train, keep="12"))
    run(on_time)
    kept = folder_hash(checkpoint_at(run_dir(plain), 12))
    shutil.rmtree(run_dir(plain) / "kept")
    run(late("12"))
    assert folder_hash(checkpoint_at(run_dir(plain), 12)) == kept

    rows = (run_dir(plain) / "metrics.jsonl").read_text().splitlines()
    rows[3] = rows[3].replace('"train_loss": ', '"train_loss": 1')
    (run_dir(plain) / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    with pytest.raises(RecordError, match="step 3 made again has the loss"):
        run(late("5"))
    assert checkpoint_at(run_dir(plain), 5) is None
    with pytest.raises(ConfigError, match=r"train\.keep: 21 is beyond"):
        run(late("21"))


def test_a_grown_run_that_was_killed_goes_on(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    settings = grown(trunk, 12, "grow.depth=random", "grow.ramp=9steps")
    child = tiny("model.depth=4", *settings, "train.checkpoint_every=3steps", "train.keep=4")
    run(child)
    whole, kept = weights(child), folder_hash(checkpoint_at(run_dir(child), 4))
    shutil.rmtree(run_dir(child))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run(child)
    assert (read_run(run_dir(child)) or {})["state"] == "running"
    run(child)
    assert same(weights(child), whole)
    assert folder_hash(checkpoint_at(run_dir(child), 4)) == kept


# --- mistakes --------------------------------------------------------------------------------------------


def test_what_a_run_cannot_start_from(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    for settings, error, words in (
        (("grow.base=0123456789abcdef", "grow.step=8"), ConfigError, "is no run under"),
        (grown(trunk, 9), RecordError, "keeps no checkpoint of step 9"),
        (grown(trunk, 21), ConfigError, "beyond the base's end; allowed: 0 to 20"),
        (grown(trunk, 8, "seed=1"), ConfigError, "allowed: 0"),
        (grown(trunk, 8, "data.n_tokens=30000"), ConfigError, "trained on other data"),
        (grown(trunk, 8, "model.depth=3"), GrowthError, "model.depth: 3"),
    ):
        with pytest.raises(error, match=words) as raised:
            run(tiny(*settings))
        assert "\n" not in str(raised.value)
        assert not run_dir(tiny(*settings)).exists(), "refused before anything was built or written"
    with pytest.raises(ConfigError, match=r"train\.keep: 21 is beyond"):
        run(tiny("train.keep=21", "seed=3"))


def test_a_base_whose_weights_are_not_those_of_its_settings(tiny: Tiny) -> None:
    trunk, deeper = tiny(*TRUNK), tiny(*TRUNK, "model.depth=4")
    for config in (trunk, deeper):
        run(config)
    few, many = (run_dir(config) / "kept" / step_name(12) for config in (trunk, deeper))
    settings = ("model.depth=8", "grow.optimizer=carry", "train.duration=1steps")
    run(tiny(*settings, *grown(trunk, 12)))
    shutil.copy(few / "optimizer.safetensors", many)
    with pytest.raises(RecordError, match=r"has no optimiser's state, or one of another shape, for blocks\.[23]"):
        run(tiny(*settings, *grown(deeper, 12)))
    shutil.copy(many / "model.safetensors", few)
    with pytest.raises(RecordError, match=r" as blocks\.[23]\..*, where the run's own config\.yaml asks for nothing"):
        run(tiny(*settings, *grown(trunk, 12), "optim.lr=2e-3"))


def test_a_ramp_ends_before_others_start_from_the_run(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    random = ("model.depth=4", "grow.depth=random")
    ramped = tiny(*random, *grown(trunk, 8, "grow.ramp=10steps"), "train.keep=5,10")
    run(ramped)
    run(tiny("model.depth=4", *grown(ramped, 10), "train.duration=1steps"))
    for settings, words in (
        (("model.depth=4", *grown(ramped, 5)), "lies in the base's grow.ramp"),
        ((*random, *grown(trunk, 8, "grow.ramp=21steps")), "is 21 of the run's 20 steps"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(tiny(*settings))


def test_a_ramp_knows_blocks_that_are_used_several_times(tiny: Tiny) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    shared = ("model.depth=8", "model.stages=4", "grow.depth=random")
    run(tiny(*shared, *grown(trunk, 8, "grow.ramp=3steps"), "train.duration=4steps"))


def test_a_base_that_diverged_says_when(tiny: Tiny) -> None:
    wild = tiny(*(f"{key}={value}" for key, value in EXPLODING.items()))
    assert run(wild)["state"] == "diverged"
    with pytest.raises(RecordError, match="diverged at step 1, and has no step 18"):
        run(tiny(*grown(wild, 18)))


def test_a_base_lies_under_the_folder_of_runs(tiny: Tiny, settings: Callable[..., list[str]]) -> None:
    trunk = tiny(*TRUNK)
    run(trunk)
    for folder, words in (
        (Path("/elsewhere") / run_id(trunk), r"does not lie under runtime\.runs_dir"),
        (run_dir(trunk).parent / ".." / ".." / run_id(trunk), r"does not lie under runtime\.runs_dir"),
        (run_dir(trunk).parent / "other" / run_id(trunk), "is no run's folder"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(compose(settings(f"grow.base={folder}", "grow.step=8")))
    linked = run_dir(trunk).parents[1].with_name("linked")
    linked.symlink_to(run_dir(trunk).parents[1])
    through = linked / run_dir(trunk).parent.name / run_id(trunk)
    assert run(compose(settings(f"grow.base={through}", "grow.step=8")))["state"] == "finished"


def test_spent_adds_up() -> None:
    assert Spent(1, 2, 3, 4) + Spent(10, 20, 30, 40) == Spent(11, 22, 33, 44)

"""Dead models: found at whatever step and place they die, told to every reader, and nothing healthy taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.stability.autopsy import autopsy
from analysis.stability.lr_sweep import MATRICES, read_sweep
from analysis.stability.signals import read_signals
from analysis.tables.lint import lint
from analysis.tables.runs import read_runs
from conf.config import Config
from sweeps.engines.board import summary
from tests.helpers import gpt, interrupt_at, metrics, tokens
from train import loop, traced_step
from train.__main__ import main
from train.measure.dead import cause_of_death
from train.record.run import died, divergence, read_run, run_dir
from train.replay import replay
from train.run import run
from train.step import train_step

Tiny = Callable[..., Config]
EXACT = torch.autocast("cpu", enabled=False)
HUGE = 1e20  # whose square is beyond float32 on every processor


def kill_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """After this step the embeddings are huge, whether the run comes to it for the first time or again."""
    original = loop.step_row

    def kill(job: Any, clock: Any, at: int, **how: Any) -> Any:
        row = original(job, clock, at, **how)
        if at + 1 == step:
            with torch.no_grad():
                job.model.tokens.weight.fill_(HUGE)
        return row

    patch.setattr(loop, "step_row", kill)
    patch.setattr("train.replay.step_row", kill)


# --- models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["tokens", "blocks.1.attention.branch.out", "blocks.2.mlp.branch.down"])
def test_the_cause_names_where_the_stream_overflows(place: str) -> None:
    model = gpt()
    with torch.no_grad():
        model.get_submodule(place).weight.mul_(1e22)
    said = {"tokens": "the embedding", "blocks.1.attention.branch.out": "the attention of block 1"}
    found = cause_of_death(model, tokens(2, 16, 50), EXACT) or ""
    assert found.startswith(f"dead: {said.get(place, 'the MLP of block 2')} reaches ")
    assert found.endswith(", and the final norm is exactly 0 at 32 of 32 tokens")


@pytest.mark.parametrize("option", ["model.norm_placement=pre", "model.norm_placement=post", "model.depth=0"])
def test_a_dead_model_has_no_gradient_and_the_loss_of_a_guess(option: str) -> None:
    """Post-LN has a norm between the overflow and the final norm: what it passes on is 0."""
    model, windows_BT1 = gpt(option), tokens(4, 17, 50)
    with torch.no_grad():
        part = model.tokens if option == "model.depth=0" else model.get_submodule("blocks.3.attention.branch.out")
        part.weight.mul_(1e22)
    row = one_step(model, windows_BT1)
    assert row["grad_norm"] == 0
    assert row["train_loss"].item() == pytest.approx(log(50))
    assert (cause_of_death(model, windows_BT1[:, :-1], EXACT) or "").startswith("dead: the ")


def one_step(model: Any, windows_BT1: torch.Tensor) -> dict[str, torch.Tensor]:
    return train_step(
        model,
        list(model.parameters()),
        torch.optim.AdamW(model.parameters(), lr=0.0),
        windows_BT1,
        micro_batch=8,
        clip=None,
        clip_by="global",
        z_loss=0.0,
        autocast=EXACT,
        reduce=lambda _: None,
    )


def test_a_silent_readout_whose_targets_are_balanced_is_alive() -> None:
    """Each token is followed by each of both once: the gradient is exactly 0, the logits are, and nothing is wrong."""
    model = gpt("model.depth=0", "param.readout_scale=0", vocab_size=2)
    balanced_BT1 = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    row = one_step(model, balanced_BT1)
    assert row["grad_norm"] == 0 < row["train_loss"]
    assert not model(balanced_BT1).any()
    assert cause_of_death(model, balanced_BT1[:, :-1], EXACT) is None
    assert one_step(model, balanced_BT1[:3])["grad_norm"] > 0


# --- runs ------------------------------------------------------------------------------------------------


def test_a_run_that_dies_between_evaluations_has_diverged_at_the_next_step(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(monkeypatch, 7)
    record = run(config := tiny("eval.every=100%"))
    assert (record["state"], record["diverged_at_step"]) == ("diverged", 8)
    cause = "dead: the embedding reaches 1e+20, and the final norm is exactly 0 at 256 of 256 tokens"
    assert record["diverged_because"] == cause
    last = metrics(run_dir(config))[-1]
    assert (last["step"], last["grad_norm"]) == (8, 0)
    assert (read_run(run_dir(config)) or {})["diverged_because"] == cause
    assert "val_loss" not in record


@pytest.mark.parametrize("last", [7, 20])
def test_an_evaluation_sees_it_at_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Also after the last step, which no gradient follows."""
    kill_at(monkeypatch, last)
    record = run(config := tiny("eval.every=1steps"))
    assert (record["state"], record["diverged_at_step"]) == ("diverged", last)
    assert record["diverged_because"].startswith("dead: ")
    assert metrics(run_dir(config))[-1]["grad_norm"] > 0


@pytest.mark.parametrize("overrides", [[], ["runtime.precision=bf16"], ["train.micro_batch=3"], ["optim.clip=null"]])
def test_a_model_may_be_dead_from_the_start(tiny: Tiny, overrides: list[str]) -> None:
    record = run(tiny(f"param.embedding_std={HUGE}", *overrides))
    assert (record["state"], record["diverged_at_step"]) == ("diverged", 1)
    assert record["diverged_because"].startswith("dead: the embedding reaches ")


def test_a_rate_that_overflows_is_a_divergence(tiny: Tiny) -> None:
    """Whichever it is: where each number ends differs between processors."""
    record = run(tiny("optim.lr=1e6", "schedule.warmup=0steps"))
    assert record["state"] == "diverged"
    assert record["diverged_because"].split(":")[0] in ("dead", "exploded", "not finite")


def test_a_resumed_run_dies_like_the_uninterrupted_one(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_at(monkeypatch, 7)
    whole = run(tiny("study=whole", "train.checkpoint_every=5steps"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            run(tiny("train.checkpoint_every=5steps"))
    resumed = run(tiny("train.checkpoint_every=5steps"))
    assert resumed["resumed"][0]["at_step"] == 5
    for key in ("state", "diverged_at_step", "diverged_because"):
        assert resumed[key] == whole[key]


@pytest.mark.parametrize(
    "overrides",
    [
        ["param.readout_scale=0"],
        ["param.readout_scale=0", "model.depth=0"],
        ["param.readout_scale=0", "param.name=mup"],
        ["optim.lr=1e-30", "param.readout_scale=0"],
        ["optim.clip=1e-30"],
        ["param.embedding_std=1e15"],
        ["data.shift_every=5steps", "data.shift_for=2steps"],
    ],
)
def test_healthy_runs_are_not_dead(tiny: Tiny, overrides: list[str]) -> None:
    """Among them those whose logits or gradients are exactly 0 in places, and a stream whose square is just finite."""
    assert run(tiny("optim.lr=1e-3", *overrides))["state"] == "finished"


def test_a_batch_that_is_met_exactly_is_not_dead(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss, no gradient; and with a loss that is not 0 the model is asked, which is well."""
    original = traced_step.train_step
    for loss in (0.0, 1.0):
        silent = {"grad_norm": torch.tensor(0.0), "train_loss": torch.tensor(loss)}
        with monkeypatch.context() as patch:
            patch.setattr(traced_step, "train_step", lambda *args, to=silent, **how: original(*args, **how) | to)
            assert run(tiny(f"study=loss-{loss:.0f}"))["state"] == "finished"


# --- readers ---------------------------------------------------------------------------------------------


def test_every_reader_knows_the_cause(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(monkeypatch, 7)
    config = tiny("probe.recorder=true", "probe.recorder_steps=3", "eval.every=100%")
    folder, record = run_dir(config), run(config)
    assert summary(record) == divergence(record) == f"at step 8, {record['diverged_because']}"
    assert died(record)
    (event,) = record["flight_events"]
    assert (event["step"], event["kind"], event["because"]) == (8, "divergence", record["diverged_because"])
    found = autopsy(read_signals(folder))
    assert found.verdict.startswith("dead model (score 1.00), from step 8, with a divergence at step 8")
    told = [criterion.text for criterion in found.causes[0].criteria]
    assert told[0] == record["diverged_because"]
    assert told[1].startswith("gradient norm exactly 0 from step 8 on, at a loss of 2.77")
    assert told[2] == "block0/output_rms overflows at step 8"

    table = read_runs([folder])
    sweep = read_sweep(table, MATRICES)
    assert sweep["diverged"].to_list() == [True]
    assert sweep["loss"].to_list() == [record["loss_at_init"]]
    assert table["diverged_because"].to_list() == [record["diverged_because"]]
    assert [finding.sentence for finding in lint(table)] == ["1 run diverged; the model of 1 run was dead"]

    again = replay(folder, 0)
    assert again.equal == again.compared == 8
    assert main(["replay", str(folder), "--from", "5"]) == 0
    assert "8 of 8 recorded training losses are the same to the last bit" in capsys.readouterr().out


def test_records_without_a_cause_still_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were written before: some diverged, and dead ones finished, which an autopsy tells from its rows."""
    assert summary({"state": "diverged", "diverged_at_step": 3}) == "at step 3"
    assert not died({"state": "diverged", "diverged_at_step": 3})
    kill_at(monkeypatch, 7)
    monkeypatch.setattr(loop, "cause_of_death", lambda *_: None)
    folder: Path = run_dir(tiny("eval.every=100%"))
    assert run(tiny("eval.every=100%"))["state"] == "finished"
    assert json.loads((folder / "run.json").read_text())["val_loss"] == pytest.approx(2.7726, rel=1e-3)
    found = autopsy(read_signals(folder))
    assert found.likely is not None
    assert (found.likely.name, found.likely.step) == ("dead model", 8)
    assert "though the loss never rose" in found.verdict or "with a " in found.verdict

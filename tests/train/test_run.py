"""A run: its record, its states, resuming, identity, probes, divergence, the command line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conf.compose import compose, read_config
from conf.config import Config, resolve
from conf.identity import run_id
from tests.helpers import interrupt_at, lose_at, metrics
from train import run as run_module
from train.__main__ import main
from train.checkpoint import latest
from train.record.metrics import METRICS, check_declared
from train.record.run import RecordError, is_alive, read_run, run_dir
from train.run import run

Tiny = Callable[..., Config]
Settings = Callable[..., list[str]]


def losses(config: Config) -> list[float]:
    return [row["train_loss"] for row in metrics(run_dir(config)) if "train_loss" in row]


# --- the record ------------------------------------------------------------------------------------------


def test_a_run_leaves_a_whole_record(tiny: Tiny) -> None:
    config = tiny("eval.every=10steps")
    record = run(config)
    folder = run_dir(config)
    assert record == {k: v for k, v in (read_run(folder) or {}).items() if k != "record_version"}
    assert record["state"] == "finished"
    assert read_config(folder / "config.yaml") == config

    rows = metrics(folder)
    assert [row["step"] for row in rows] == list(range(21))
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 10, 20]
    assert rows[0]["val_loss"] == pytest.approx(math.log(16), rel=0.02)
    assert rows[-1]["val_loss"] == record["val_loss"] < rows[0]["val_loss"]
    assert record["flops"] == rows[-1]["flops"] == record["flops_per_token"] * record["n_tokens"]
    assert record["n_tokens"] == rows[-1]["tokens"] == 20 * 8 * 16
    for row in rows:
        check_declared(row)
    with pytest.raises(KeyError):
        check_declared(["los"])

    frame = pl.read_parquet(folder / "metrics.parquet")
    assert frame["step"].to_list() == [row["step"] for row in rows]
    assert frame["val_loss"].null_count() == len(rows) - 3
    assert latest(folder) is not None


def test_every_declared_metric_is_measured(tiny: Tiny) -> None:
    """With probes on, each declaration of `METRICS` has at least one value; an undeclared one is refused above."""
    config = tiny("probe=on", "model.qk_norm=head", "eval.layers=true")
    run(config)
    seen = {name for row in metrics(run_dir(config)) for name in row}
    examples = {"{l}": "1", "{n}": "1", "{role}": "hidden", "{tensor}": "block1/query"}
    for metric in METRICS:
        name = metric.name
        for placeholder, example in examples.items():
            name = name.replace(placeholder, example)
        assert name in seen, name


def test_a_finished_run_is_left_alone(tiny: Tiny, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny()
    run(config)
    before = {path: path.stat().st_mtime_ns for path in run_dir(config).rglob("*")}
    with caplog.at_level("INFO"):
        assert main(settings()) == 0
    assert "already finished" in caplog.text
    assert before == {path: path.stat().st_mtime_ns for path in run_dir(config).rglob("*")}


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(tiny: Tiny, tmp_path: Path) -> None:
    first = tiny()
    elsewhere = dataclasses.replace(first, runtime=dataclasses.replace(first.runtime, runs_dir=f"{tmp_path}/again"))
    other = tiny("seed=1")
    for config in (first, elsewhere, other):
        run(config)
    assert run_dir(first) != run_dir(elsewhere)
    assert losses(first) == losses(elsewhere)
    assert losses(first) != losses(other)


def test_identity_is_the_resolved_config_without_what_cannot_matter(tiny: Tiny) -> None:
    base = run_id(tiny())
    for same in ("study=other", "runtime.threads=2", "runtime.progress=off", "track.to=tensorboard",
                 "train.checkpoint_every=3steps", "train.micro_batch=2", "eval.batch_size=3"):  # fmt: skip
        assert run_id(tiny(same)) == base, same
    for other in ("seed=1", "optim.lr=1e-4", "model.depth=3", "runtime.precision=bf16", "probe=on", "eval.every=5%"):
        assert run_id(tiny(other)) != base, other
    auto = compose(["runtime.device=auto"])
    assert run_id(resolve(auto, cuda=False)) != run_id(resolve(auto, cuda=True))  # fp32 there, bf16 here


def test_probes_change_no_loss_by_a_bit(tiny: Tiny) -> None:
    plain, probed, shifted = tiny(), tiny("probe.every=3steps"), tiny("optim.eps=1e-7")
    for config in (plain, probed, shifted):
        run(config)
    assert losses(probed) == losses(plain)
    assert losses(shifted) != losses(plain)
    probing = [row["step"] for row in metrics(run_dir(probed)) if "log_z_mean" in row]
    assert probing == [1, 4, 7, 10, 13, 16, 19]


def test_probe_values_are_sane(tiny: Tiny) -> None:
    config = tiny("probe=on", "param.init=constant", "param.init_std=0.02")
    run(config)
    first = next(row for row in metrics(run_dir(config)) if "log_z_mean" in row)
    assert first["log_z_mean"] == pytest.approx(math.log(16), rel=0.02)
    # tiny logits attend uniformly: the mean over positions t = 1…T of ln t
    uniform = sum(math.log(t) for t in range(1, 17)) / 16
    assert first["block0/attention_entropy"] == pytest.approx(uniform, rel=1e-3)
    assert first["block0/attention_logit_max"] < 0.1
    assert first["hidden/parameter_rms"] == pytest.approx(0.02, rel=0.1)
    assert 0 < first["hidden/update_rms"] <= 1.5 * first["lr"]


# --- states ----------------------------------------------------------------------------------------------


def test_an_exploding_loss_is_a_result(tiny: Tiny, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["optim.lr=100", "optim.clip=null", "schedule.warmup=0%"]
    assert main(settings(*wild)) == 0
    config = tiny(*wild)
    record = read_run(run_dir(config))
    assert record is not None
    assert record["state"] == "diverged"
    assert record["diverged_because"].startswith("exploded: train_loss ")
    said = f"{run_dir(config)}: at step {record['diverged_at_step']}, {record['diverged_because']}"
    assert capsys.readouterr().out == f"diverged: {said}\n"
    assert record["diverged_at_step"] == metrics(run_dir(config))[-1]["step"] < 20
    assert "val_loss" not in record
    assert record["n_tokens"] == record["diverged_at_step"] * record["tokens_per_step"]


def test_a_loss_that_is_not_a_number_leaves_strict_json(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_at(monkeypatch, 12, math.nan)
    config = tiny()
    record = run(config)
    assert (record["state"], record["diverged_because"]) == ("diverged", "not finite: train_loss nan")
    text = (run_dir(config) / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert rows[-1]["non_finite"]
    assert not set(rows[-1]["non_finite"]) & set(rows[-1])


def test_a_failure_is_recorded_and_can_be_mended(
    settings: Settings, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train", broken)
        assert main(settings()) == 1
    record = read_run(run_dir(tiny()))
    assert record is not None
    assert (record["state"], record["error"]) == ("failed", "RuntimeError: out of luck")
    assert main(settings()) == 0
    assert (read_run(run_dir(tiny())) or {})["state"] == "finished"


def test_a_run_in_progress_is_not_started_twice(
    settings: Settings, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    from train.record.run import locked

    with locked(run_dir(tiny())):
        assert is_alive(run_dir(tiny()))
        assert main(settings("track=tensorboard")) == 2
    assert not (run_dir(tiny()) / "tensorboard").exists()  # the folder is the other one's
    assert "another process is running this run" in capsys.readouterr().err
    assert not is_alive(run_dir(tiny()))


def test_other_data_under_the_same_identity_is_refused(tiny: Tiny) -> None:
    config = tiny()
    run(config)
    path = run_dir(config) / "run.json"
    record = json.loads(path.read_text()) | {"state": "running", "data_fingerprint": "something else"}
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="was begun on other data"):
        run(config)


# --- resuming --------------------------------------------------------------------------------------------


def start(overrides: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_checkpoint(process: subprocess.Popen[str], folder: Path, beyond: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = latest(folder)
        if found is not None and int(found.name.split("-")[1]) >= beyond:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    pytest.fail("no checkpoint in a minute")


LONG = ["train.duration=300steps", "train.checkpoint_every=7steps", "eval.every=50steps", "model.width=64",
        "probe.every=20steps"]  # fmt: skip


def test_a_killed_run_resumes_bit_identically(settings: Settings, tiny: Tiny, tmp_path: Path) -> None:
    """kill -9 in the middle, then the same command again: the same rows and the same weights as never killed."""
    killed = tiny(*LONG)
    process = start(settings(*LONG))
    wait_for_checkpoint(process, run_dir(killed), beyond=21)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    record = read_run(run_dir(killed))
    assert record is not None
    assert record["state"] == "running"
    with (run_dir(killed) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 299, "train_lo')  # a line that the kill cut off
    assert main(settings(*LONG)) == 0

    whole = dataclasses.replace(killed, runtime=dataclasses.replace(killed.runtime, runs_dir=f"{tmp_path}/whole"))
    run(whole)
    assert (read_run(run_dir(killed)) or {})["resumed"][0]["at_step"] >= 21
    assert metrics(run_dir(killed)) == metrics(run_dir(whole))
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [latest(run_dir(config)) / name for config in (killed, whole)]  # type: ignore[operator]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_resuming_without_the_optimiser_state_is_noticed(tiny: Tiny, tmp_path: Path) -> None:
    """The control of the test above: lose the moments, and the curves part."""
    config = tiny("train.duration=40steps", "train.checkpoint_every=20steps")
    whole = dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, runs_dir=f"{tmp_path}/whole"))
    run(whole)

    original = run_module.load_checkpoint

    def forgetful(path: Path, model: Any, optimizer: Any) -> Any:
        position = original(path, model, optimizer)
        for state in optimizer.state.values():
            state["exp_avg"].zero_()
        return position

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "load_checkpoint", forgetful)
        with pytest.MonkeyPatch.context() as stop:
            interrupt_at(stop, 30)
            with pytest.raises(KeyboardInterrupt):
                run(config)
        run(config)
    rows, expected = losses(config), losses(whole)
    assert rows[:20] == expected[:20]
    assert rows[21:] != expected[21:]


def test_sigterm_saves_and_asks_to_be_resumed(settings: Settings, tiny: Tiny) -> None:
    long = [*LONG, "train.duration=100000steps", "eval.every=50000steps"]
    process = start(settings(*long))
    wait_for_checkpoint(process, run_dir(tiny(*long)), beyond=7)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "resumes" in err
    rows = metrics(run_dir(tiny(*long)))
    saved = latest(run_dir(tiny(*long)))
    assert saved is not None
    assert rows[-1]["step"] == int(saved.name.split("-")[1])
    assert (read_run(run_dir(tiny(*long))) or {})["state"] == "running"


def test_a_damaged_checkpoint_is_one_clear_line(
    settings: Settings, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny())
    folder = run_dir(tiny())
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "running"}))
    saved = latest(folder)
    assert saved is not None
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert main(settings()) == 2
    err = capsys.readouterr().err
    assert "cannot be read as a checkpoint" in err
    assert err.count("\n") == 1
    assert weights.exists()


def test_a_run_finished_by_another_process_meanwhile_is_kept(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is looked up again under the lock; a finished record is not begun anew."""
    config = tiny()
    build = run_module.assemble

    def slow(*arguments: Any, **how: Any) -> Any:
        monkeypatch.setattr(run_module, "assemble", build)
        run(config)
        return build(*arguments, **how)

    monkeypatch.setattr(run_module, "assemble", slow)
    record = run(config)
    assert record["state"] == "finished"
    assert record["resumed"] == []


def test_signals_are_handed_back(tiny: Tiny) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tiny())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_resumed_record_says_where_and_with_what(tiny: Tiny) -> None:
    config = tiny("train.duration=40steps", "train.checkpoint_every=10steps")
    with pytest.MonkeyPatch.context() as stop:
        interrupt_at(stop, 25)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    record = run(config)
    assert [entry["at_step"] for entry in record["resumed"]] == [20]
    assert record["resumed"][0]["threads"] == 1


# --- the known floor -------------------------------------------------------------------------------------


def test_the_markov_model_reaches_the_entropy_and_not_less(tiny: Tiny) -> None:
    """Within 0.03 nats of the exact entropy, and not below it by more than three standard errors."""
    trained = tiny(
        "data.alpha=0.3", "data.context=32", "data.n_tokens=2000000", "model.depth=1", "model.width=32",
        "train.duration=600steps", "train.batch_size=32", "optim.lr=1e-2", "eval.sequences=1024",
    )  # fmt: skip
    record = run(trained)
    excess = record["val_loss"] - record["data_entropy"]
    assert -3 * record["val_loss_se"] < excess < 0.03
    barely = run(dataclasses.replace(trained, train=dataclasses.replace(trained.train, duration="20steps")))
    assert barely["val_loss"] - barely["data_entropy"] > 0.03


# --- precision and compilation ---------------------------------------------------------------------------


def test_bf16_is_near_fp32_and_not_it(tiny: Tiny) -> None:
    full, half = run(tiny()), run(tiny("runtime.precision=bf16"))
    assert half["val_loss"] == pytest.approx(full["val_loss"], rel=0.01)
    assert half["val_loss"] != full["val_loss"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_gives_the_same_losses(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny()
    compiled = tiny("runtime.compile=true", f"runtime.runs_dir={tmp_path}/compiled")
    assert run_id(compiled) == run_id(config)
    run(config)
    run(compiled)
    assert losses(compiled) == pytest.approx(losses(config), rel=1e-4)
    other = tiny("seed=1")
    run(other)
    assert losses(other) != pytest.approx(losses(config), rel=1e-4)


# --- trackers --------------------------------------------------------------------------------------------


def test_a_tracker_that_fails_never_stops_a_run(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from train.watch import track

    class Broken(track.NoTracker):
        def log(self, row: Any) -> None:
            raise ConnectionError(f"no route for {row}")

    monkeypatch.setitem(track.TRACKERS, "tensorboard", lambda *_: Broken())
    assert run(tiny("track=tensorboard"))["state"] == "finished"
    assert caplog.text.count("the tracker failed") == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_what_the_record_has(tiny: Tiny) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny("track=tensorboard")
    run(config)
    events = EventAccumulator(str(run_dir(config) / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("train_loss")] == pytest.approx(losses(config))


# --- the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.learning_rate=1"], "optim.learning_rate: unknown key; allowed: name, lr"),
        (["optim.lrr=1"], "optim.lrr: unknown key; did you mean optim.lr?"),
        (["optim.lr=fast"], "optim.lr: 'fast' is not allowed; allowed: float"),
        (["optim.lr=-1"], "optim.lr: -1.0 is not allowed; allowed: > 0"),
        (["model.heads=3"], "model.heads: 3 does not divide model.width=16; allowed: 1, 2, 4, 8, 16"),
        (["model=gpt_2t"], "model: 'gpt_2t' is not a choice; allowed: gpt_10k"),
        (["train.duration=0tok"], "train.duration: '0tok' is not allowed; allowed: more than zero"),
        (["train.duration=3tok"], "train.duration: '3tok' is less than one step of 128 tokens"),
        (["train.duration=100"], "allowed: a number with a unit of steps, tok, tok/param"),
        (["data=text", "data.vocab_size=null"], "data.path: null is not allowed with data.source=text"),
        (["data=text", "data.vocab_size=null", "data.path=/no/such/file.txt"], "/no/such/file.txt"),
        (["train.duration=1e400tok"], "train.duration: '1e400tok' is not allowed"),
        (["runtime.runs_dir=/etc/hostname"], "/etc/hostname"),
        (["data.path=mine.txt"], "data.path: 'mine.txt' does nothing with data.source=markov"),
        (["schedule.warmup=20steps"], "schedule.warmup: '20steps' is 20 of 20 steps"),
        (["runtime.device=cuda"], "runtime.device: 'cuda' is not allowed"),
        (["--fast"], "--fast: unknown option"),
        (["model.norm_placement=peri", "model.layernorm_scaling=true"], "model.layernorm_scaling: true"),
    ],
)
def test_a_bad_config_is_one_line_and_status_2(
    settings: Settings, overrides: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    if "runtime.device=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(settings(*overrides)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "message"), [("", "no document"), ("a\n\nb", "is too long for the training text of 2 tokens")]
)
def test_empty_and_short_corpora_are_one_line(
    settings: Settings, content: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(content)
    text = [f"data.path={tmp_path}/a.txt", "data.vocab_size=null", "data=text"]
    assert main([s for s in settings() if not s.startswith("data")] + text) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_help_and_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "optim.lr=0.003" in text
    assert "gpt_100m" in text
    assert main(["--print-config", "optim.lr=0.5"]) == 0
    assert "lr: 0.5" in capsys.readouterr().out


# --- two processes ---------------------------------------------------------------------------------------


def test_two_processes_give_the_losses_of_one(settings: Settings, tiny: Tiny, tmp_path: Path) -> None:
    """The same global batch under torchrun with gloo, in micro-batches of 4 and 2; another batch is the control."""
    common = ["eval.every=10steps", "train.batch_size=12", "train.checkpoint_every=5steps"]
    run(tiny(*common))
    alone = metrics(run_dir(tiny(*common)))
    overrides = settings(*common, "train.micro_batch=4", f"runtime.runs_dir={tmp_path}/two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train"]
    done = subprocess.run(
        [*command, *overrides], capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    config = tiny(*common, f"runtime.runs_dir={tmp_path}/two")
    together = metrics(run_dir(config))
    assert (read_run(run_dir(config)) or {})["hardware"]["processes"] == 2
    assert len(together) == len(alone)
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-4)

    half = tiny("train.batch_size=4")
    run(half)
    assert losses(half)[-1] != pytest.approx(alone[-1]["train_loss"], rel=1e-4)

"""The flight recorder: what is a spike, what is written around one, and that a run does not notice it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conf.config import Config
from tests.helpers import lose_at, metrics
from train.checkpoint import latest
from train.data.corpus import open_corpus
from train.job import Interrupted
from train.measure.recorder import Recorder, hash_batch
from train.record.metrics_file import read_metrics
from train.record.run import RecordError, read_run, run_dir
from train.record.spikes import SpikeDetector, find_spikes
from train.run import run

Tiny = Callable[..., Config]


# --- the detector ----------------------------------------------------------------------------------------


def falling(n: int, noise: float, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The loss of a run that learns: 1 + 3 / sqrt(step), and noise."""
    return 1 + 3 / np.sqrt(np.arange(1, n + 1)) + noise * np.random.default_rng(seed).normal(size=n)


def spikes(losses: Iterable[float]) -> list[int]:
    detector = SpikeDetector()
    found = [detector.see(step, loss) for step, loss in enumerate(losses, start=1)]
    return [step for step in found if step is not None]


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_a_curve_without_spikes_has_none(noise: float) -> None:
    for seed in range(5):
        assert spikes(falling(2000, noise, seed)) == []


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("at", [100, 300, 1500])
def test_a_spike_is_found_where_it_begins(noise: float, at: int) -> None:
    for seed in range(5):
        losses = falling(2000, noise, seed)
        losses[at - 1 : at + 9] += 2 * 0.7 ** np.arange(10)
        assert spikes(losses)[:1] == [at]


def test_what_is_no_spike() -> None:
    """A single hard batch, a rise too small to matter, and one so slow that the mean follows it."""
    hard = falling(500, 0.01, 0)
    hard[299] += 3
    assert spikes(hard) == []
    hard[303] += 3  # a second high one soon after
    assert spikes(hard) == [300]
    small = falling(500, 0.001, 0)
    small[299:305] += 0.09
    assert spikes(small) == []
    small[299:305] += 0.05
    assert spikes(small)[0] == 300
    assert spikes(1 + np.arange(500) / 500) == []


def test_a_spike_begins_at_a_step_that_was_seen() -> None:
    """A run that logs every fifth step."""
    losses = dict(zip(range(5, 501, 5), flat(100, 60).values(), strict=True))
    assert find_spikes(losses.items()) == [300]


def test_a_new_level_is_soon_the_usual_one() -> None:
    losses = falling(500, 0.01, 0)
    losses[299:] += 1
    assert spikes(losses)[0] == 300
    assert max(spikes(losses)) < 310


# --- the recorder ----------------------------------------------------------------------------------------


BROKE = "exploded: it"


def record(folder: Path, losses: dict[int, float], *, keep: int = 5, after_step: int = -1, last: int = 0) -> Recorder:
    """Show a recorder a loss for each step; the step `last` diverges."""
    recorder = Recorder(folder, keep=keep, batch_sha256=lambda step: f"hash{step}", after_step=after_step)
    for step, loss in losses.items():
        recorder.see(
            {"step": step, "train_loss": loss, "log_z_mean": step / 2}, diverged=BROKE if step == last else None
        )
    return recorder


def flat(n: int, *high: int) -> dict[int, float]:
    """A loss of 2, and of 4 at some steps and the ones after them."""
    return {step: 4.0 if step in high or step - 1 in high else 2.0 for step in range(1, n + 1)}


def test_a_quiet_run_writes_nothing(tmp_path: Path) -> None:
    recorder = record(tmp_path, flat(200))
    assert recorder.events == []
    assert list(tmp_path.iterdir()) == []


def test_rows_around_a_spike_are_written(tmp_path: Path) -> None:
    recorder = record(tmp_path, flat(200, 100))
    assert recorder.events == [{"step": 100, "kind": "spike", "loss": 4.0}]
    rows = read_metrics(tmp_path, "flight.jsonl")
    assert [row["step"] for row in rows] == list(range(95, 106))
    assert {row["event"] for row in rows} == {100}
    assert [row["batch_sha256"] for row in rows] == [f"hash{row['step']}" for row in rows]
    assert all(row["log_z_mean"] == row["step"] / 2 for row in rows)


def test_what_is_written_stays_and_is_not_written_again(tmp_path: Path) -> None:
    """Or a run with many spikes would copy a growing file at every step."""
    recorder = record(tmp_path, flat(200, 100))
    with (tmp_path / "flight.jsonl").open("rb") as file:
        before = file.read()
        for step, loss in flat(400, 300).items():
            if step > 200:
                recorder.see({"step": step, "train_loss": loss}, diverged=None)
        assert len(recorder.events) == 2
        assert file.read() == (tmp_path / "flight.jsonl").read_bytes()[len(before) :] != b""


@pytest.mark.parametrize(("second", "events"), [(108, [100]), (111, [100]), (112, [100, 112]), (150, [100, 150])])
def test_events_whose_rows_overlap_are_one(tmp_path: Path, second: int, events: list[int]) -> None:
    """With 5 steps kept, the rows of 100 end at 105 and those of 111 begin at 106."""
    losses = flat(200, 100) | {second: 40.0, second + 1: 40.0}
    recorder = record(tmp_path, losses)
    assert [event["step"] for event in recorder.events] == events
    steps = [row["step"] for row in read_metrics(tmp_path, "flight.jsonl")]
    assert steps == sorted(set(range(95, 106)) | set(range(second - 5, second + 6)))
    assert sorted({row["event"] for row in read_metrics(tmp_path, "flight.jsonl")}) == events


def test_a_divergence_writes_what_there_is(tmp_path: Path) -> None:
    recorder = record(tmp_path, flat(29) | {30: math.nan}, last=30)
    assert recorder.events == [{"step": 30, "kind": "divergence", "because": BROKE, "loss": None}]
    rows = read_metrics(tmp_path, "flight.jsonl")
    assert [row["step"] for row in rows] == list(range(25, 31))
    assert rows[-1]["non_finite"] == ["train_loss"]
    (tmp_path / "early").mkdir()
    record(tmp_path / "early", {1: 2.0, 2: 99.0}, last=2)
    assert [row["step"] for row in read_metrics(tmp_path / "early", "flight.jsonl")] == [1, 2]


def test_a_spike_that_ends_in_the_divergence_is_one_event(tmp_path: Path) -> None:
    recorder = record(tmp_path, flat(52, 50) | {53: 9.0}, last=53)
    assert recorder.events == [{"step": 50, "kind": "divergence", "because": BROKE, "loss": 4.0}]
    assert [row["step"] for row in read_metrics(tmp_path, "flight.jsonl")] == list(range(45, 54))


def test_resuming_drops_later_rows_and_goes_on_with_the_event(tmp_path: Path) -> None:
    losses = flat(300, 100, 200)
    record(tmp_path, losses)
    assert [row["step"] for row in read_metrics(tmp_path, "flight.jsonl")] == [*range(95, 106), *range(195, 206)]
    with (tmp_path / "flight.jsonl").open("ab") as file:
        file.write(b'{"step": 299, "tra')  # a kill
    resumed = record(tmp_path, {s: loss for s, loss in losses.items() if 103 < s < 150}, after_step=103)
    assert resumed.events == [{"step": 100, "kind": "spike", "loss": 4.0}]
    assert [row["step"] for row in read_metrics(tmp_path, "flight.jsonl")] == list(range(95, 106))
    assert record(tmp_path, {}, after_step=50).events == []
    assert not (tmp_path / "flight.jsonl").exists()


def test_a_broken_recorder_says_so_once_and_lets_the_run_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "flight.jsonl").mkdir()
    record(tmp_path, flat(200, 100, 150))
    assert caplog.text.count("the flight recorder has stopped") == 1
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "flight.jsonl").write_text("{\n{}\n")
    with pytest.raises(RecordError, match="is damaged"):
        read_metrics(damaged, "flight.jsonl")
    record(damaged, flat(200, 100), after_step=0)
    assert (damaged / "flight.jsonl").read_text() == "{\n{}\n"


def test_the_hash_is_of_the_tokens_in_order() -> None:
    batch = np.arange(6).reshape(2, 3)
    assert hash_batch(batch) == hash_batch(batch.astype(np.int32))  # type: ignore[arg-type]  # what it is stored as
    assert hash_batch(batch) != hash_batch(batch[::-1])


# --- in a run --------------------------------------------------------------------------------------------


RECORDER = ("probe.recorder=true", "probe.recorder_steps=4")
DISTURBED = ("train.duration=60steps", "data.shift_every=40steps", "data.shift_for=4steps", "optim.lr=2e-2")


def losses_of(config: Config) -> list[float]:
    return [row["train_loss"] for row in metrics(run_dir(config)) if "train_loss" in row]


def test_a_run_does_not_notice_its_recorder(tiny: Tiny) -> None:
    plain = tiny("probe.every=7steps", *DISTURBED)
    recorded = tiny("probe.every=7steps", *DISTURBED, *RECORDER)
    other = tiny("probe.every=7steps", *DISTURBED, "optim.eps=1e-6")
    for config in (plain, recorded, other):
        run(config)
    assert metrics(run_dir(recorded)) == metrics(run_dir(plain))  # with probes at their own cadence, too
    assert losses_of(other) != losses_of(plain)
    assert not (run_dir(plain) / "flight.jsonl").exists()
    assert "flight_events" not in (read_run(run_dir(plain)) or {})


def test_a_run_records_the_shift_of_its_data(tiny: Tiny) -> None:
    """The tokens change at steps 37 to 40, the loss rises, and every row has all probes and its batch."""
    config = tiny(*DISTURBED, *RECORDER)
    record_of_run = run(config)
    events = record_of_run["flight_events"]
    assert [(event["step"], event["kind"]) for event in events] == [(37, "spike")]
    rows = read_metrics(run_dir(config), "flight.jsonl")
    steps = [row["step"] for row in rows]
    assert steps == list(range(33, steps[-1] + 1))
    assert steps[-1] >= 37 + 4
    assert events[0]["loss"] == next(row["train_loss"] for row in rows if row["step"] == 37)
    for row in rows:
        assert {"grad_norm", "log_z_mean", "block1/attention_logit_max", "block0/query/staleness"} <= set(row)
    corpus = open_corpus(config.data, cache_dir=Path(config.runtime.cache_dir))
    batch = corpus.train_batch(config.seed, 33 - 1, config.train.batch_size)
    assert rows[0]["batch_sha256"] == hash_batch(batch)
    assert rows[4]["batch_sha256"] == hash_batch(corpus.vocab_size - 1 - corpus.train_batch(config.seed, 36, 8))
    assert not any("log_z_mean" in row for row in metrics(run_dir(config)))


def test_a_quiet_run_has_no_events(tiny: Tiny) -> None:
    config = tiny("train.duration=60steps", *RECORDER)
    assert run(config)["flight_events"] == []
    assert not (run_dir(config) / "flight.jsonl").exists()


def test_a_diverged_run_has_its_last_steps(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_at(monkeypatch, 12, 99.0)
    config = tiny(*RECORDER)
    done = run(config)
    assert (done["state"], done["diverged_at_step"]) == ("diverged", 12)
    (event,) = done["flight_events"]
    assert event == {"step": 12, "kind": "divergence", "because": done["diverged_because"], "loss": 99.0}
    assert event["because"].startswith("exploded: train_loss 99")
    assert read_metrics(run_dir(config), "flight.jsonl")[-1]["step"] == 12


def test_a_resumed_run_keeps_its_events(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at 50, after the event; its rows and its event are those of the uninterrupted run."""
    whole = tiny(*DISTURBED, *RECORDER)
    run(whole)
    parted = tiny(*DISTURBED, *RECORDER, "study=parted")
    import train.loop

    seen = train.loop.Recorder.see

    def stop(self: Recorder, row: dict[str, Any], *, diverged: str | None) -> None:
        seen(self, row, diverged=diverged)
        if row["step"] == 50:
            raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(train.loop.Recorder, "see", stop)
        with pytest.raises(Interrupted):
            run(parted)
    assert latest(run_dir(parted)) is not None
    again = run(parted)
    assert len(again["resumed"]) == 1
    assert again["flight_events"] == (read_run(run_dir(whole)) or {})["flight_events"]
    assert read_metrics(run_dir(parted), "flight.jsonl") == read_metrics(run_dir(whole), "flight.jsonl")
    assert losses_of(parted) == losses_of(whole)

"""Autopsies: every cause from rows that show it and not from rows that do not, and from real small runs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from math import sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.stability.autopsy import LIKELY, Autopsy, autopsy, epsilon_of
from analysis.stability.signals import Event, Signals, find_events, read_signals
from analysis.tables.csv import TableError
from conf.config import Config
from conf.schema import GrowConfig, ModelConfig, OptimConfig, ParamConfig
from train.record.run import run_dir
from train.replay import replay
from train.run import run

Tiny = Callable[..., Config]
Row = dict[str, Any]
N = 400
WARMUP = 40


# --- synthetic rows --------------------------------------------------------------------------------------


def healthy(step: int) -> Row:
    """What a run that learns measures: every series that an autopsy reads, none of them remarkable."""
    lr = 3e-3 * min(1, step / WARMUP)
    wobble = 0.01 * sin(step * 7.3) + 0.01 * sin(step * 2.1)
    row = {"step": step, "lr": lr, "train_loss": 2 + 2 * 0.98**step + wobble, "grad_norm": 0.4 + 3 * wobble}
    row |= {"log_z_mean": 4 + step / 400, "logit_mean": 0.0, "hidden/update_rms": lr / 3, "hidden/parameter_rms": 0.1}
    for block in ("block0", "block1"):
        row |= {f"{block}/attention_logit_max": 3 + step / 50, f"{block}/attention_entropy": 2 - step / 500}
        for tensor in ("query", "up"):
            row |= {f"{block}/{tensor}/gradient_rms": 1e-4, f"{block}/{tensor}/adam_rms": 0.3}
            row |= {f"{block}/{tensor}/staleness": 1 + 10 * wobble}
    return row


def rows_of(change: Callable[[Row, int], None] | None = None, n: int = N) -> list[Row]:
    rows = [healthy(step) for step in range(1, n + 1)]
    for row in rows:
        if change is not None:
            change(row, row["step"])
    return rows


def examine(rows: list[Row], *, config: Config | None = None, **record: Any) -> Autopsy:
    """The autopsy of rows, under the default settings if there are no others."""
    facts = {"state": "finished", "n_steps": N, **record}
    config = Config() if config is None else config
    return autopsy(Signals(Path("run"), facts, config, rows, {"metrics.jsonl": len(rows)}, find_events(facts, rows)))


def name_of(found: Autopsy) -> str | None:
    return None if found.likely is None else found.likely.name


def score(found: Autopsy, name: str) -> float:
    return next(cause.score for cause in found.causes if cause.name == name)


def spike(row: Row, step: int, at: int, size: float = 2.0) -> None:
    if at <= step < at + 12:
        row["train_loss"] += size * 0.8 ** (step - at)


def diverge(row: Row, step: int, at: int) -> None:
    if step >= at:
        row["train_loss"] += (step - at + 1) * 1.0


def test_a_healthy_run_has_no_instability() -> None:
    found = examine(rows_of())
    assert found.signals.events == []
    assert name_of(found) is None
    assert found.verdict == "no instability found"
    assert max(cause.score for cause in found.causes) == 0


def test_a_dead_model() -> None:
    """Told by the record; in an older one by a gradient that is exactly 0 to the end, and a loss that is not."""

    def fall_silent(row: Row, step: int, *, until: int = N, loss: float = 4.16) -> None:
        if 200 <= step <= until:
            row |= {"grad_norm": 0.0, "train_loss": loss}

    silent = rows_of(fall_silent)
    cause = examine(silent).causes[0]
    assert (cause.name, cause.step, cause.score) == ("dead model", 200, 0.8)
    overflow = {"non_finite": ["block1/output_rms"]}
    assert examine([*silent[:-1], silent[-1] | overflow]).causes[0].score == 1
    assert score(examine(rows_of(lambda row, step: fall_silent(row, step, until=300))), "dead model") == 0
    assert score(examine(rows_of(lambda row, step: fall_silent(row, step, loss=0.0))), "dead model") == 0
    died = {"state": "diverged", "diverged_at_step": 300, "diverged_because": "dead: it is"}
    at_the_end = examine(rows_of(n=300), **died)
    assert at_the_end.verdict.startswith("dead model (score 0.60), from step 300")
    exploded = examine(rows_of(n=300), **died | {"diverged_because": "exploded: it is"})
    assert score(exploded, "dead model") == 0


def test_attention_logit_growth() -> None:
    def grow(row: Row, step: int, largest: float = 3e4) -> None:
        row["block1/attention_logit_max"] = 3 * (largest / 3) ** min(1, step / 200)
        row["block1/attention_entropy"] = 2 * (1 - min(1, step / 200)) + 0.01

    def grow_then_diverge(row: Row, step: int) -> None:
        grow(row, step)
        diverge(row, step, 300)

    found = examine(rows_of(grow_then_diverge, 305), diverged_at_step=305, state="diverged")
    assert name_of(found) == "attention-logit growth"
    assert found.causes[0].score == 1
    assert found.causes[0].step == 127  # 3 * 10^(4 * 127 / 200) is the first above 1e3
    assert "from step 127" in found.verdict
    assert name_of(examine(rows_of(grow))) == "attention-logit growth"  # a bad plateau has no event
    assert name_of(examine(rows_of(lambda row, step: grow(row, step, 900)))) is None

    def late(row: Row, step: int) -> None:
        diverge(row, step, 300)
        row["block1/attention_logit_max"] = 3.0 if step < 302 else 5e4
        row["block1/attention_entropy"] = 2.0 if step < 302 else 0.01

    after = examine(rows_of(late, 305), diverged_at_step=305, state="diverged")
    assert score(after, "attention-logit growth") < LIKELY  # what comes after the loss is no cause


def test_output_logit_drift() -> None:
    def drift(row: Row, step: int, to: float = -40.0) -> None:
        row["log_z_mean"] = 4 + (to - 4) * max(0, step - 100) / 300
        row["logit_mean"] = (to - 4) * max(0, step - 100) / 300
        diverge(row, step, 390)

    found = examine(rows_of(drift), diverged_at_step=N, state="diverged")
    assert name_of(found) == "output-logit drift"
    assert found.causes[0].score == pytest.approx(1)
    assert name_of(examine(rows_of(lambda row, step: drift(row, step, -4)), diverged_at_step=N)) is None

    def with_spike(row: Row, step: int) -> None:
        spike(row, step, 200)
        row["log_z_mean"] += 30 * (200 <= step < 212)

    assert score(examine(rows_of(with_spike)), "output-logit drift") == 0  # a spike moves log Z and brings it back


def test_epsilon_floor() -> None:
    def sink(row: Row, step: int, to: float = 1e-9) -> None:
        for tensor in ("block0/query", "block0/up", "block1/query", "block1/up"):
            gradient = 1e-4 * (to / 1e-4) ** (step / N)
            row[f"{tensor}/gradient_rms"] = gradient
            row[f"{tensor}/adam_rms"] = 0.3 * gradient / (gradient + 1e-8)

    wider = Config(
        model=ModelConfig(width=64), param=ParamConfig(name="completep", base_width=4), optim=OptimConfig(eps=1e-8)
    )
    lower = rows_of(lambda row, step: sink(row, step, 1e-8))
    assert score(examine(lower), "epsilon floor") > 0 == score(examine(lower, config=wider), "epsilon floor")
    assert epsilon_of("query", wider) < 1e-8 == epsilon_of("readout", wider)
    found = examine(rows_of(sink))
    assert name_of(found) == "epsilon floor"
    assert found.causes[0].score == pytest.approx(1)
    assert "the loss never rose" in found.verdict
    assert name_of(examine(rows_of(lambda row, step: sink(row, step, 1e-6)))) is None


def test_stale_second_moment() -> None:
    def stale(row: Row, step: int, lead: int = 3) -> None:
        for at in (150, 250, 350):
            spike(row, step, at)
            if step == at - lead:
                row["block0/query/staleness"] = 3.1

    events = [{"step": at, "kind": "spike", "loss": 4.0} for at in (150, 250, 350)]
    found = examine(rows_of(stale), flight_events=events)
    assert name_of(found) == "stale second moment"
    assert found.causes[0].score == 1
    assert found.causes[0].step == 147
    assert (
        "block0/query: staleness 3.10 at step 147, 3 before the spike at step 150" in found.causes[0].criteria[0].text
    )
    assert name_of(examine(rows_of(stale))) == "stale second moment"  # without a recorder, too
    for lead in (0, -2, 30):
        assert name_of(examine(rows_of(lambda row, step: stale(row, step, lead)))) is None, lead  # noqa: B023

    def always(row: Row, step: int) -> None:
        stale(row, step)
        row["block0/query/staleness"] = 3.0

    assert name_of(examine(rows_of(always))) is None  # before three spikes, but also before every other step

    def often(row: Row, step: int) -> None:
        stale(row, step)
        row["block0/query/staleness"] = 3.0 if step % 12 == 3 else 1.0

    assert name_of(examine(rows_of(often))) is None  # a twelfth of the steps, one of which is before most events


def test_learning_rate_too_high() -> None:
    def burst(row: Row, step: int, at: int = 42) -> None:
        diverge(row, step, at)
        if step >= at - 1:
            row["grad_norm"] *= 10
            row["hidden/update_rms"] = 0.05

    found = examine(rows_of(burst, 46), diverged_at_step=46, state="diverged")
    assert name_of(found) == "learning rate too high"
    assert found.causes[0].score == 1
    assert "2 steps after the warm-up" in found.causes[0].criteria[0].text
    late = examine(rows_of(lambda row, step: burst(row, step, 300), 304), diverged_at_step=304, state="diverged")
    assert name_of(late) is None
    assert late.verdict.startswith("unknown: a divergence at step 304")

    def with_logits(row: Row, step: int) -> None:
        burst(row, step)
        row["block0/attention_logit_max"] = 2e4 if step > 20 else 3.0

    other = examine(rows_of(with_logits, 46), diverged_at_step=46, state="diverged")
    assert name_of(other) == "attention-logit growth"  # the mechanism says more than the rate does
    assert score(other, "learning rate too high") < LIKELY


def test_a_branch_has_had_its_warm_up_in_the_run_that_it_continues() -> None:
    """A burst 40 steps into a run at its peak rate is early in a run of its own, and late in one that goes on."""

    def burst(row: Row, step: int) -> None:
        diverge(row, step, 40)
        row["lr"] = Config().optim.lr
        if step >= 39:
            row["grad_norm"] *= 10

    sizes = {"n_params_total": 1000, "tokens_per_step": 1}
    texts = {}
    for schedule in ("continue", "restart"):
        config = dataclasses.replace(Config(), grow=GrowConfig(base="b" * 16, step=10 * N, schedule=schedule))
        found = examine(rows_of(burst, 44), config=config, diverged_at_step=44, state="diverged", **sizes)
        cause = next(one for one in found.causes if one.name == "learning rate too high")
        texts[schedule] = cause.criteria[0].text
        assert cause.criteria[0].met == (schedule == "restart")
    assert re.search(r"is \d{4} steps after the warm-up", texts["continue"])
    assert "is 39 steps after" in texts["restart"]


def test_a_spike_without_a_cause_is_unknown() -> None:
    found = examine(rows_of(lambda row, step: spike(row, step, 200)))
    assert [event.step for event in found.signals.events] == [200]
    assert found.verdict.startswith("unknown: a rise at step 200")


def test_noise_is_no_event_and_a_rise_is_one() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=20_000)
    rows = [{"step": k + 1, "train_loss": 2 + float(x)} for k, x in enumerate(noise)]
    assert find_events({}, rows) == []
    for row in rows[9000:9400]:
        row["train_loss"] += 1
    (event,) = find_events({}, rows)
    assert event.step == 9001
    assert event.end == pytest.approx(9400, abs=3)


def test_probes_after_the_loss_rose_are_none() -> None:
    def burst(row: Row, step: int) -> None:
        diverge(row, step, 42)
        if step < 44:
            for name in set(row) - {"step", "lr", "train_loss", "grad_norm"}:
                del row[name]

    found = examine(rows_of(burst, 46), diverged_at_step=46, state="diverged")
    blind = [cause.blind or "" for cause in found.causes]
    assert sum("no probe before the loss rose at step 42" in text for text in blind) >= 3
    assert score(found, "attention-logit growth") == 0


def test_a_short_noisy_run_that_learns_has_no_event() -> None:
    def events(noise: float, seed: int) -> list[Event]:
        draws = noise * np.random.default_rng(seed).normal(size=60)
        losses = 3 + 4 * np.exp(-np.arange(60) / 7.5) + draws
        return find_events({}, [{"step": k + 1, "train_loss": float(loss)} for k, loss in enumerate(losses)])

    for noise in (0.05, 0.1, 0.2):
        assert sum(bool(events(noise, seed)) for seed in range(200)) <= 2


def test_what_coarse_probes_hide_is_said() -> None:
    """Rows with probes every 100 steps, and rows with none at all: the verdict rests on what is there."""

    def burst(row: Row, step: int) -> None:
        diverge(row, step, 42)
        row["grad_norm"] *= 10 if step > 40 else 1

    rows = rows_of(burst, 46)
    always = ("step", "lr", "train_loss", "grad_norm")
    coarse = [row if row["step"] % 100 == 1 else {name: row[name] for name in always} for row in rows]
    found = examine(coarse, diverged_at_step=46, state="diverged")
    assert name_of(found) == "learning rate too high"
    assert any("no probe in the last 40 steps" in (cause.blind or "") for cause in found.causes)
    none = examine([{name: row[name] for name in always} for row in rows], diverged_at_step=46, state="diverged")
    assert name_of(none) == "learning rate too high"
    assert sum("not measured" in (cause.blind or "") for cause in none.causes) == 5
    assert not any(cause.blind for cause in examine(rows, diverged_at_step=46, state="diverged").causes)
    assert score(none, "attention-logit growth") == 0


def test_the_first_row_may_be_no_number() -> None:
    rows: list[Row] = [
        {"step": 1, "lr": 1.0, "train_loss": 4.0, "grad_norm": 1.0},
        {"step": 2, "non_finite": ["train_loss"]},
    ]
    found = examine(rows, diverged_at_step=2, state="diverged")
    assert found.signals.events[0].kind == "divergence"


# --- real runs -------------------------------------------------------------------------------------------

SMALL = ("data.vocab_size=64", "data.context=32", "data.n_tokens=100000", "model.width=32", "train.batch_size=16")


def examined(config: Config) -> Autopsy:
    run(config)
    return autopsy(read_signals(run_dir(config)))


def test_a_high_rate_without_qk_norm_grows_attention_logits(tiny: Tiny) -> None:
    rate = ("optim.lr=0.3", "train.duration=100steps", "probe.every=4steps")
    found = examined(tiny(*SMALL, *rate))
    assert name_of(found) == "attention-logit growth"
    assert "above 1e4 from step" in found.causes[0].criteria[1].text
    bounded = examined(tiny(*SMALL, *rate, "model.qk_norm=head"))
    assert score(bounded, "attention-logit growth") == 0
    assert name_of(bounded) == "learning rate too high"


def test_a_healthy_small_run(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(*SMALL, "optim.lr=3e-3", "train.duration=100steps", "probe.every=4steps")
    assert examined(config).verdict == "no instability found"
    assert main(["autopsy", str(run_dir(config))]) == 0
    out = capsys.readouterr().out
    assert "events: none" in out
    assert "verdict: no instability found" in out
    assert (run_dir(config) / "autopsy.png").read_bytes().startswith(b"\x89PNG")


def test_a_shift_of_the_data_is_no_instability(tiny: Tiny) -> None:
    length = ("train.duration=60steps", "optim.lr=1e-2", "data.shift_every=25steps", "data.shift_for=8steps")
    found = examined(tiny(*SMALL, *length, "probe.recorder=true"))
    assert sorted(found.signals.shifted) == [*range(18, 26), *range(43, 51)]
    assert find_events({}, found.signals.rows)[0].step == pytest.approx(18, abs=1)  # were it not known to be a shift
    assert not any(event.step in found.signals.shifted for event in found.signals.events)


def test_a_large_epsilon_is_the_floor(tiny: Tiny) -> None:
    run_length = ("train.duration=60steps", "probe.every=10steps")
    found = examined(tiny(*SMALL, *run_length, "optim.eps=1e-1"))
    assert name_of(found) == "epsilon floor"
    assert found.causes[0].score == pytest.approx(1)
    assert name_of(examined(tiny(*SMALL, *run_length, "optim.eps=1e-8"))) is None


def test_a_replay_shows_what_the_run_did_not_measure(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(*SMALL, "optim.lr=3", "optim.clip=null", "train.duration=100steps", "probe=off")
    folder = run_dir(config)
    assert run(config)["state"] == "diverged"
    assert main(["autopsy", str(folder), "--out", str(folder / "before.png")]) == 0
    assert "could not see: the attention logits: not measured" in capsys.readouterr().out
    replay(folder, 0)
    found = autopsy(read_signals(folder))
    assert found.signals.sources["replay-0/metrics.jsonl"] == found.signals.sources["metrics.jsonl"] - 1
    assert not any("not measured" in (cause.blind or "") for cause in found.causes)
    summary = json.loads((folder / "replay-0" / "replay.json").read_text())
    differs = {"step": 2, "recorded": 1.0, "replayed": 2.0}
    (folder / "replay-0" / "replay.json").write_text(json.dumps(summary | {"first_difference": differs}))
    assert read_signals(folder).sources["replay-0/metrics.jsonl"] == 1  # what is another run's is left out


def test_recorded_steps_are_read(tiny: Tiny) -> None:
    config = tiny(*SMALL, "optim.lr=3", "optim.clip=null", "probe=off", "probe.recorder=true")
    found = examined(config)
    rows = found.signals.sources["flight.jsonl"]
    assert len(found.signals.series("log_z_mean")[0]) == rows > 0
    assert found.signals.events[-1].kind == "divergence"


def test_mistakes_are_one_line(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("train.duration=5steps")
    run(config)
    folder = run_dir(config)
    for arguments, said in (
        ([str(tmp_path)], "not a run folder"),
        ([str(folder), "--out", str(tmp_path / "a.gif")], "not a picture"),
        ([str(folder), "--out", str(tmp_path / "no" / "a.png")], "there is no folder"),
    ):
        assert main(["autopsy", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: "), error
        assert error.count("\n") == 1
        assert said in error
    (folder / "flight.jsonl").write_text("{\n{}\n")
    assert main(["autopsy", str(folder)]) == 2
    assert "is damaged" in capsys.readouterr().err
    (folder / "flight.jsonl").unlink()
    (folder / "metrics.jsonl").write_text('{"step": 0, "val_loss": 1.0}\n')
    with pytest.raises(TableError, match="no training loss yet"):
        read_signals(folder)


def test_scores_are_sums_of_points_and_need_the_first() -> None:
    for cause in examine(rows_of()).causes:
        if len(cause.criteria) > 1:
            assert sum(criterion.points for criterion in cause.criteria) == pytest.approx(1)
        everything = tuple(dataclasses.replace(c, met=True) for c in cause.criteria)
        if len(everything) > 1:
            assert dataclasses.replace(cause, criteria=everything).score == 1
            but_first = (cause.criteria[0], *everything[1:])
            assert dataclasses.replace(cause, criteria=but_first).score == 0

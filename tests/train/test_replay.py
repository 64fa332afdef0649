"""Replays: the same numbers again, everything measured, nothing of the run touched, one line for a mistake."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from conf.config import Config
from tests.helpers import lose_at, metrics
from train import replay as replay_module
from train.__main__ import main
from train.record.metrics import check_declared
from train.record.metrics_file import read_metrics
from train.record.run import RecordError, run_dir
from train.replay import ReplayError, replay
from train.run import run

Tiny = Callable[..., Config]


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and "replay-" not in str(path))
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_finished_run_is_replayed_from_the_beginning(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("probe.every=7steps")
    run(config)
    folder = run_dir(config)
    before = contents(folder)
    assert main(["replay", str(folder), "--from", "12", "--to", "18"]) == 0
    assert contents(folder) == before
    out = capsys.readouterr().out
    assert "steps 1 to 18, from the beginning" in out
    assert "18 of 18 recorded training losses are the same to the last bit" in out

    recorded = {row["step"]: row for row in metrics(folder)}
    rows = metrics(folder / "replay-12")
    assert [row["step"] for row in rows] == list(range(1, 19))
    for row in rows:
        assert ("log_z_mean" in row) == (row["step"] > 12)
        assert len(row.pop("batch_sha256")) == 64
        check_declared(row)
        for name in set(row) & set(recorded[row["step"]]):  # the probe of step 15 among them
            assert row[name] == recorded[row["step"]][name], name
    assert "block0/key/staleness" in set(rows[14]) & set(recorded[15])
    summary = json.loads((folder / "replay-12" / "replay.json").read_text())
    assert (summary["compared"], summary["equal"], summary["first_difference"]) == (18, 18, None)


def test_a_diverged_run_is_replayed_from_its_last_checkpoint(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_at(monkeypatch, 12, 99.0)
    config = tiny("train.checkpoint_every=5steps", "probe.recorder=true", "probe.recorder_steps=3")
    done = run(config)
    last = done["diverged_at_step"]
    assert (done["state"], last) == ("diverged", 12)
    folder = run_dir(config)
    before = contents(folder)
    again = replay(folder, last - 1)
    assert contents(folder) == before
    assert again.started_at == 10
    assert again.compared == again.equal == last - again.started_at
    hashed = [row["step"] for row in read_metrics(folder, "flight.jsonl") if row["step"] > again.started_at]
    assert again.batches_compared == again.batches_equal == len(hashed) > 0
    early = replay(folder, again.started_at - 1)  # the checkpoint is later than that
    assert early.started_at == 0
    assert early.equal == early.compared == last


def test_a_replay_starts_from_the_last_checkpoint_that_is_kept(tiny: Tiny) -> None:
    config = tiny("train.keep=4,12", "train.duration=20steps")
    run(config)
    for from_step, started_at in ((3, 0), (4, 4), (13, 12), (19, 12)):
        again = replay(run_dir(config), from_step, from_step + 1)
        assert (again.started_at, again.equal) == (started_at, again.compared)


def test_a_loss_that_is_no_number_equals_itself(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_at(monkeypatch, 12, math.nan)
    config = tiny()
    assert run(config)["state"] == "diverged"
    again = replay(run_dir(config), 0)
    assert again.equal == again.compared == again.to_step
    assert metrics(again.folder)[-1]["non_finite"]


def test_what_differs_is_reported(tiny: Tiny) -> None:
    """Another record, another loss in it: the replay says where it parted, and what was not as before."""
    config = tiny()
    run(config)
    folder = run_dir(config)
    record = json.loads((folder / "run.json").read_text())
    record["packages"]["numpy"] = "0.1"
    record["hardware"]["device_name"] = "abacus"
    (folder / "run.json").write_text(json.dumps(record))
    rows = metrics(folder)
    rows[9]["train_loss"] += 1e-9
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = replay(folder, 0)
    assert (again.compared, again.equal) == (20, 19)
    assert again.first_difference is not None
    assert again.first_difference["step"] == 9
    assert again.first_difference["recorded"] == again.first_difference["replayed"] + 1e-9
    assert any(warning.startswith("numpy: ") for warning in again.warnings)
    assert any("the run had abacus" in warning for warning in again.warnings)
    assert not any(warning.startswith("torch: ") for warning in again.warnings)


def test_mistakes_are_one_line_and_lose_nothing(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny()
    run(config)
    folder = run_dir(config)
    assert main(["replay", str(folder), "--from", "0", "--to", "3"]) == 0
    kept = contents(folder / "replay-0")
    capsys.readouterr()
    for arguments, said in (
        ([str(tmp_path), "--from", "1"], "not a run folder"),
        ([str(tmp_path / "nowhere"), "--from", "1"], "not a run folder"),
        ([str(folder), "--from", "20"], "allowed: 0 to 19"),
        ([str(folder), "--from", "-1"], "allowed: 0 to 19"),
        ([str(folder), "--from", "5", "--to", "5"], "allowed: 6 to 20"),
        ([str(folder), "--from", "0", "--to", "21"], "allowed: 1 to 20"),
        ([str(folder)], "required: --from"),
        ([str(folder), "--from", "soon"], "invalid int value"),
    ):
        assert main(["replay", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: "), error
        assert error.count("\n") == 1
        assert said in error
    assert contents(folder / "replay-0") == kept


def test_other_data_or_no_rows_are_refused(tiny: Tiny) -> None:
    config = tiny()
    run(config)
    folder = run_dir(config)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"data_fingerprint": "other"}))
    with pytest.raises(RecordError, match="other data"):
        replay(folder, 0)
    assert not (folder / "replay-0").exists()
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(ReplayError, match="no step yet"):
        replay(folder, 0)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.yaml", b"a: [\n", "cannot be read"),
        ("config.yaml", b"\xff\xfe", "cannot be read"),
        ("config.yaml", b"- a\n", "config.yaml: "),
        ("config.yaml", b"rate: 1\n", "rate"),
        ("run.json", None, "lacks hardware"),
    ],
)
def test_a_damaged_run_is_named_in_one_line(
    name: str, content: bytes | None, said: str, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny("train.duration=4steps")
    run(config)
    path = run_dir(config) / name
    if content is None:
        record = json.loads(path.read_text())
        content = json.dumps({key: value for key, value in record.items() if key != "hardware"}).encode()
    path.write_bytes(content)
    capsys.readouterr()
    assert main(["replay", str(path.parent), "--from", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (path.parent / "replay-0").exists()


def test_the_comparison_can_fail(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of another seed give other losses and other hashes."""
    lose_at(monkeypatch, 12, 99.0)
    config = tiny("probe.recorder=true")
    run(config)
    changed = tiny("probe.recorder=true", "seed=1")
    monkeypatch.setattr(replay_module, "read_config", lambda _: changed)
    again = replay(run_dir(config), 0)
    assert again.equal < again.compared
    assert again.batches_equal == 0 < again.batches_compared

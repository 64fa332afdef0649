"""What a record says of the machine, and a rate that is measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conf.schema import ConfigError
from train import hardware
from train.hardware import check_device, describe_code, describe_hardware, describe_packages, matmul_rate


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The (device, precision) of each measurement, of which none is made."""
    asked: list[tuple[str, str]] = []

    def rate(device: str, precision: str) -> float:
        asked.append((device, precision))
        return 1e9 * len(asked)

    monkeypatch.setattr(hardware, "_measure_matmul", rate)
    return asked


def test_a_rate_is_measured_once_for_what_it_depends_on(measured: list[tuple[str, str]], tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    assert [matmul_rate("cpu", precision, cache) for precision in ("fp32", "bf16", "fp32", "bf16")] == [
        1e9, 2e9, 1e9, 2e9
    ]  # fmt: skip
    assert measured == [("cpu", "fp32"), ("cpu", "bf16")]
    (key, _) = json.loads((cache / "matmul_rate.json").read_text())
    assert f"{torch.get_num_threads()} threads | torch {torch.__version__}" in key


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"any": "text"}', '{"any": null}'])
def test_a_file_that_is_not_ours_is_measured_anew_and_mended(
    measured: list[tuple[str, str]], tmp_path: Path, content: str
) -> None:
    (tmp_path / "matmul_rate.json").write_text(content)
    assert [matmul_rate("cpu", "fp32", tmp_path) for _ in range(2)] == [1e9, 1e9]
    assert len(measured) == 1


def test_what_else_was_measured_is_kept(measured: list[tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "matmul_rate.json").write_text('{"another machine": 5.0, "odd": "text"}')
    matmul_rate("cpu", "fp32", tmp_path)
    kept = json.loads((tmp_path / "matmul_rate.json").read_text())
    assert kept["another machine"] == 5.0
    assert len(kept) == 2 == len(measured) + 1


def test_a_cache_that_cannot_be_written_costs_a_warning(
    measured: list[tuple[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    for expected in (1e9, 2e9):
        assert matmul_rate("cpu", "fp32", tmp_path / "file") == expected
    assert len(measured) == 2
    assert all(message.startswith("the matmul rate cannot be kept: ") for message in caplog.messages)
    assert caplog.messages


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for available in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        check_device("cpu")
        if available:
            check_device("cuda")
    with pytest.raises(ConfigError, match=r"^runtime\.device: 'cuda' is not allowed, since this machine has no GPU"):
        check_device("cuda")


def test_a_record_can_hold_what_is_said_of_the_machine() -> None:
    said = {"hardware": describe_hardware("cpu", 3), "packages": describe_packages(), **describe_code()}
    assert json.loads(json.dumps(said)) == said
    assert said["hardware"]["processes"] == 3
    assert said["hardware"]["memory_bytes"] > 2**20
    assert said["packages"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__
    assert said["code_version"]


def test_without_git_the_version_alone_names_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(hardware.subprocess, "run", refuse)
    assert describe_code().keys() == {"code_version"}

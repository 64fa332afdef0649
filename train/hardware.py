"""What this run runs on and with: device, matmul rate, package versions, commit."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from conf.schema import ConfigError
from train.record.files import write_json

log = logging.getLogger(__name__)

_PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "safetensors", "tokenizers", "datasets", "polars")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def check_device(device: str) -> None:
    """Raises `ConfigError` if the device asked for is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device: 'cuda' is not allowed, since this machine has no GPU; allowed: auto, cpu")


def device_name(device: str) -> str:
    """The model of the GPU or of the CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_bytes(device: str) -> int:
    """Memory of the GPU or of the machine."""
    if device == "cuda":
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def matmul_rate(device: str, precision: str, cache_dir: Path) -> float:
    """FLOP/s of a large square matmul here, the 100 % of the utilisation. Measured once and kept in the cache."""
    key = f"{device_name(device)} | {precision} | {torch.get_num_threads()} threads | torch {torch.__version__}"
    path = cache_dir / "matmul_rate.json"
    known = _read_rates(path)
    if key in known:
        return known[key]
    rate = _measure_matmul(device, precision)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, known | {key: rate})
    except OSError as error:
        log.warning("the matmul rate cannot be kept: %s", error)
    return rate


def _read_rates(path: Path) -> dict[str, float]:
    """What was measured before; nothing if the file is missing or is not ours."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: rate for key, rate in known.items() if isinstance(rate, float)}


def _measure_matmul(device: str, precision: str) -> float:
    """The best of several. On the CPU by processor time, since other runs may have the cores."""
    size, repeats = (8192, 10) if device == "cuda" else (1024, 12)
    cores = 1 if device == "cuda" else torch.get_num_threads()
    clock = time.perf_counter if device == "cuda" else time.process_time
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision], generator=torch.Generator(device))
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, (clock() - start) / cores)
    return 2 * size**3 / best


def describe_hardware(device: str, processes: int) -> dict[str, Any]:
    """For the record: machine, device, threads, processes."""
    return {
        "device": device,
        "device_name": device_name(device),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "memory_bytes": memory_bytes(device),
    }


def describe_packages() -> dict[str, str]:
    """Versions of Python and of the packages that a result may depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # torch-only installs train without the optional readers
    return versions


def describe_code() -> dict[str, Any]:
    """Version, commit and whether files differ from it; commit and dirty are absent outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    code: dict[str, Any] = {}
    try:
        code["code_version"] = metadata.version("windtunnel")
    except metadata.PackageNotFoundError:
        code["code_version"] = "unknown"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) == root:
            code["code_commit"] = git("rev-parse", "HEAD")
            code["code_dirty"] = bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout: the version alone names the code
    return code

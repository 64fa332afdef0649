"""Shared by all tests: one thread, float32 on the CPU, no network, nothing written outside a temporary folder."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch; the bitwise tests need it, and two cores are soon shared
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from collections.abc import Callable
from pathlib import Path

import pytest

from conf.compose import compose
from conf.config import Config, resolve


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of tokenised corpora for the whole session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(tmp_path: Path, cache_dir: Path) -> Callable[..., list[str]]:
    """Overrides of a run that takes a second: a tiny model on a Markov source, in this test's own folder."""

    def make(*overrides: str) -> list[str]:
        return [
            "data=markov",
            "data.vocab_size=16",
            "data.context=16",
            "data.n_tokens=20000",
            "model.depth=2",
            "model.width=16",
            "model.heads=2",
            "train.batch_size=8",
            "train.duration=20steps",
            "eval.sequences=16",
            "runtime.device=cpu",
            "runtime.threads=1",
            f"runtime.runs_dir={tmp_path}/runs",
            f"runtime.cache_dir={cache_dir}",
            *overrides,
        ]

    return make


@pytest.fixture
def tiny(settings: Callable[..., list[str]]) -> Callable[..., Config]:
    """The resolved config of `settings(*overrides)`."""

    def make(*overrides: str) -> Config:
        return resolve(compose(settings(*overrides)), cuda=False)

    return make

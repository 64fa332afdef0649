"""What a setting changes: said once beside it, and asked for by every list of settings."""

from __future__ import annotations

from typing import get_args

import pytest

from analysis.difference.top_up import _SET_BY_THE_SWEEP
from analysis.growth.gain import LENGTH, SETTINGS
from analysis.tables.lineage import GROWING, UPDATES
from conf.config import Config
from conf.identity import NOT_IDENTITY, identity
from conf.schema import Direction, Kind, grouped, kind, paths, walk
from models.growth.rules import growing
from sweeps.cells.study import RESERVED
from sweeps.preflight import SWITCHES, TELLING

PATHS = [path for path, _, _ in walk(Config())]
WATCHED = ("train.log_every", "train.diverged_above", "eval.every", "eval.layers", "probe.")


def under(*prefixes: str) -> set[str]:
    """The settings whose paths begin so."""
    return {path for path in PATHS if path.startswith(prefixes)}


def test_every_setting_has_a_kind() -> None:
    assert {kind(path) for path in PATHS} == set(get_args(Kind))
    assert paths(*get_args(Kind)) == tuple(PATHS)


def test_a_choice_of_yaml_is_of_its_group() -> None:
    assert (kind("probe"), kind("data"), kind("track")) == ("seen", "update", "where")
    for key in ("train", "nothing", "optim.nothing"):
        with pytest.raises(KeyError):
            kind(key)


# Each list as it once was written down. A new setting that is in one of them is added here by hand.


def test_what_leaves_a_result_as_it_is() -> None:
    pieces = under("train.micro_batch", "train.checkpoint_every", "train.keep", "eval.batch_size")
    assert set(NOT_IDENTITY) == under("study", "track.", "runtime.") - {"runtime.precision"} | pieces
    assert list(identity(Config())) == [path for path in PATHS if path not in NOT_IDENTITY]


def test_whole_groups_go_by_their_name() -> None:
    free = grouped(NOT_IDENTITY)
    assert "track" in free
    assert "runtime" not in free  # the precision is not among them
    assert "runtime.threads" in free
    assert [key for key in free if key.startswith("track.")] == []


def test_what_a_sweep_sets_itself() -> None:
    assert RESERVED == {
        "study": "it is the study's name",
        "runtime.runs_dir": "use --runs-dir",
        "runtime.threads": "use --jobs",
    }
    assert set(_SET_BY_THE_SWEEP) == under("study", "seed", "runtime.", "track.")


def test_what_decides_about_an_update() -> None:
    free = under("seed", "grow.", "schedule.", "train.duration", *WATCHED)
    assert list(UPDATES) == [path for path in identity(Config()) if path not in free]


def test_what_runs_that_are_compared_share() -> None:
    assert set(LENGTH) == {"train.duration", "schedule.warmup", "schedule.cooldown"}
    free = under("seed", "grow.", *LENGTH, *WATCHED)
    assert list(SETTINGS) == [path for path in identity(Config()) if path not in free]


def test_what_has_to_change_a_model_or_its_update() -> None:
    """Of the settings that can change a result; others were once asked about too, and could only fail."""
    no_switches = under("seed", "train.duration", "train.keep", "eval.", "grow.", *WATCHED)
    assert {path for path in PATHS if kind(path) in SWITCHES} == set(identity(Config())) - no_switches
    alone = under("seed", "train.duration", "train.keep", "grow.")
    assert {path for path in PATHS if kind(path) in TELLING} == set(identity(Config())) - alone


def test_what_grows() -> None:
    sizes = ("depth", "width", "mlp_hidden", "param_tokens", "stages", "templates")
    assert tuple(f"model.{name}" for name in sizes) == GROWING
    assert set(growing("depth")) == {"depth", "stages", "templates", "mix_fraction"}
    assert set(growing("width")) == {"width", "heads", "mlp_hidden", "param_tokens", "param_tau"}
    by_direction = {direction: paths("size", grows=direction) for direction in get_args(Direction)}
    assert by_direction == {
        "depth": ("model.depth", "model.stages", "model.templates"),
        "width": ("model.width", "model.mlp_hidden", "model.param_tokens"),
    }

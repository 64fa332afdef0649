"""The short way through a composition gives what Hydra gives, to the last type, and leaves every error to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from conf import compose as module
from conf.compose import GROUPS, choices, compose, to_config
from conf.config import Config, resolve
from conf.identity import run_id
from conf.schema import ConfigError, walk
from sweeps.cells.cell import Cell
from sweeps.cells.grid import overrides
from sweeps.studies.registry import STUDIES
from train.record.manifest import PROFILES


def outcome(overrides: Sequence[str], *, short: bool) -> str:
    """The config, types included, or the error's words."""
    try:
        config = compose(overrides) if short else to_config(module._by_hydra(overrides))
    except ConfigError as error:
        return str(error)
    return repr(config)


def assert_same(overrides: Sequence[str]) -> None:
    assert outcome(overrides, short=True) == outcome(overrides, short=False), overrides


# What a cell, a command line or a slip may hold; the types are those of a plan's cells, and the wrong ones.
PATHS = [path for path, _, _ in walk(Config()) if path not in {"study", "runtime.runs_dir"}]
WORDS = st.sampled_from(
    ["", "none", "head", "5%", "20tok/param", "1e6tok", "it's", "a b", "null", "???", "${seed}", "1/d", "3", "tRue"]
)
VALUES = st.one_of(
    st.integers(-2, 300), st.sampled_from([2**53 + 1, 10**400]), st.floats(), st.booleans(), st.none(), WORDS
)
GOOD: list[tuple[str, object]] = [
    ("optim.lr", 1),
    ("optim.lr", 3e-3),
    ("optim.clip", None),
    ("optim.clip", 2),
    ("model.width", 64),
    ("model.heads", 2),
    ("seed", 3),
    ("model.layernorm_scaling", True),
    ("schedule.warmup", "5%"),
    ("data.path", "x.txt"),
    ("param.name", "mup"),
    ("param.without", "hidden_lr"),
]
CHOSEN = [(group, name) for group in GROUPS for name in choices(group)]
SETTINGS = st.one_of(st.sampled_from(GOOD), st.sampled_from(CHOSEN), st.tuples(st.sampled_from(PATHS), VALUES))


@examples(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SETTINGS, max_size=6))
def test_the_short_way_is_hydras_way(pairs: list[tuple[str, object]]) -> None:
    argv = []
    for key, value in pairs:
        try:
            argv += overrides({key: value})  # type: ignore[dict-item]
        except ValueError:  # what no cell may say
            argv.append(f"{key}={value}")
    assert_same(argv)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["optim.lr=1e-2", "optim.lr=1"],
        ["model=gpt_1m", "model=gpt_10k"],
        ["model=gpt_1m", "model.depth=7"],
        ["model.depth=7", "model=gpt_1m"],
        ["+optim.lr=1"],
        ["++optim.lr=1"],
        ["~optim"],
        ["optim.lr=1,2"],
        ["optim={lr: 1}"],
        ["data.name=[a]"],
        ["probe=on"],
        ["probe='on'"],
        ["data=text"],
        ["data=text", "data.path=a b"],
        ["param=mupp"],
        ["optim.lr=fast"],
        ["optim.lr='1e-3'"],
        ["data.path=5"],
        ["model.depth=2.0"],
        ["model.depth=true"],
        ["seed=9223372036854775808"],
        ["optim.lr=inf"],
        ["optim.eps=nan"],
        ["model.heads=3"],
        ["model.mlp_hidden=null"],
        ["optim@x=adamw"],
        ["a b"],
        ["data.path=$HOME"],
    ],
)
def test_corners_of_the_grammar(argv: list[str]) -> None:
    assert_same(argv)


def cells(*, every: bool) -> list[list[str]]:
    """Overrides of the studies' runs: all of them, or enough that each value and each set of choices is among them."""
    found: list[list[str]] = []
    seen: set[object] = set()
    for study in STUDIES.values():
        for profile in PROFILES:
            for cell in map(Cell.of, study.cells(profile)):
                if cell.base is not None:
                    cell = replace(cell, base="0" * 16)  # a plan knows the base's id
                argv = cell.overrides()
                chosen = tuple(text for text in argv if text.partition("=")[0] in GROUPS)
                # Two values of one key go the same way if they are of one type.
                parts = {chosen, *((key, type(value)) for key, value in cell.plain.items() if key not in GROUPS)}
                if every or not parts <= seen:
                    found.append(argv)
                    seen |= parts
    return found


def test_every_kind_of_cell_of_every_study_composes_as_hydra_does() -> None:
    for argv in cells(every=False):
        assert_same(argv)


@pytest.mark.slow
def test_every_cell_of_every_study_composes_as_hydra_does() -> None:
    for argv in cells(every=True):
        assert_same(argv)


def test_no_cell_of_a_study_needs_hydra_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in cells(every=False):
        compose(argv)
    calls: list[Sequence[str]] = []
    real = module._by_hydra
    monkeypatch.setattr(module, "_by_hydra", lambda argv: calls.append(argv) or real(argv))  # type: ignore[func-returns-value]
    for argv in cells(every=False):
        compose(argv)
    assert calls == []
    compose(["++optim.lr=1"])  # what does need it is seen here
    assert len(calls) == 1


def test_a_run_is_composed_and_named_in_milliseconds() -> None:
    all_cells = cells(every=True)[:200]
    for argv in all_cells:
        compose(argv)
    began = time.process_time()
    for argv in all_cells:
        run_id(resolve(compose(argv), cuda=False))
    assert (time.process_time() - began) / len(all_cells) < 5e-3


def test_two_runs_share_no_state() -> None:
    before = repr(compose(["model=gpt_10k"]))
    compose(["model=gpt_10k", "model.width=64", "optim.lr=1"])
    assert repr(compose(["model=gpt_10k"])) == before


def test_a_conversion_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above tells 1 from 1.0, which have one value and two run ids."""
    monkeypatch.setattr(module, "_plain", lambda _, value: value)
    with pytest.raises(AssertionError):
        assert_same(["optim.lr=1"])


def test_lists_of_steps_and_ids_are_text_with_and_without_quotes() -> None:
    """Which Hydra alone would take for a sweep and for a number."""
    base = "12345678901e2345"
    for quote in ("", "'"):
        config = compose(
            [
                f"train.keep={quote}0,200{quote}",
                f"grow.base={quote}{base}{quote}",
                "grow.step=1",
                "grow.depth=pattern",
                f"grow.pattern={quote}0,1,0,1{quote}",
            ]
        )
        assert (config.train.keep, config.grow.pattern, config.grow.base) == ("0,200", "0,1,0,1", base)
    for spaced in ("train.keep= 0, 200", "++train.keep=0,200"):
        assert compose([spaced]).train.keep == "0,200"
    with pytest.raises(ConfigError, match=r"train\.keep: '0,200,' is not allowed; allowed: whole numbers"):
        compose(["train.keep=0,200,"])
    assert compose(["train.keep=7"]).train.keep == "7"
    assert compose(["train.keep=null"]).train.keep is None
    with pytest.raises(ConfigError, match="one run takes one value"):
        compose(["optim.lr=0.1,0.2"])

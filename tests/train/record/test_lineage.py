"""Where the run lies that another one grows out of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conf.compose import to_yaml
from conf.config import Config, resolve
from conf.schema import ConfigError, GrowConfig, ModelConfig, RuntimeConfig, TrainConfig
from models.growth.rules import GrowthError
from train.record.checkpoints import KEPT, step_name
from train.record.lineage import (
    Base,
    base_folder,
    check_base_lies_within,
    check_start,
    find_base,
    folders_of,
    runs_dir_of,
)
from train.record.run import RecordError, run_dir, write_run
from train.timetable.cost import run_cost

RUN = "0123456789abcdef"


def made(folder: Path, *steps: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    for step in steps:
        (folder / KEPT / step_name(step)).mkdir(parents=True)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    made(tmp_path / "runs" / "a" / "study" / RUN)
    made(tmp_path / "runs" / "b" / RUN, 200)
    made(tmp_path / "runs" / "b" / RUN[::-1], 200)
    return tmp_path / "runs"


def test_every_folder_of_a_run_and_no_other(runs: Path) -> None:
    a, b = runs / "a" / "study" / RUN, runs / "b" / RUN
    assert list(folders_of(RUN, below=runs)) == [a, b]
    assert next(folders_of(RUN, beside=[runs / "b"], below=runs)) == b
    assert list(folders_of("f" * 16, below=runs)) == []


def test_a_base_lies_where_the_step_is_kept(runs: Path) -> None:
    a, b = runs / "a" / "study" / RUN, runs / "b" / RUN
    assert base_folder(RUN, 200, beside=[a.parent], below=runs) == b
    assert base_folder(RUN, 100, beside=[a.parent], below=runs) == a  # as good as the other
    assert base_folder("f" * 16, 200, beside=[a.parent], below=runs) is None


def test_the_folder_of_all_runs_is_told_by_the_study(runs: Path) -> None:
    run = runs / "a" / "study" / RUN
    assert runs_dir_of(run, "a/study") == runs.resolve()
    assert runs_dir_of(run, "another") == run.parent.resolve()  # it was moved
    link = runs / "c" / RUN
    link.parent.mkdir()
    link.symlink_to(run)
    assert runs_dir_of(link, "a/study") == runs.resolve()


# --- what a run may start from ----------------------------------------------------------------------------

MODEL = ModelConfig(depth=2, width=16, heads=2)


def config(blocks: int = 2, *, seed: int = 0, runs_dir: str = "runs", **grow: object) -> Config:
    growth = GrowConfig(base=RUN, step=5) if grow else GrowConfig()
    return resolve(
        Config(
            seed=seed,
            model=replace(MODEL, depth=blocks),
            train=TrainConfig(duration="10steps"),
            grow=replace(growth, **grow),
            runtime=RuntimeConfig(runs_dir=runs_dir),
        ),
        cuda=False,
    )


COST = run_cost(config(), 257)


def test_a_run_can_start_from_another_of_its_seed_whose_model_grows_into_its_own() -> None:
    check_start(config(4, step=5), config(), COST)
    with pytest.raises(ConfigError, match=r"^seed: 1 is not the base's, whose order .*; allowed: 0$"):
        check_start(config(4, step=5, seed=1), config(), COST)
    with pytest.raises(GrowthError, match=r"^model\.depth: 3 is no multiple of the base's 2"):
        check_start(config(3, step=5), config(), COST)


def test_nothing_starts_where_blocks_still_fade_in() -> None:
    base = config(4, depth="random", ramp="40%")
    cost = run_cost(base, 257, base=COST)
    check_start(config(8, step=4), base, cost)
    for step in (0, 3):
        with pytest.raises(ConfigError, match=rf"^grow\.step: {step} lies in the base's grow\.ramp, .*: 4 to 10"):
            check_start(config(8, step=step), base, cost)
    check_start(config(8, step=0), replace(base, grow=replace(base.grow, ramp=None)), cost)


def test_a_base_that_is_named_by_its_folder_lies_there_and_within(tmp_path: Path) -> None:
    runs = made(tmp_path / "runs" / "a" / RUN).parents[1]
    other = made(tmp_path / "other" / RUN)

    def named(base: str | None) -> Config:
        return Config(
            grow=GrowConfig(base=base, step=None if base is None else 5), runtime=RuntimeConfig(runs_dir=str(runs))
        )

    for base in (None, RUN, f"{RUN}/", str(runs / "a" / RUN), f"{runs}/a/../a/{RUN}/"):
        check_base_lies_within(named(base))  # an id alone may lie anywhere
    with pytest.raises(ConfigError, match=r"^grow\.base: .* does not lie under runtime\.runs_dir="):
        check_base_lies_within(named(str(other)))
    with pytest.raises(ConfigError, match=r"^grow\.base: .* is no run's folder; allowed: one under "):
        check_base_lies_within(named(str(runs / "b" / RUN)))
    (runs / "b").mkdir()
    (runs / "b" / RUN).symlink_to(other)  # a link out of it leaves it
    with pytest.raises(ConfigError, match="does not lie under"):
        check_base_lies_within(named(str(runs / "b" / RUN)))


# --- the base of a run, from its record -------------------------------------------------------------------

ENDS = {
    "finished": {"val_loss": 2.0, "val_loss_se": 0.1, "seconds": 7.0},
    "diverged": {"diverged_at_step": 5, "seconds": 7.0},
}


def recorded(run: Config, state: str = "finished", *, fingerprint: str = "text") -> Path:
    folder = run_dir(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(run))
    write_run(folder, {"run_id": folder.name, "state": state, "data_fingerprint": fingerprint, **ENDS[state]})
    return folder


def base_of(run: Config) -> Base | None:
    return find_base(run, fingerprint="text", vocab_size=257)


def test_a_chain_of_bases_is_read_down_to_its_root(tmp_path: Path) -> None:
    root = config(runs_dir=str(tmp_path))
    second = config(4, runs_dir=str(tmp_path), base=recorded(root).name, step=3)
    third = config(8, runs_dir=str(tmp_path), base=recorded(second).name, step=7)
    base = base_of(third)
    assert base is not None
    assert (base.config, base.step, base.folder) == (second, 7, run_dir(second))
    assert base.before is not None
    assert base.first == base.before
    assert (base.first.config, base.first.step, base.first.before) == (root, 3, None)
    assert base.cost == run_cost(second, 257, base=run_cost(root, 257))
    assert base_of(root) is None


def test_a_base_that_is_not_there_or_saw_other_data_is_refused(tmp_path: Path) -> None:
    root = config(runs_dir=str(tmp_path))
    grown = config(4, runs_dir=str(tmp_path), base=run_dir(root).name, step=3)
    with pytest.raises(ConfigError, match=r"^grow\.base: \w+ is no run under "):
        base_of(grown)
    recorded(root, fingerprint="other")
    with pytest.raises(ConfigError, match="was trained on other data; allowed: a run on the same data"):
        base_of(grown)
    folder = recorded(root)
    assert base_of(grown) is not None
    (folder / "config.yaml").write_text("optim: {rate: 1}")
    with pytest.raises(RecordError, match=r"config\.yaml: optim"):
        base_of(grown)


def test_a_base_without_the_checkpoint_says_how_to_come_by_it(tmp_path: Path) -> None:
    root = config(runs_dir=str(tmp_path))
    grown = config(4, runs_dir=str(tmp_path), base=recorded(root).name, step=5)
    base = base_of(grown)
    assert base is not None
    with pytest.raises(RecordError, match=r"keeps no checkpoint of step 5; allowed: after `train\.keep=5` there"):
        base.checkpoint()
    recorded(root, "diverged")
    with pytest.raises(RecordError, match="diverged at step 5, and has no step 5; allowed: 0 to 4"):
        base.checkpoint()
    (base.folder / KEPT / step_name(5)).mkdir(parents=True)
    assert base.checkpoint() == base.folder / KEPT / step_name(5)

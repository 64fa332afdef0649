"""The run that another one grows out of: where it lies, what it was, and what it has cost. No torch.

find_base(config, fingerprint=…, vocab_size=257)     the `Base` of a resolved config, bases of its own included
base.checkpoint()                                    the folder of the weights that the run starts from
base_folder("0f3c…", 200, beside=…, below=…)         where that run lies, of several the one with step 200
folders_of("0f3c…", below=runs_dir)                  everywhere it lies
check_start(config, base_config, base_cost)          ConfigError or GrowthError: the one cannot start from the other
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conf.config import Config
from conf.schema import ConfigError
from models.growth.rules import check_growth
from train.record.checkpoints import checkpoint_at
from train.record.manifest import find_runs
from train.record.run import RecordError, diverged_by, read_run
from train.timetable.cost import RunCost, run_cost
from train.timetable.schedule import ramp_steps


@dataclass(frozen=True)
class Base:
    """The run that another one grows out of."""

    folder: Path
    config: Config
    cost: RunCost
    step: int
    """Where the other one leaves it."""
    before: Base | None
    """The one that it grew out of itself."""

    @property
    def first(self) -> Base:
        """The run at the root, which started from its own init."""
        return self if self.before is None else self.before.first

    def checkpoint(self) -> Path:
        """The folder of its checkpoint at `step`; raises `RecordError` if it keeps none."""
        path = checkpoint_at(self.folder, self.step)
        if path is not None:
            return path
        record = read_run(self.folder)
        if record is not None and diverged_by(record, self.step):
            at = record["diverged_at_step"]
            raise RecordError(
                f"{self.folder}: diverged at step {at}, and has no step {self.step}; allowed: 0 to {at - 1}"
            )
        raise RecordError(
            f"{self.folder}: keeps no checkpoint of step {self.step}; allowed: after `train.keep={self.step}` there, "
            "which a finished run makes up for"
        )


def base_folder(base: str, step: int, *, beside: Sequence[Path], below: Path) -> Path | None:
    """Where the run lies that another one starts from at `step`: in one of the folders `beside`, or anywhere `below`.

    Of several the first that has the checkpoint, or else the first; None if there is none.
    """

    first = None
    for folder in folders_of(base, beside=beside, below=below):
        if checkpoint_at(folder, step) is not None:
            return folder
        first = first or folder
    return first


def folders_of(run_id: str, *, beside: Sequence[Path] = (), below: Path) -> Iterator[Path]:
    """The folders of a run of several studies: those in the folders `beside` first, then all that lie `below`."""
    yield from (folder / run_id for folder in beside if (folder / run_id / "run.json").exists())
    yield from (folder for folder in find_runs([below]) if folder.name == run_id)


def runs_dir_of(folder: Path, study: str) -> Path:
    """`runs_dir_of(Path("runs/gstack/law/0f3c…"), "gstack/law")` is `runs`: below what a run's base lies.

    A folder that was moved out of its study's has all its runs beside it; a link from another study is followed.
    """
    real, parts = folder.resolve(), Path(study).parts
    return real.parents[len(parts)] if real.parent.parts[-len(parts) :] == parts else real.parent


def find_base(config: Config, *, fingerprint: str, vocab_size: int) -> Base | None:
    """The base of a resolved config, or None for a run that starts from nothing.

    Args:
        fingerprint, vocab_size: of the corpus that the run reads.

    Raises:
        ConfigError, RecordError: there is no such run, it cannot be read, or it saw other data: a grown run goes on in
            the data where its base stopped. And as `check_start`.
    """
    from conf.compose import read_config  # Hydra takes a while to import

    if config.grow.base is None:
        return None
    assert config.grow.step is not None  # the schema demands it
    runs_dir = Path(config.runtime.runs_dir)
    folder = base_folder(config.grow.base, config.grow.step, beside=[runs_dir / config.study], below=runs_dir)
    if folder is None:
        raise ConfigError(
            f"grow.base: {config.grow.base} is no run under {runs_dir}; allowed: the name of a run's folder there"
        )
    record = read_run(folder)
    try:
        found = read_config(folder / "config.yaml")
    except ConfigError as error:
        raise RecordError(f"{folder / 'config.yaml'}: {error}") from None
    if record is None or record.get("data_fingerprint") != fingerprint:
        raise ConfigError(f"grow.base: {config.grow.base} was trained on other data; allowed: a run on the same data")
    runtime = dataclasses.replace(found.runtime, runs_dir=config.runtime.runs_dir)  # the folders may have been moved
    found = dataclasses.replace(found, runtime=runtime)
    before = find_base(found, fingerprint=fingerprint, vocab_size=vocab_size)
    cost = run_cost(found, vocab_size, base=before.cost if before else None)
    check_start(config, found, cost)
    return Base(folder, found, cost, config.grow.step, before)


def check_start(config: Config, base: Config, base_cost: RunCost) -> None:
    """Whether a run can start from another one, as far as settings tell; of its data they tell less than its record.

    Args:
        config, base: the run and the one that it starts from, resolved.
        base_cost: what the base costs.

    Raises:
        ConfigError: another seed, or a step at which the base's new blocks are not there yet.
        GrowthError: the base's model cannot become this one.
    """
    assert config.grow.step is not None  # the schema demands it
    if base.seed != config.seed:
        raise ConfigError(f"seed: {config.seed} is not the base's, whose order the data go on in; allowed: {base.seed}")
    check_growth(base.model, config.model, config.grow)
    ramp = ramp_steps(base.grow, base_cost) or 0
    if config.grow.step < ramp:
        raise ConfigError(
            f"grow.step: {config.grow.step} lies in the base's grow.ramp, where its new blocks are not there yet; "
            f"allowed: {ramp} to {base_cost.n_steps}"
        )


def check_base_lies_within(config: Config) -> None:
    """A base that is given by its folder must be there, and lie under `runtime.runs_dir`, since a run's identity has
    its id only.

    Args:
        config: as composed, before it is resolved.

    Raises:
        ConfigError: it lies elsewhere, or nowhere.
    """
    base, runs_dir = config.grow.base, config.runtime.runs_dir
    if base is None or "/" not in base.rstrip("/"):
        return
    if not Path(base).resolve().is_relative_to(Path(runs_dir).resolve()):
        raise ConfigError(f"grow.base: {base} does not lie under runtime.runs_dir={runs_dir}; allowed: a run there")
    if not (Path(base) / "run.json").exists():
        raise ConfigError(f"grow.base: {base} is no run's folder; allowed: one under {runs_dir}")

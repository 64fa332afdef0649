"""Study and profile -> the runs that it takes, what each costs, and how far each has come. Starts nothing.

plan = make_plan(study, "cpu", runs_dir=Path("runs"))
plan.runs                   each run once, a run after the one that it grows out of
plan.missing                those that are to be started
plan.seconds_left           estimated seconds until nothing is missing
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from conf.compose import compose
from conf.config import Config, resolve
from conf.duration import parse_steps
from conf.identity import NOT_IDENTITY
from conf.schema import DataConfig, UserError, grouped
from conf.vocab import vocab_size
from sweeps.cells.cell import BASE, Cell
from sweeps.cells.graph import Node, cell_of_run
from sweeps.cells.grid import GridPoint
from sweeps.cells.study import DEVICE, RESERVED, Study
from sweeps.cells.widen import Bracket, widened
from sweeps.plan.capacity import Capacity, Offer, Speed, one_at_a_time
from sweeps.plan.cost import run_seconds
from sweeps.plan.states import STARTABLE, RunState, state_of
from train.record.checkpoints import checkpoint_at
from train.record.lineage import check_start
from train.record.manifest import Manifest, Profile
from train.record.run import FINAL, RecordError, diverged_by, read_run, run_dir
from train.timetable.cost import RunCost, run_cost
from train.timetable.makespan import critical_path, makespan
from train.timetable.schedule import build_schedule, ramp_steps


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan."""

    run_id: str
    folder: Path
    cell: Cell
    overrides: tuple[str, ...]
    config: Config
    cost: RunCost
    record: dict[str, Any] | None
    state: RunState
    until: int
    """The step that it goes up to if it is started: its last one, or the last whose checkpoint it lacks."""
    seconds: float
    """Measured if it is finished, otherwise estimated."""
    problem: str | None = None
    """Why its record cannot be read; its folder must go before it can run again."""
    base: str | None = None
    """Id of the run that it starts from, which must keep the checkpoint first."""


@dataclass(frozen=True)
class Plan:
    """The runs of a study at a profile, each once: those of its cells in order, then those of `bracket`; before a run
    that grows out of another one that other run."""

    study: Study
    profile: Profile
    runs: tuple[PlannedRun, ...]
    n_cells: int
    capacity: Capacity
    """Of what it was planned for."""
    bracket: Bracket
    """What the records ask for beyond the study's own cells (`Study.widen`)."""
    wanted: frozenset[str]
    """Ids of the runs that are cells, and not only the base of one."""

    @property
    def missing(self) -> list[PlannedRun]:
        """The runs that `run` would start."""
        return [run for run in self.runs if run.state in STARTABLE]

    @property
    def seconds_left(self) -> float:
        """Estimated wall-clock seconds until nothing is missing."""
        longest = max(self.seconds_behind.values(), default=0.0)
        return max(longest, makespan((run.seconds for run in self.missing), self.capacity.jobs))

    @property
    def seconds_behind(self) -> dict[str, float]:
        """Of each missing run, by id: its estimated seconds, and those of the longest chain that waits for it."""
        missing = self.missing
        return critical_path({run.run_id: run.seconds for run in missing}, {run.run_id: run.base for run in missing})

    @property
    def nodes(self) -> dict[str, Node]:
        """The graph of the runs, by id."""
        return {run.run_id: _node(run) for run in self.runs}

    @property
    def manifest(self) -> Manifest:
        """The runs that end, sooner or later."""
        ids = tuple(run.run_id for run in self.runs if run.state != "base diverged")
        return Manifest(self.study.name, self.profile, ids)

    @property
    def varied(self) -> list[str]:
        """The keys whose values tell the runs apart."""
        every = [run.cell.plain for run in self.runs]
        keys = dict.fromkeys(key for cell in every for key in cell)
        return [key for key in keys if len({repr(cell.get(key, "unset")) for cell in every}) > 1]


def _node(run: PlannedRun) -> Node:
    settings = tuple(run.cell.without("seed").settings.items())
    return Node(run.base, run.config.grow.step or 0, run.cost, run.config.seed, settings)


def _cells(study: Study, profile: Profile) -> list[Cell]:
    try:
        return [Cell.of(cell) for cell in study.cells(profile)]
    except UserError:
        raise
    except Exception as error:  # whatever the code of a study may raise
        words = " ".join(str(error).split())
        raise UserError(f"{study.name}: its cells at profile {profile}: {type(error).__name__}: {words}") from error


def make_plan(
    study: Study, profile: Profile, *, runs_dir: Path, extra: Sequence[str] = (), capacity: Offer = one_at_a_time
) -> Plan:
    """Compose, check and price every run of a study, and look up its state.

    Args:
        extra: overrides for all runs, in Hydra's grammar, of settings that cannot change what a run measures.
        capacity: what there is for the missing runs, or for all where none is missing.

    Raises:
        UserError: a cell or an extra override that is no possible run, or a model that cannot grow out of its base's.
    """
    extra_keys = _keys_of(extra)
    fixed: GridPoint = {"study": study.name, "runtime.runs_dir": str(runs_dir), "runtime.device": DEVICE[profile]}
    drafts: dict[str, _Draft] = {}

    def draft(cell: Cell) -> _Draft:
        base = None
        if cell.base is not None:
            base = draft(cell.base if isinstance(cell.base, Cell) else cell_of_run(cell.base, runs_dir))
            if isinstance(cell.base, str) and Path(cell.base).name != base.folder.name:
                raise UserError(
                    f"{BASE}: {cell.base} has settings that no run of a sweep has; allowed: the base's cell"
                )
            cell = replace(cell, base=base.folder.name)
        argv = (*(fixed | cell).without(*extra_keys).overrides(), *extra)
        config = _composed(argv)
        folder = run_dir(config)
        if folder.name not in drafts:
            drafts[folder.name] = _Draft(cell, argv, config, folder, base)
        return drafts[folder.name]

    cells = _cells(study, profile)
    wanted = {draft(cell).folder.name for cell in cells}
    bracket = Bracket()
    if study.widen is not None and profile in study.widen.profiles:
        bracket = widened(cells, study.widen, lambda cell: draft(cell).final_loss)
        cells = [*cells, *bracket.cells]
        wanted |= {draft(cell).folder.name for cell in bracket.cells}
    for grown in reversed(drafts.values()):  # a run comes after its base, and here before it
        if grown.base is not None and grown.state in STARTABLE:
            grown.base.keep(grown.start)

    n_missing = sum(draft.state in STARTABLE for draft in drafts.values())
    offered = capacity(n_missing or len(drafts), DEVICE[profile])
    runs = tuple(_priced(name, draft, offered.speed) for name, draft in drafts.items())
    return Plan(study, profile, runs, len(cells), offered, bracket, frozenset(wanted))


def _keys_of(extra: Sequence[str]) -> set[str]:
    """What `--set` sets; raises `UserError` for what a sweep sets itself, or what would change a measurement."""
    keys = {override.partition("=")[0].lstrip("+~") for override in extra}
    for key in sorted(keys & RESERVED.keys()):
        raise UserError(f"--set {key}: a sweep sets this key itself; {RESERVED[key]}")
    free = grouped(NOT_IDENTITY)
    for key in sorted(keys):
        if key not in free and key.partition(".")[0] not in free:
            raise UserError(f"--set {key}: would make another study of it; allowed: {', '.join(free)}")
    return keys


class _Draft:
    """A run that is composed and looked up, and not yet priced."""

    def __init__(self, cell: Cell, argv: tuple[str, ...], config: Config, folder: Path, base: _Draft | None) -> None:
        self.cell, self.argv, self.config, self.folder, self.base = cell, argv, config, folder, base
        if base is not None:
            _check_same_data(config.data, base.config.data)
            check_start(config, base.config, base.cost)
        before = None if base is None else base.cost
        self.cost: RunCost = run_cost(config, vocab_size(config.data), base=before)
        # What the run would refuse when its turn comes, after its bases have been trained.
        build_schedule(config.schedule, peak=config.optim.lr, cost=self.cost)
        ramp_steps(config.grow, self.cost)
        self.until = self.cost.n_steps
        self.kept: set[int] = set()
        self.record: dict[str, Any] | None = None
        self.problem: str | None = None
        self.state: RunState = "failed"
        try:
            self.record = read_run(self.folder)
            self.state = state_of(self.folder, self.record)
        except RecordError as error:
            self.problem = f"{error}; delete the folder to run it again"
        if base is not None and self.state in STARTABLE and base.never_reaches(self.start):
            self.state = "base diverged"

    @property
    def start(self) -> int:
        """The base's step that the run starts from."""
        return self.config.grow.step or 0

    def never_reaches(self, step: int) -> bool:
        """Whether nothing can ever start from this step."""
        return self.state == "base diverged" or diverged_by(self.record, step)

    def keep(self, step: int) -> None:
        """Have the run keep the checkpoint of this step, besides others; if it has ended without, make it up."""
        self.kept.add(step)
        if self.state in (*FINAL, "lacks checkpoint") and checkpoint_at(self.folder, step) is None:
            self.until = step if self.state in FINAL else max(self.until, step)
            self.state = "lacks checkpoint"

    @property
    def overrides(self) -> tuple[str, ...]:
        """What starts the run."""
        if not self.kept:
            return self.argv
        steps = {*self.kept, *parse_steps(self.config.train.keep or str(min(self.kept)))}
        keep = f"train.keep='{','.join(map(str, sorted(steps)))}'"
        return (*(word for word in self.argv if not word.startswith("train.keep=")), keep)

    @property
    def final_loss(self) -> float | None:
        """The validation loss at the end; infinite if the run or its base diverged, None if it has not ended."""
        if self.state == "base diverged":
            return math.inf
        if self.record is None or self.record["state"] not in FINAL:
            return None
        return math.inf if self.record["state"] == "diverged" else float(self.record["val_loss"])


def _check_same_data(data: DataConfig, base: DataConfig) -> None:
    """The trainer compares what is read; a plan has not read it."""
    for field in fields(DataConfig):
        new, old = getattr(data, field.name), getattr(base, field.name)
        if new != old:
            raise UserError(
                f"data.{field.name}: {new!r} is not the base's, in whose data a grown run goes on; allowed: {old!r}"
            )


def _composed(argv: Sequence[str]) -> Config:
    config = compose(argv)
    if config.runtime.device == "auto":
        raise UserError("runtime.device: 'auto' is not allowed in a sweep; allowed: cpu, cuda")
    return resolve(config, cuda=config.runtime.device == "cuda")


def _priced(name: str, draft: _Draft, pace: Speed) -> PlannedRun:
    cost, until = draft.cost, draft.until
    seconds = run_seconds(draft.config, cost, pace, until=until)
    if draft.record is not None and draft.state == "finished":
        seconds = draft.record["seconds"]
    return PlannedRun(
        run_id=name,
        folder=draft.folder,
        cell=draft.cell,
        overrides=draft.overrides,
        config=draft.config,
        cost=cost,
        record=draft.record,
        problem=draft.problem,
        state=draft.state,
        until=until,
        seconds=seconds,
        base=draft.base.folder.name if draft.base else None,
    )

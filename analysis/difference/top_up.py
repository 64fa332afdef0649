"""More seeds for both arms of a comparison, until its test decides or a budget ends.

    decide(a, b, metric="val_loss", margin=0.01, budget=Budget(seeds=16), runs_dir=Path("runs"), say=print)
        ->  the last judgement, the pairs that it rests on, and all looks

The seeds are started by `python -m sweeps run --cells`, as a study of their own: `difference/<settings>-<hash>`. The
same command goes on where it stopped, since the runs that it made are there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.claims.student import LEVEL
from analysis.difference.difference import Difference, Units, difference, plan_looks, pocock_level, units_of
from analysis.difference.pairs import SIDES, Pairs, Run, pair_runs, read_side
from analysis.tables.csv import TableError
from analysis.tables.lineage import find_base, with_bases
from analysis.tables.runs import DATA
from conf.command_line import counted
from conf.config import Config, resolve
from conf.identity import run_id, settings_of
from conf.schema import RuntimeConfig, paths
from train.record.files import write_json
from train.record.run import read_run, run_dir

STUDIES = "difference"  # the folder of all studies of added seeds

# What the added runs have of their own. The precision follows from the device.
_SET_BY_THE_SWEEP = (*paths("draw", "where"), "runtime.precision")

_PROFILES = {"cpu": "cpu", "cuda": "gpu"}


@dataclass(frozen=True)
class Budget:
    """Where topping up ends.

    Attributes:
        seeds: of a cell, those at hand included.
        minutes: of wall-clock time; no limit when None.
        jobs: runs at a time; the sweep's own choice when None.
    """

    seeds: int
    minutes: float | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class Look:
    """One judgement on the way."""

    seeds: int
    mean: float
    interval: tuple[float, float] | None
    verdict: str


@dataclass(frozen=True)
class Decision:
    """The last judgement, the pairs that it rests on, and all looks."""

    pairs: Pairs
    units: Units
    result: Difference
    looks: tuple[Look, ...]
    planned: int
    study: str
    ended_by: str
    """`verdict`, `seeds` or `minutes`."""


def decide(
    a: Sequence[Run],
    b: Sequence[Run],
    *,
    metric: str,
    margin: float,
    budget: Budget,
    runs_dir: Path,
    say: Callable[[str], None],
) -> Decision:
    """Judge, and while undecided add the same seeds to both arms and judge again.

    The looks are planned beforehand and judged at Pocock's level for them all. An estimate at which a test stopped
    early is, on average, too far from zero.

    Args:
        margin: differences up to it count as none.
        say: called with a line about each look.

    Raises:
        TableError: the runs cannot be repeated with other seeds, or one that was started has no result.
        KeyboardInterrupt: after the runs saved their checkpoints.
    """
    begun = time.monotonic()
    arms = Arms(pair_runs(a, b), runs_dir)
    # Seeds that an earlier call added come back at their look; at the first one they would be looked at twice.
    a, b = ([run for run in runs if arms.study not in run.folder] for runs in (a, b))
    if not (a and b):
        raise TableError(f"--until: no run of a side is from before {arms.study}; allowed: with the runs it began with")
    pairs = pair_runs(a, b)
    units = units_of(pairs, whole_seeds=True)  # as those that are added are
    plan = _plan(pairs, units, budget)
    level = pocock_level(len(units.block_U), plan)
    first_seed = max(run.seed for run in (*a, *b)) + 1
    say(
        f"at most {counted(len(plan), 'look')}, at {', '.join(str(len(pairs.seeds) + new) for new in plan)} seeds, "
        f"each with a {1 - level:.1%} interval: together they err in {LEVEL:.0%} of cases without a difference"
    )
    looks: list[Look] = []
    # Before the first look nothing is judged, should the time be up by then.
    result = dataclasses.replace(difference(units, level=level, margin=margin), verdict="undecided")
    ended_by = "seeds"
    for number, new in enumerate(plan, start=1):
        if new:
            seeds = range(first_seed, first_seed + new)
            left = None if budget.minutes is None else budget.minutes * 60 - (time.monotonic() - begun)
            named = f"seed {seeds[0]}" if new == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
            say(f"{named} of both arms: {2 * new * len(arms.cells)} runs in {arms.study}")
            if (left is not None and left <= 0) or not arms.run(seeds, seconds=left, jobs=budget.jobs):
                ended_by = "minutes"
                break
            added = arms.read(seeds, metric)
            pairs = _with(a, b, added, pairs, metric)
            units = units_of(pairs, whole_seeds=True)
        result = difference(units, level=level, margin=margin)
        looks.append(Look(len(pairs.seeds), result.mean, result.interval, result.verdict))
        low, high = result.interval or (float("nan"), float("nan"))
        say(
            f"look {number} of {len(plan)}: {len(pairs.seeds)} seeds, B - A {result.mean:+.4g} "
            f"({low:+.4g} to {high:+.4g}): {result.verdict}"
        )
        if result.verdict != "undecided":
            ended_by = "verdict"
            break
    return Decision(pairs, units, result, tuple(looks), len(plan), arms.study, ended_by)


def _plan(pairs: Pairs, units: Units, budget: Budget) -> list[int]:
    """The seeds that are added until each look; raises `TableError` where there are too few to begin or to end with."""
    have = len(units.block_U)
    if not have:
        raise TableError(f"--until: no seed has all {len(pairs.cells)} cells; allowed: one at least, e.g. by --where")
    most_new = budget.seeds - len(pairs.seeds)
    if most_new < 0:
        raise TableError(f"--max-seeds {budget.seeds}: {len(pairs.seeds)} are there; allowed: at least as many")
    plan = plan_looks(have, most_new)
    if have + plan[-1] < 2:
        raise TableError(f"--max-seeds {budget.seeds}: too few to see a spread; allowed: at least 2")
    return plan


def _with(a: Sequence[Run], b: Sequence[Run], added: tuple[list[Run], list[Run]], before: Pairs, metric: str) -> Pairs:
    """The pairs with the added runs, each of which must have its partner in a cell that was there."""
    pairs = pair_runs([*a, *added[0]], [*b, *added[1]])
    new = {run.folder for side in added for run in side}
    for left in pairs.unpaired:
        if left.run.folder in new:
            raise TableError(f"{left.run.folder}: was added and makes no pair ({left.reason}, --metric {metric})")
    fingerprints = [{pair.a.settings[DATA] for pair in some.pairs} for some in (before, pairs)]
    if fingerprints[0] != fingerprints[1]:
        raise TableError("the added runs read other data than those at hand; allowed: the same corpus on this machine")
    return pairs


class Arms:
    """The settings of both arms' paired runs, and the study of their further seeds."""

    def __init__(self, pairs: Pairs, runs_dir: Path) -> None:
        """Raises `TableError` if the runs cannot be repeated with another seed."""
        if not pairs.told_by:
            raise TableError("--until: no setting tells A from B, so that further runs would be the same for both")
        self.runs_dir = runs_dir
        self.cells: list[tuple[Lineage, Lineage]] = []
        for cell in pairs.cells:
            pair = next(pair for pair in pairs.pairs if pair.cell == cell)
            self.cells.append((_lineage(Path(pair.a.folder)), _lineage(Path(pair.b.folder))))
        everyone = [config for cell in self.cells for lineage in cell for config in lineage]
        self.device = _common("runtime.device", [config.runtime.device for config in everyone])
        self.cache_dir = everyone[0].runtime.cache_dir
        if self.device not in _PROFILES:
            raise TableError(f"--until: runtime.device is {self.device!r} in the records; allowed: cpu, cuda")
        usual = resolve(Config(runtime=RuntimeConfig(device=self.device)), cuda=False).runtime.precision
        for config in everyone:
            if config.runtime.precision != usual:
                raise TableError(
                    f"--until: runs with runtime.precision={config.runtime.precision} on {self.device} cannot be "
                    f"added by a sweep; allowed: {usual}"
                )
        settings = json.dumps([[_cell(lineage) for lineage in cell] for cell in self.cells], sort_keys=True)
        names = "-".join(name.rpartition(".")[2] for name in list(pairs.told_by)[:3])
        self.study = f"{STUDIES}/{names}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    def run(self, seeds: Sequence[int], *, seconds: float | None, jobs: int | None) -> bool:
        """Carry out the runs of these seeds; False if the time is up, after the runs saved their checkpoints.

        Raises:
            TableError: a run has no result.
            KeyboardInterrupt: after the runs saved their checkpoints.
        """
        from hydra.core.override_parser.types import Quote, QuotedString

        file = self.runs_dir / self.study / "cells.json"
        cells = [_cell(lineage, seed=seed) for seed in seeds for cell in self.cells for lineage in cell]
        claim = "more seeds for both arms of a comparison"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"study": self.study, "claim": claim, "cells": cells})
        cache = QuotedString(text=self.cache_dir, quote=Quote.single).with_quotes()
        command = [sys.executable, "-m", "sweeps", "run", "--cells", str(file), "--runs-dir", str(self.runs_dir)]
        command += ["--profile", _PROFILES[self.device], "--set", f"runtime.cache_dir={cache}"]
        command += [] if jobs is None else ["--jobs", str(jobs)]
        process = subprocess.Popen(command)
        usual = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # or the sweep would go on by itself
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()  # a sweep's way to save its checkpoints
            process.wait()
            return False
        except KeyboardInterrupt:  # which the sweep has heard too
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, usual)
        if status in (130, 143):
            raise KeyboardInterrupt
        if status:
            raise TableError(f"{self.study}: `python -m sweeps run --cells {file}` ended with status {status}")
        return True

    def read(self, seeds: Sequence[int], metric: str) -> tuple[list[Run], list[Run]]:
        """The runs of these seeds on both sides; raises `TableError` if one has no record."""
        sides = []
        for side, _ in enumerate(SIDES):
            configs = [self.added(cell[side], seed) for seed in seeds for cell in self.cells]
            folders = [run_dir(config) for config in configs]
            for config, folder in zip(configs, folders, strict=True):
                if read_run(folder) is None:
                    raise TableError(f"{self.study}: the sweep did not make run {run_id(config)}, seed {config.seed}")
            known = with_bases(folders)
            sides.append(read_side(known[: len(folders)], metric, known))
        return sides[0], sides[1]

    def added(self, lineage: Lineage, seed: int) -> Config:
        """The config of a run that is added, from that of a run at hand; its bases are added with it."""
        config, *before = lineage
        runtime = dataclasses.replace(config.runtime, runs_dir=str(self.runs_dir))
        grow = dataclasses.replace(config.grow, base=run_id(self.added(before, seed)) if before else None)
        return dataclasses.replace(config, study=self.study, seed=seed, runtime=runtime, grow=grow)


Lineage = Sequence[Config]
"""The settings of a run and of all that it has grown out of, itself first."""


def _lineage(folder: Path) -> Lineage:
    from conf.compose import read_config  # Hydra takes a while to import

    config = read_config(folder / "config.yaml")
    if config.grow.base is None or config.grow.step is None:  # with the one there is the other
        return [config]
    return [config, *_lineage(find_base(folder, config.study, config.grow.base, config.grow.step))]


def _cell(lineage: Lineage, **seed: int) -> dict[str, Any]:
    """A cell of a sweep: every setting but what the sweep sets itself, and the base's cell; `seed` is that of both."""
    config, *before = lineage
    settings = settings_of(config, without=_SET_BY_THE_SWEEP)
    return settings | seed | ({"grow.base": _cell(before, **seed)} if before else {})


def _common(name: str, values: Sequence[str]) -> str:
    if len(set(values)) > 1:
        raise TableError(f"--until: the paired runs have {name} {' and '.join(sorted(set(values)))}; allowed: one")
    return values[0]

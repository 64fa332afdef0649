"""The graph of runs: which run starts from which other one, and what sharing a base saves.

    grown(base, 200, {"model.depth": 8})        a cell that starts from step 200 of the run of the cell `base`

A cell holds the whole cell that it starts from, as JSON under `grow.base`, since a run has no name before its settings
are complete; a plan turns it into the run's id. Or it names a run that is there already by its id, whose settings are
then read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.compose import compose, read_config
from conf.identity import identity
from conf.schema import RUN, ConfigError, UserError
from conf.vocab import vocab_size
from sweeps.cells.grid import Cell, Value, overrides
from train.record.lineage import folders_of
from train.record.run import FINAL, read_run
from train.timetable.cost import RunCost, run_cost

BASE = "grow.base"
STEP = "grow.step"


class GraphError(UserError):
    """A cell that starts from something that is no cell."""


def grown(base: Cell, step: int, settings: Cell | None = None) -> Cell:
    """The cell of a run that starts from `base` at `step`: its settings, but for `settings` and its own `grow.*`."""
    kept = {key: value for key, value in base.items() if not key.startswith("grow.")}
    return kept | {BASE: json.dumps(base, sort_keys=True), STEP: step} | (settings or {})


def base_of(cell: Cell, runs_dir: Path | None = None) -> Cell | None:
    """The cell that a cell starts from, or None.

    Args:
        runs_dir: where a run lies that is named by its id; without it none can be.

    Raises:
        GraphError: `grow.base` holds something else, or names no run there.
    """
    text = cell.get(BASE)
    if text is None:
        return None
    if runs_dir is not None and (named := RUN.fullmatch(str(text))):
        return _cell_of_run(str(text), named["id"], runs_dir)
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        by_id = "" if runs_dir is None else ", or the id of a run"
        raise GraphError(f"{BASE}: {text!r} is not allowed in a sweep; allowed: the base's own cell, as JSON{by_id}")
    return found


def _cell_of_run(text: str, run_id: str, runs_dir: Path) -> Cell:
    """What can change what a run measures, as far as it is not the default; `text` is its id or its folder."""
    found = list(folders_of(run_id, below=runs_dir))
    if not found or ("/" in text and Path(text).resolve() not in {folder.resolve() for folder in found}):
        raise GraphError(f"{BASE}: {text} is no run under {runs_dir}; allowed: the id of one, or the base's own cell")
    folder = next((folder for folder in found if (read_run(folder) or {}).get("state") in FINAL), None)
    if folder is None:
        raise GraphError(f"{BASE}: {text} has not ended; allowed: a run that has, or the base's own cell")
    try:
        settings = identity(read_config(folder / "config.yaml"))
    except ConfigError as error:
        raise GraphError(f"{folder / 'config.yaml'}: {error}") from None
    usual = identity(compose())
    return {name: value for name, value in settings.items() if usual[name] != value}


@dataclass(frozen=True)
class Node:
    """What the graph knows of one run: where it starts, if not from nothing, what it costs, and what it is."""

    base: str | None
    step: int
    cost: RunCost
    seed: Value = 0
    settings: tuple[tuple[str, Value], ...] = ()
    """Of its cell, but for the seed and the base."""


@dataclass(frozen=True)
class Sharing:
    """FLOPs of all runs as they are shared, and if every run made its bases' steps itself."""

    n_bases: int
    n_grown: int
    spent: int
    unused: int
    """Of these, what bases compute after the last step that a run starts from; none where their end is asked for."""
    apart: int

    @property
    def saved(self) -> float:
        """The share of the FLOPs that sharing saves; negative where bases go on for other studies."""
        return 1 - self.spent / self.apart


def sharing(nodes: Mapping[str, Node], wanted: Iterable[str]) -> Sharing:
    """What the graph saves.

    Args:
        wanted: the runs that a study asks for; a base that is only a base would not be run apart.
    """
    used = {run_id: nodes[run_id].cost.n_steps for run_id in wanted}
    apart = sum(nodes[run_id].cost.spent(step).flops for run_id, step in used.items())
    starts = [(node.base, node.step) for node in nodes.values() if node.base is not None]
    for base, step in starts:
        used[base] = max(used.get(base, 0), step)
    needed = sum(nodes[run_id].cost.executed_by(step).flops for run_id, step in used.items())
    spent = sum(node.cost.executed.flops for node in nodes.values())
    return Sharing(len(dict(starts)), len(starts), spent, spent - needed, apart)


def lines(nodes: Mapping[str, Node]) -> list[str]:
    """The graph in words: under each base the runs that start from it, by step. Trees that are the same but for the
    seed are written once, with the ids of the first."""
    children: dict[str, list[str]] = {}
    for name, node in sorted(nodes.items(), key=lambda item: item[1].step):
        if node.base is not None:
            children.setdefault(node.base, []).append(name)

    def tree(name: str) -> tuple[Any, ...]:
        node = nodes[name]
        return node.step, node.settings, node.cost.n_steps, tuple(tree(child) for child in children.get(name, ()))

    def below(name: str, indent: str) -> Iterator[str]:
        ends = [child for child in children[name] if child not in children]
        if ends:
            yield indent + ", ".join(f"{nodes[child].step}: {child[:8]}" for child in ends)
        for child in children[name]:
            if child in children:
                yield f"{indent}{nodes[child].step}: {child[:8]}"
                yield from below(child, f"{indent}    ")

    alike: dict[tuple[Any, ...], list[str]] = {}
    for name in children:
        if nodes[name].base is None:
            alike.setdefault(tree(name), []).append(name)
    found = []
    for first, *others in alike.values():
        seeds = ", ".join(str(nodes[name].seed) for name in (first, *others))
        found += [f"{first[:8]} ({nodes[first].cost.n_steps} steps{f'; seeds {seeds}' if others else ''})"]
        found += below(first, "    ")
    return found


def cost_of(cell: Cell) -> RunCost:
    """What the run of a cell costs, with what it inherits; raises `ConfigError` if it is no possible run."""
    before = base_of(cell)
    named = {} if before is None else {BASE: "0" * 16}  # any id: what a base costs is not in its name
    config = compose(overrides(cell | named))
    return run_cost(config, vocab_size(config.data), base=None if before is None else cost_of(before))
